"""What each schedule of a search costs, and how near its set comes to that of sampling every candidate to the end.

python tests/benchmarks/search_schedules.py [--candidates 64] [--sets 10] [--seed 80000]

The demo model makes `sets` sets of 4 of its 8 prompts from the same candidates by every schedule, chosen by the demo's
features and its score of weight 4, as tests/demo/evaluate.py does; its judge says how varied they are (Vendi score of
4) and how many show the prompt. The price is in plain sampling runs of four pictures, with the run that makes the
result; differences from "to the end" are of the same candidates, with their standard error.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

import here  # noqa: F401
import judge as judging
import models
from sampling import guided
from torch import Tensor

from noise_optimize.noise.schedules import SCHEDULES, Rounds, price
from noise_optimize.noise.search import search
from noise_optimize.objectives.statistics import kernel

KEEP, STEPS = 4, models.STUDENT_STEPS
QUALITY, SCORE_TARGET = 4.0, 0.97
OTHERS: dict[str, Rounds] = {  # half_way with another number kept, and with another step
    "7 after step 1": [(1, 7), (4, 4)],
    "28 after step 1": [(1, 28), (4, 4)],
    "halved at each step": [(1, 32), (2, 16), (3, 8), (4, 4)],
    "7 after step 2": [(2, 7), (4, 4)],
    "24 after step 2": [(2, 24), (4, 4)],
    "7 after step 3": [(3, 7), (4, 4)],
}


class Candidates:
    """White noises of one prompt: what features, score and judge see of the prediction after each step."""

    @torch.no_grad()
    def __init__(self, demo: models.Demo, row: int, count: int, seed: int) -> None:
        self.seen, self.quality, self.row = [], [], row
        x = torch.randn(count, *models.SHAPE, generator=torch.Generator().manual_seed(seed))
        velocity = guided(demo.model, demo.prompts, torch.full((count,), row))
        sigmas = torch.linspace(1, 0, STEPS + 1).tolist()
        for now, then in zip(sigmas[:-1], sigmas[1:]):
            v = velocity(x, now)
            pictures, x = demo.decoder.decode(x - now * v).clamp(0, 1), x + (then - now) * v
            self.seen.append(FEATURES(pictures))
            self.quality.append(QUALITY * SCORE(pictures).softmax(1)[:, row].clamp(max=SCORE_TARGET))
        self.attributes = judging.attributes(JUDGE, pictures)

    def predict(self, left: Tensor, until: int) -> tuple[Tensor, Tensor]:
        return self.quality[until - 1][left], (1 - kernel(self.seen[until - 1][left])).clamp(0, 1)

    def best(self, rounds: Rounds) -> tuple[float, float]:
        """Variety and adherence of the set that a search finds."""
        set_of_4 = self.attributes[search(self.predict, len(self.attributes), rounds)]
        shown = (set_of_4[:, judging.WHAT] == self.row).double().mean()
        return judging.variety(set_of_4)["vendi"], float(shown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--seed", type=int, default=80000)
    options = parser.parse_args()
    FEATURES, SCORE, JUDGE, demo = models.features(), models.score(), judging.load(), models.load()
    schedules = {name: rule(options.candidates, KEEP, STEPS) for name, rule in SCHEDULES.items()} | OTHERS
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in schedules}
    for number in range(options.sets * 8):
        candidates = Candidates(demo, number % 8, options.candidates, options.seed + number)
        for name, rounds in schedules.items():
            found[name].append(candidates.best(rounds))
    results = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in found.items()}
    print(f"python {' '.join(sys.argv)}\n{platform.machine()} CPU, torch {torch.__version__}; {number + 1} sets")
    print(f"{'':20} {'rounds':34} {'runs':>6} {'restarted':>9} {'Vendi':>6} {'shown':>6} {'difference':>18}")
    for name, rounds in schedules.items():
        vendi, shown = results[name].mean(0).tolist()
        difference = (results[name] - results["to the end"])[:, 0]
        error = difference.std() / len(difference) ** 0.5
        runs, again = (1 + price(rounds, options.candidates, resumed) / KEEP / STEPS for resumed in (True, False))
        prefix = f"{name:20} {', '.join(f'{kept} at {step}' for step, kept in rounds):34} {runs:6.1f} {again:9.1f}"
        print(f"{prefix} {vendi:6.2f} {shown:6.2f} {difference.mean():+10.3f} +- {error:.3f}", flush=True)
