"""The demo: starts ComfyUI headless, runs the quick start for a few prompts, and writes a before/after sheet.

python tests/demo/run.py [--prompts 4] [--iterations 20] [--out demo.png]. Rows are prompts; the columns are a batch of
four from white noise, from pink noise, and from the noise that was optimised.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import drawings
import here  # noqa: F401
import judge as judging
import numpy as np
import torch
from comfy_server import Server
from graph import node
from pack import ROOT
from PIL import Image, ImageDraw, ImageFont

COLUMNS = {"white": "white noise, as usual", "pink": "pink noise, alpha 0.2", "optimised": "optimised noise"}
SHOWN = ("a house", "a sailing boat", "a flower in a pot", "a hot-air balloon", "a tree", "a fish", "a cat", "a car")
SCALE, GAP, LABEL = 2, 6, 22


def quick_start(prompt: str, seed: int, iterations: int) -> dict:
    """The graph of example_workflows/quick_start.json in API format, with white and pink noise beside it."""
    wires = {"guider": ["guider", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0], "latent_image": ["latent", 0]}
    graph = {
        "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
        "prompt": node("NoiseOptimizeDemoPrompt", prompt=prompt),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=4),
        "guider": node("BasicGuider", model=["demo", 0], conditioning=["prompt", 0]),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="simple", steps=4, denoise=1.0),
        "white_noise": node("RandomNoise", noise_seed=seed),
        "pink_noise": node("NoiseOptimizePinkNoise", seed=seed, alpha=0.2, spectrum="paper"),
        "diversity": node(
            "NoiseOptimizeDiversity", features=["demo", 2], statistic="dpp", weight=1.0, target="none"
        ),
        "score": node(
            "NoiseOptimizeDemoScore", prompt=prompt, weight=2.0, **{"target": "at least", "target.value": 0.9}
        ),
        "objective": node(
            "NoiseOptimizeCombine",
            **{f"objectives.objective_{k + 1}": [name, 0] for k, name in enumerate(("diversity", "score"))},
        ),
        "optimise": node(
            "NoiseOptimize", noise=["white_noise", 0], objective=["objective", 0], vae=["demo", 1],
            iterations=iterations, **wires,
        ),
        "optimised": node("SaveImage", images=["optimise", 2], filename_prefix="optimised"),
    }  # fmt: skip
    for colour in ("white", "pink"):
        sample, decode = f"sample_{colour}", f"decode_{colour}"
        graph[sample] = node("SamplerCustomAdvanced", noise=[f"{colour}_noise", 0], **wires)
        graph[decode] = node("VAEDecode", samples=[sample, 0], vae=["demo", 1])
        graph[colour] = node("SaveImage", images=[decode, 0], filename_prefix=colour)
    return graph


def filled(graph: dict, server: Server) -> dict:
    """The graph with each widget that it leaves out at its default, as the frontend would send it."""
    for part in graph.values():
        (about,) = server.get(f"object_info/{part['class_type']}").values()
        for name, (kind, *settings) in about["input"].get("required", {}).items():
            options = settings[0] if settings else {}
            choices = kind if isinstance(kind, list) else options.get("options", [])
            if "default" in options or choices:
                part["inputs"].setdefault(name, options.get("default", choices[0] if choices else None))
    return graph


def scores(images: list[Image.Image], prompt: str) -> str:
    """What the judge, which nothing else sees, says of four pictures."""
    pictures = torch.stack([torch.from_numpy(np.array(image)).movedim(-1, 0) for image in images]) / 255
    seen = judging.attributes(judging.load(), pictures)
    right = int((seen[:, judging.WHAT] == drawings.PROMPTS.index(prompt)).sum())
    return f"Vendi {judging.variety(seen)['vendi']:.2f} of 4, recognised {right} of 4"


def sheet(rows: dict[str, dict[str, list[Image.Image]]]) -> Image.Image:
    """Rows of prompts, columns of noise, the scores under each batch."""
    side = drawings.SIZE * SCALE
    width, height = 4 * side + 3 * GAP, side + LABEL
    page = Image.new("RGB", (3 * width + 4 * 3 * GAP, LABEL + GAP + len(rows) * (height + LABEL + GAP)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for column, (name, title) in enumerate(COLUMNS.items()):
        x = 3 * GAP + column * (width + 3 * GAP)
        pen.text((x, GAP), title, "black", font)
        for row, (prompt, batches) in enumerate(rows.items()):
            y = LABEL + GAP + row * (height + LABEL + GAP)
            pen.text((x, y), prompt if not column else "", "black", font)
            for k, image in enumerate(batches[name]):
                big = image.resize((side, side), Image.Resampling.LANCZOS)
                page.paste(big, (x + k * (side + GAP), y + LABEL))
            pen.text((x, y + LABEL + side + 2), scores(batches[name], prompt), "dimgrey", font)
    return page


def main(prompts: int, iterations: int, seed: int, out: Path) -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as base, Server(Path(base), {"noise_optimize": ROOT}) as server:
        print(f"ComfyUI answers after {time.perf_counter() - began:.0f} s", flush=True)
        rows = {}
        for prompt in SHOWN[:prompts]:
            run = server.run(filled(quick_start(prompt, seed, iterations), server))
            rows[prompt] = {name: run.images(name) for name in COLUMNS}
            print(
                prompt, *(f"{name}: {scores(rows[prompt][name], prompt)}" for name in COLUMNS), sep="\n    ", flush=True
            )
    sheet(rows).save(out)
    print(f"{out.resolve()} after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("demo.png"))
    options = parser.parse_args()
    main(options.prompts, options.iterations, options.seed, options.out)
