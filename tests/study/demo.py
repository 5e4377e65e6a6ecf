"""The demo model as a study's graph, and its judge, which measures where there are no weights and optimised nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from .graphs import Graph, node
from .jobs import Job
from .scores import JUDGED
from .store import Store

FOLDER = Path(__file__).resolve().parents[1] / "demo"


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """The demo's modules can be imported."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))


def prompts() -> list[str]:
    from noise_optimize.objectives.demo import PROMPTS

    return list(PROMPTS)


def graph() -> Graph:
    """Load Demo Model in KSampler, as a person would export it."""
    with importable():
        import drawings
    size = {"width": drawings.SIZE, "height": drawings.SIZE}
    return {
        "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
        "prompt": node("NoiseOptimizeDemoPrompt", prompt=prompts()[0]),
        "latent": node("EmptySD3LatentImage", **size, batch_size=1),
        "sample": node(
            "KSampler", model=["demo", 0], positive=["prompt", 0], negative=["prompt", 0], latent_image=["latent", 0],
            seed=0, steps=4, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["demo", 1]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="plain"),
    }  # fmt: skip


def judge(store: Store, jobs: Sequence[Job]) -> None:
    """Add the judge's scores to the lines of these jobs that lack them: "judge Vendi" of the looks, 1 to the number of
    pictures, and "judge adherence", the share that shows the prompt. Prompts that it does not know are left out."""
    with importable():
        import drawings
        import judge as judging
    import numpy as np
    import torch
    from PIL import Image

    network = judging.load()
    for job in jobs:
        if not (job.metrics and store.made(job) and job.prompt in drawings.PROMPTS):
            continue
        line = store.line(job.key)
        if set(JUDGED) <= line["scores"].keys():
            continue
        images = [np.array(Image.open(BytesIO(content)).convert("RGB")) for content in store.read(job.key)]
        seen = judging.attributes(network, torch.from_numpy(np.stack(images)).movedim(-1, 1) / 255)
        right = (seen[:, judging.WHAT] == drawings.PROMPTS.index(job.prompt)).double().mean()
        scores = {"judge Vendi": judging.variety(seen)["vendi"], "judge adherence": float(right)}
        store.add(line | {"scores": line["scores"] | scores})
