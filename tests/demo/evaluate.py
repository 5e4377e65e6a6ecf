"""How varied, right and good the demo's pictures are, before and after optimisation, as a judge sees them.

python tests/demo/evaluate.py [--seeds 8] [--out DIR]: prints tables, writes DIR/results.json and two plots. A set is
four pictures of one prompt; all sets of a row are sampled as one batch, each set with its own objective.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import drawings
import here  # noqa: F401
import judge as judging
import models
import torch
from torch import Tensor

from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.optimize import Progress, Settings, optimize
from noise_optimize.noise.search import select
from noise_optimize.noise.spectrum import band_change
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.demo import DemoScore
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.colour import ColourFeatures
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.objective import Objective, combine
from noise_optimize.objectives.statistics import STATISTICS, kernel

SET = 4
QUALITY, SCORE_TARGET = 4.0, 0.97  # weight of the score beside a diversity of weight 1; what it is raised to
log = logging.getLogger("evaluate")


@dataclass(frozen=True, kw_only=True)
class Sets(Diversity):
    """The sum of a diversity over the sets of a batch: every set has the gradient that it would have alone."""

    def measure(self, batch: Batch) -> Tensor:
        seen = batch.features(self.features)
        return torch.stack([STATISTICS[self.statistic](kernel(s)) for s in seen.split(SET)]).sum().to(seen)


class Bench:
    """The models, the sets to be made and the judge."""

    def __init__(self, seeds: int, prompts: int = len(drawings.PROMPTS)) -> None:
        self.student, self.teacher = models.load("student"), models.load("teacher")
        self.judge, self.features, self.score = judging.load(), models.features(), models.score()
        self.rows = torch.arange(prompts).repeat_interleave(seeds * SET)
        self.noise = torch.cat([white(seed) for _ in range(prompts) for seed in range(seeds)])
        real = drawings.draw(
            drawings.sample_attributes(torch.arange(prompts).repeat_interleave(256), generator(1000)), generator(1001)
        )
        self.real = judging.embedding(self.judge, real).unflatten(0, (prompts, 256))

    def judged(self, pictures: Tensor) -> dict[str, float]:
        """Means over the sets: variety, adherence (share that shows the prompt), quality (distance to real ones)."""
        seen = judging.attributes(self.judge, pictures)
        sets = [judging.variety(part) for part in seen.split(SET)]
        result = {key: sum(part[key] for part in sets) / len(sets) for key in sets[0]}
        result["adherence"] = float((seen[:, judging.WHAT] == self.rows).double().mean())
        nearest = (judging.embedding(self.judge, pictures)[:, None] * self.real[self.rows]).sum(2).amax(1)
        return result | {"distance": float(1 - nearest.mean())}

    @torch.no_grad()
    def sampled(self, demo: models.Demo, noise: Tensor, **options) -> Batch:
        parts = [demo.sample(n, r, **options) for n, r in zip(noise.split(64), self.rows.split(64))]
        return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "pictures")))

    def objective(self, *diversities: Sets, quality: float = QUALITY) -> Objective:
        """The sum of diversities, each weighted for one set, and of the score."""
        parts: list[Objective] = list(diversities)
        if quality:
            weight = quality * len(self.rows) / SET
            parts.append(DemoScore(network=self.score, prompt=self.rows, weight=weight, target=SCORE_TARGET))
        return combine(parts)

    def main_diversity(self) -> tuple[Sets, ...]:
        """What came out best: how the pictures differ to the features, and half as much how the latents do."""
        return (
            Sets(features=self.features, statistic="vendi"),
            Sets(features=LatentFeatures(), statistic="contrastive", weight=0.5),
        )

    def optimised(
        self, objective: Objective, settings: Settings, at: tuple[int, ...], start: Tensor | None = None
    ) -> dict[int, tuple[Batch, Tensor]]:
        """The batch and its noise after each number of iterations in `at`: each set as it then is."""
        start = self.noise if start is None else start
        kept: dict[int, tuple[Batch, Tensor]] = {}

        def generate(noise: Tensor) -> Batch:
            latest[0] = noise.detach()
            return self.student.sample(noise, self.rows)

        def on_step(progress: Progress) -> None:
            if progress.step.iteration in at:
                kept[progress.step.iteration] = (progress.batch, latest[0])

        latest = [start]
        optimize(generate, objective, start, settings, on_step)
        return kept

    @torch.no_grad()
    def searched(self, candidates: int, quality: float = 0.0) -> tuple[Batch, Tensor]:
        """For each set the best four of several white noises: score times `quality`, and how they differ in features.

        Every candidate is sampled to the end, the costliest and best form of arXiv 2508.15773.
        """
        chosen = []
        for number, row in enumerate(self.rows[::SET].tolist()):
            noise = torch.randn(candidates, *models.SHAPE, generator=generator(5000 + number))
            batch = self.student.sample(noise, torch.full((candidates,), row))
            distance = 1 - kernel(batch.features(self.features))
            score = self.score(batch.pictures).softmax(1)[:, row].clamp(max=SCORE_TARGET)
            chosen.append(noise[select(quality * score, distance.fill_diagonal_(0), SET)])
        noise = torch.cat(chosen)
        return self.sampled(self.student, noise), noise


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def white(seed: int) -> Tensor:
    return torch.randn(SET, *models.SHAPE, generator=generator(seed))


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = ("vendi", "pairwise", "distinct", "adherence", "distance")
    print(f"\n{title}\n{'':34}" + "".join(f"{column:>11}" for column in columns))
    for name, row in rows.items():
        print(f"{name:34}" + "".join(f"{row[column]:11.3f}" for column in columns), flush=True)


def evaluate(seeds: int, out: Path) -> dict:
    bench, results, began = Bench(seeds), {}, time.perf_counter()

    def record(group: str, rows: dict[str, Callable[[], Tensor]]) -> None:
        results[group] = {name: bench.judged(make()) for name, make in rows.items()}
        table(group, results[group])
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(results, indent=1))

    held = drawings.sample_attributes(torch.arange(len(drawings.PROMPTS)).repeat_interleave(128), generator(1), True)
    right = judging.attributes(bench.judge, drawings.draw(held, generator(2))) == held
    results["judge"] = dict(zip(drawings.NAMES, right.double().mean(0).tolist()))
    print("judge right on real drawings of all looks:", {k: round(v, 3) for k, v in results["judge"].items()})

    real = drawings.draw(drawings.sample_attributes(bench.rows, generator(3)), generator(4))
    student = bench.sampled(bench.student, bench.noise).pictures

    def teacher(guidance: float) -> Tensor:
        return bench.sampled(bench.teacher, bench.noise, steps=models.TEACHER_STEPS, guidance=guidance).pictures

    record("before", {
        "real drawings": lambda: real,
        "teacher, no guidance": lambda: teacher(1.0),
        **{
            f"teacher, guidance {w:g}": lambda w=w: teacher(w)
            for w in (1.5, 2.0, 3.0, 4.0)
        },
        "student, white noise": lambda: student,
    })  # fmt: skip

    spectra = {f"alpha {k / 20:.2f}": Spectrum(alpha=k / 20) for k in range(1, 11)}
    spectra |= {"blue, alpha -0.20": Spectrum(alpha=-0.2)}
    spectra |= {f"band {low:g} to {high:g}": Spectrum("band", 0.0, low, high) for low, high in ((0, 0.5), (0.5, 1))}
    record("noise spectra, student", {
        name: lambda s=s: bench.sampled(bench.student, colour(bench.noise, s)).pictures for name, s in spectra.items()
    })  # fmt: skip

    record("search, student", {
        f"best 4 of {n}": lambda n=n: bench.searched(n)[0].pictures for n in (16, 64)
    })  # fmt: skip
    searched = {n: bench.searched(n, QUALITY) for n in (16, 64)}
    record("search + score, student", {
        f"best 4 of {n}": lambda b=b: b.pictures for n, (b, _) in searched.items()
    })  # fmt: skip

    budgets, shares = (5, 10, 20, 30), {}
    alone, both = (Sets(features=bench.features, statistic="vendi"),), bench.main_diversity()
    for name, diversities, quality, basis in (
        ("vendi", alone, 0.0, "full"),
        ("vendi + score", alone, QUALITY, "full"),
        ("vendi + latents + score", both, QUALITY, "full"),
        ("vendi + latents + score, low frequency", both, QUALITY, "low frequency"),
    ):
        settings = Settings(iterations=max(budgets), basis=basis, rollback=1.0)
        made = bench.optimised(bench.objective(*diversities, quality=quality), settings, budgets)
        record(f"optimised, {name}", {f"{k} iterations": lambda b=b: b.pictures for k, (b, _) in made.items()})
        shares[name] = {k: band_change(bench.noise, noise).mean(0).tolist() for k, (_, noise) in made.items()}
    budgets, start = (2, 5, 10, 20), searched[64][1]
    made = bench.optimised(bench.objective(*both), Settings(iterations=max(budgets), rollback=1.0), budgets, start)
    record("optimised, from search of 64", {f"{k} iterations": lambda b=b: b.pictures for k, (b, _) in made.items()})
    results["share of the change in low, mid, high third"] = shares
    whole = torch.randn(64, *models.SHAPE, generator=generator(6))
    results["share of white noise in low, mid, high third"] = (
        band_change(torch.zeros_like(whole), whole).mean(0).tolist()
    )
    print("\nshare of the change by third of the spectrum:", json.dumps(shares))
    print("white noise:", results["share of white noise in low, mid, high third"])

    objectives = {
        f"{name} {statistic}": Sets(features=seen, statistic=statistic)
        for name, seen, statistic in (
            ("features", bench.features, "pairwise"), ("features", bench.features, "dpp"),
            ("features", bench.features, "vendi"), ("features", bench.features, "contrastive"),
            ("colour", ColourFeatures(), "dpp"), ("latent", LatentFeatures(), "contrastive"),
            ("latent", LatentFeatures(), "dpp"),
        )
    }  # fmt: skip
    record("objectives, each with score, 10 iterations", {
        name: lambda d=d: bench.optimised(
            bench.objective(d), Settings(iterations=10, rollback=1.0), (10,)
        )[10][0].pictures
        for name, d in objectives.items()
    })  # fmt: skip

    results["seconds"] = time.perf_counter() - began
    (out / "results.json").write_text(json.dumps(results, indent=1))
    plot(results, out)
    return results


def plot(results: dict, out: Path) -> None:
    """Variety against adherence: every way of making a set, and the curve over alpha."""
    from matplotlib.figure import Figure

    figure = Figure((10, 4.2), layout="constrained")
    frontier, alphas = figure.subplots(1, 2)
    groups = [
        ("before", "teacher", "s-", "teacher, guidance 1 to 4"),
        ("noise spectra, student", "alpha", ".-", "alpha 0.05 to 0.5"),
        ("search, student", "best", "v-", "search, 16 and 64"),
        ("search + score, student", "best", "^-", "search with score, 16 and 64"),
    ]  # fmt: skip
    groups += [(name, "", "o-", name) for name in results if name.startswith("optimised")]
    for group, prefix, mark, label in groups:
        rows = [row for name, row in results[group].items() if name.startswith(prefix)]
        frontier.plot([r["vendi"] for r in rows], [r["adherence"] for r in rows], mark, label=label)
    for name, mark in (("student, white noise", "k*"), ("real drawings", "kD")):
        row = results["before"][name]
        frontier.plot(row["vendi"], row["adherence"], mark, ms=10, label=name)
    frontier.set(xlabel="Vendi score of 4, by the judge", ylabel="shows the prompt, by the judge")
    frontier.legend(fontsize=6, loc="lower left")
    curve = {0.0: results["before"]["student, white noise"]}
    curve |= {float(n.split()[1]): r for n, r in results["noise spectra, student"].items() if n.startswith("alpha")}
    for key, label in (("vendi", "Vendi score of 4"), ("adherence", "adherence"), ("distance", "distance to real")):
        alphas.plot(list(curve), [row[key] for row in curve.values()], "o-", label=label)
    alphas.set(xlabel="alpha of the starting noise (0: white)")
    alphas.legend(fontsize=8, loc=(0.6, 0.6))
    figure.savefig(out / "frontier.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=models.ASSETS)
    options = parser.parse_args()
    evaluate(options.seeds, options.out)
