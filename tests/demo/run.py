"""The demo: starts ComfyUI headless, runs the shipped quick start for a few prompts, and writes a before/after sheet.

python tests/demo/run.py [--prompts 4] [--iterations N] [--out demo.png]. Rows are prompts; the columns are a batch of
four from ordinary noise, from the noise set that comes with the pack, and from the noise that was optimised. Under each
is what a judge says of it, and what it cost in plain sampling runs.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import drawings
import here  # noqa: F401
import judge as judging
import numpy as np
import torch
from comfy_server import Server
from graph import node
from pack import ROOT
from PIL import Image, ImageDraw, ImageFont
from workflow import api

from noise_optimize.objectives.features.demo import Tower

COLUMNS = {"plain": "ordinary noise", "set": "noise set, found once for the model", "optimised": "optimized noise"}
SHOWN = ("a house", "a sailing boat", "a flower in a pot", "a hot-air balloon", "a tree", "a fish", "a cat", "a car")
SCALE, GAP, LABEL = 2, 6, 22
SET = {"set": "demo model", "strength": 0.5, "pattern": "by seed"}
COST = re.compile(r"([\d.]+) plain sampling runs")
OUTPUTS = ("PreviewImage", "NoiseOptimizeMeasure")


class QuickStart:
    """The first quick start, with the pictures of its two samplers saved as they are decoded."""

    FILE = ROOT / "tests" / "graphs" / "published" / "0.1" / "Noise Optimize 1 - Quick start (no download).json"

    def __init__(self, server: Server, **settings: Any) -> None:
        """settings: of Noise Optimize, where they are not to be as shipped."""
        self.server = server
        workflow = json.loads(self.FILE.read_text(encoding="utf-8"))
        graph = api(workflow, lambda kind: server.get(f"object_info/{kind}")[kind]["input"])
        self.named = {part["class_type"]: part["inputs"] for part in graph.values()}
        ids = {part["class_type"]: name for name, part in graph.items()}
        self.named["NoiseOptimize"] |= settings
        self.noise = ids["NoiseOptimizePinkNoise"]
        self.graph = {name: part for name, part in graph.items() if part["class_type"] not in OUTPUTS}
        self.report = [ids["NoiseOptimize"], 4]
        self.saved = {"usual": [ids["VAEDecode"], 0], "optimised": [ids["NoiseOptimize"], 2]}

    def run(self, prompt: str, seed: int, pictures: tuple[str, ...], noise: Any = None) -> dict[str, Any]:
        """The pictures, and by "report" what Noise Optimize says.

        pictures: "usual", "optimised" or both; nothing is computed for the other. noise: the node in its place.
        """
        self.named["NoiseOptimizeDemoPrompt"]["prompt"] = self.named["NoiseOptimizeDemoScore"]["prompt"] = prompt
        self.named["NoiseOptimizePinkNoise"] |= {"seed": seed, "alpha": 0.0}
        saves = {name: node("SaveImage", images=self.saved[name], filename_prefix=name) for name in pictures}
        other = {self.noise: noise} if noise else {}
        said = {"report": node("PreviewAny", source=self.report)} if "optimised" in pictures else {}
        done = self.server.run(self.graph | other | saves | said)
        return {name: done.images(name) for name in pictures} | {name: done.text(name) for name in said}


def scores(judge: Tower, images: list[Image.Image], prompt: str) -> str:
    """What the judge, which nothing else sees, says of four pictures."""
    pictures = torch.stack([torch.from_numpy(np.array(image)).movedim(-1, 0) for image in images]) / 255
    seen = judging.attributes(judge, pictures)
    right = int((seen[:, judging.WHAT] == drawings.PROMPTS.index(prompt)).sum())
    return f"Vendi {judging.variety(seen)['vendi']:.2f} of 4, recognized {right} of 4"


def sheet(rows: dict[str, dict[str, tuple[list[Image.Image], str]]]) -> Image.Image:
    """Rows of prompts, columns of noise: (pictures, what is written under them)."""
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
            images, said = batches[name]
            for k, image in enumerate(images):
                big = image.resize((side, side), Image.Resampling.LANCZOS)
                page.paste(big, (x + k * (side + GAP), y + LABEL))
            pen.text((x, y + LABEL + side + 2), said, "dimgrey", font)
    return page


def main(prompts: int, iterations: int | None, seed: int, out: Path) -> None:
    began, judge = time.perf_counter(), judging.load()
    with tempfile.TemporaryDirectory() as base, Server(Path(base), {"noise_optimize": ROOT}) as server:
        print(f"ComfyUI answers after {time.perf_counter() - began:.0f} s", flush=True)
        graph, rows = QuickStart(server, **({} if iterations is None else {"iterations": iterations})), {}
        for prompt in SHOWN[:prompts]:
            plain = graph.run(prompt, seed, ("usual", "optimised"))
            with_set = graph.run(prompt, seed, ("usual",), node("NoiseOptimizeSet", seed=seed, **SET))
            costs = {"plain": "1", "set": "1", "optimised": COST.search(plain["report"])[1]}
            batches = {"plain": plain["usual"], "set": with_set["usual"], "optimised": plain["optimised"]}
            rows[prompt] = {
                name: (images, f"{scores(judge, images, prompt)}; plain runs: {costs[name]}")
                for name, images in batches.items()
            }
            print(prompt, *(f"{name}: {said}" for name, (_, said) in rows[prompt].items()), sep="\n    ", flush=True)
    sheet(rows).save(out)
    print(f"{out.resolve()} after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--iterations", type=int, help="as in the quick start where it is not given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("demo.png"))
    options = parser.parse_args()
    main(options.prompts, options.iterations, options.seed, options.out)
