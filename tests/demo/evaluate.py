"""How varied, right and good the demo's pictures are, before and after optimisation, as a judge sees them.

python tests/demo/evaluate.py [--seeds 8] [--out DIR]: prints tables and writes DIR/results.json; report.py puts them
into the README and the model card. With --default only the rows of the node's defaults are made, the others are kept.
A set is four pictures of one prompt; all sets of a row are sampled as one batch, each set with its own objective. Every
set starts from noise of its own, from seeds on which nothing was chosen, and each number comes with its standard error
over the sets. Cost is counted in plain sampling runs of the set: a call of the model counts 1, its gradient 2 more, all
divided by the calls of one plain run, the final rendering included.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import drawings
import here  # noqa: F401
import judge as judging
import models
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from noise_optimize.noise import Progress, Settings, optimize
from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.schedules import half_way, price
from noise_optimize.noise.search import search
from noise_optimize.noise.spectrum import band_change
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.demo import DemoScore
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.colour import ColourFeatures
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.guards import DetailGuard
from noise_optimize.objectives.objective import Objective, combine
from noise_optimize.objectives.statistics import STATISTICS, kernel

SET, STEPS = 4, models.STUDENT_STEPS
SEARCH_WEIGHT = 1.5  # of the mean distance in Noise Search, as by default
QUALITY, SCORE_TARGET = 4.0, 0.97  # weight of the score beside a diversity of weight 1; what it is raised to
FRESH = 70_000  # first of the seeds that were used for nothing else
RARE, PLAIN = 0.02, 512  # a look is rare that less than this share of so many plain pictures of a prompt has
COLUMNS = ("vendi", "pairwise", "distinct", "adherence", "distance", "rare")
DEFAULT = "large steps, first prediction"  # as a new Noise Optimize takes them
LARGE = Settings(optimizer="large steps", learning_rate=0.35)
QUICK_START = "vendi + score + guard (quick start)"

Row = dict[str, float | dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Sets(Diversity):
    """The sum of a diversity over the sets of a batch: every set has the gradient that it would have alone."""

    def measure(self, batch: Batch) -> Tensor:
        seen = batch.features(self.features)
        return torch.stack([STATISTICS[self.statistic](kernel(s)) for s in seen.split(SET)]).sum().to(seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores(DemoScore):
    """Demo Score where every picture has a prompt of its own. prompts: (B,) their rows in the demo's table."""

    prompts: Tensor

    def measure(self, batch: Batch) -> Tensor:
        seen = self.probabilities(batch)
        return (seen * one_hot(self.prompts.to(seen.device), seen.shape[1])).sum(dim=1)


@dataclass(frozen=True)
class Found:
    """noise: of every set. calls: of the model, for each set, a gradient as two. stopped: why, and how often."""

    noise: Tensor
    calls: float
    stopped: Counter[str]

    def passes(self, steps: int = STEPS) -> float:
        """With the final rendering."""
        return 1 + self.calls / steps


class Bench:
    """The models, the sets to be made and the judge."""

    def __init__(self, seeds: int, prompts: int = len(drawings.PROMPTS), first: int = FRESH) -> None:
        """first: of the seeds of the noise."""
        self.student, self.teacher = models.load("student"), models.load("teacher")
        self.judge, self.features, self.score = judging.load(), models.features(), models.score()
        self.rows = torch.arange(prompts).repeat_interleave(seeds * SET)
        self.noise = torch.cat(
            [white(first + 100 * prompt + seed) for prompt in range(prompts) for seed in range(seeds)]
        )
        real = drawings.draw(
            drawings.sample_attributes(torch.arange(prompts).repeat_interleave(256), generator(1000)), generator(1001)
        )
        self.real = judging.embedding(self.judge, real).unflatten(0, (prompts, 256))

    def judged(self, pictures: Tensor, rare: bool = False) -> Row:
        """The mean over the sets of each column, and in "se" its standard error.

        Variety; adherence, the share that shows the prompt; distance to real drawings; where asked for, the share with
        a look that is rare in plain pictures of the prompt.
        """
        seen = judging.attributes(self.judge, pictures)
        nearest = (judging.embedding(self.judge, pictures)[:, None] * self.real[self.rows]).sum(2).amax(1)
        each = {"adherence": (seen[:, judging.WHAT] == self.rows).double(), "distance": 1 - nearest.double()}
        if rare:
            each["rare"] = self.rare[self.rows[:, None], torch.arange(seen.shape[1]), seen].any(1).double()
        columns = {name: values.unflatten(0, (-1, SET)).mean(1) for name, values in each.items()}
        sets = [judging.variety(part) for part in seen.split(SET)]
        columns |= {name: torch.tensor([part[name] for part in sets], dtype=torch.float64) for name in sets[0]}
        errors = {name: float(values.std() / len(values) ** 0.5) for name, values in columns.items()}
        return {name: float(values.mean()) for name, values in columns.items()} | {"se": errors}

    @cached_property
    def rare(self) -> Tensor:
        """(prompts, attributes, values) whether a look is rare in plain pictures; what is shown is no look."""
        prompts, most = len(self.real), max(drawings.COUNTS)
        found = torch.zeros(prompts, len(drawings.COUNTS), most, dtype=torch.bool)
        for prompt in range(prompts):
            noise = torch.randn(PLAIN, *models.SHAPE, generator=generator(FRESH - 1 - prompt))
            with torch.no_grad():
                batch = self.student.sample(noise, torch.full((PLAIN,), prompt))
            seen = judging.attributes(self.judge, batch.pictures)
            share = torch.nn.functional.one_hot(seen, most).double().mean(0)
            found[prompt] = share < RARE
        found[:, judging.WHAT] = False
        return found

    @torch.no_grad()
    def sampled(self, demo: models.Demo, noise: Tensor, **options) -> Batch:
        parts = [demo.sample(n, r, **options) for n, r in zip(noise.split(64), self.rows.split(64))]
        return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "pictures")))

    def objective(self, *diversities: Sets, quality: float = QUALITY, guard: float = 0.0) -> Objective:
        """The sum of diversities, each weighted for one set, of the score and of the guard of detail."""
        parts, sets = list(diversities), len(self.rows) / SET
        if quality:
            parts.append(Scores(network=self.score, prompts=self.rows, weight=quality * sets, target=SCORE_TARGET))
        if guard:
            parts.append(DetailGuard(weight=guard * sets, target=1.0))
        return combine(parts)

    def main_diversity(self, latents: float = 0.5) -> tuple[Sets, ...]:
        """How the pictures differ to the features, and `latents` times as much how the latents do."""
        return (
            Sets(features=self.features, statistic="vendi"),
            Sets(features=LatentFeatures(), statistic="contrastive", weight=latents),
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

    def found(
        self,
        settings: Settings,
        until: int | None,
        start: Tensor | None = None,
        features: float = 1.0,
        latents: float = 1.0,
        quality: float = QUALITY,
        guard: float = 0.0,
    ) -> Found:
        """Every set optimised by itself, as Noise Optimize does it.

        until: the step whose prediction it looks at; None for the finished pictures. start: the noise; by default the
        bench's. The others are the weights of the objectives.
        """
        start = self.noise if start is None else start
        calls, noises, stopped = 0, [], Counter()

        def generate(noise: Tensor) -> Batch:
            nonlocal calls
            calls += (3 if torch.is_grad_enabled() and noise.requires_grad else 1) * (until or STEPS)
            return self.student.sample(noise, rows, until=until)

        for noise, rows in zip(start.split(SET), self.rows.split(SET)):
            parts = (
                Diversity(features=self.features, statistic="vendi", weight=features),
                Diversity(features=LatentFeatures(), statistic="contrastive", weight=latents),
                DemoScore(network=self.score, prompt=int(rows[0]), weight=quality, target=SCORE_TARGET),
                DetailGuard(weight=guard, target=1.0),
            )
            result = optimize(generate, combine([part for part in parts if part.weight]), noise, settings)
            noises.append(result.noise)
            stopped[result.stopped] += 1
        return Found(torch.cat(noises), calls * SET / len(self.rows), stopped)

    @torch.no_grad()
    def searched(self, candidates: int, quality: float = 0.0) -> tuple[Batch, Tensor]:
        """For each set the best four of several white noises, as Noise Search finds them: by score times `quality` and
        by how they differ in features, on the model's predictions after the steps of the schedule."""
        chosen = []
        for number, row in enumerate(self.rows[::SET].tolist()):
            noise = torch.randn(candidates, *models.SHAPE, generator=generator(FRESH + 10_000 + number))

            def predict(left: Tensor, until: int, noise: Tensor = noise, row: int = row) -> tuple[Tensor, Tensor]:
                batch = self.student.sample(noise[left], torch.full((len(left),), row), until=until)
                score = self.score(batch.pictures).softmax(1)[:, row].clamp(max=SCORE_TARGET)
                return quality * score, (1 - kernel(batch.features(self.features))).fill_diagonal_(0)

            chosen.append(noise[search(predict, candidates, half_way(candidates, SET, STEPS), SEARCH_WEIGHT)])
        noise = torch.cat(chosen)
        return self.sampled(self.student, noise), noise


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def white(seed: int) -> Tensor:
    return torch.randn(SET, *models.SHAPE, generator=generator(seed))


def passes(iterations: int) -> float:
    """Plain sampling runs that so many iterations through the whole schedule cost, with the final rendering."""
    return 3 * iterations + 1


def search_passes(candidates: int) -> float:
    """Plain sampling runs that a search costs, its rounds going on where the one before stopped, and the final one."""
    return 1 + price(half_way(candidates, SET, STEPS), candidates, resumed=True) / SET / STEPS


def table(title: str, rows: dict[str, Row]) -> None:
    print(f"\n{title}\n{'':40}{'runs':>6}" + "".join(f"{column:>16}" for column in COLUMNS))
    for name, row in rows.items():
        cells = (f"{row[column]:8.3f} ({row['se'][column]:.3f})" for column in COLUMNS)
        print(f"{name:40}{row['passes']:6.3g}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def default(bench: Bench, record: Callable[..., None]) -> None:
    """The node's defaults at several numbers of iterations."""
    rows = {}
    for k in (2, 3, 5, 8, 30):
        found = bench.found(replace(LARGE, iterations=k), 1)
        rows[f"{k} iterations"] = found.passes(), lambda z=found.noise: bench.sampled(bench.student, z).pictures
        if k in (2, 5):
            rows[f"{k} iterations, rendered in 8 steps"] = (
                found.passes(8), lambda z=found.noise: bench.sampled(bench.student, z, steps=8).pictures
            )  # fmt: skip
        print(k, dict(found.stopped), flush=True)
    rows["none, rendered in 8 steps"] = 1, lambda: bench.sampled(bench.student, bench.noise, steps=8).pictures
    guarded = bench.found(replace(LARGE, iterations=5), 1, guard=1.0, latents=0.0)
    rows["5 iterations, vendi + score + guard"] = (
        guarded.passes(), lambda: bench.sampled(bench.student, guarded.noise).pictures
    )  # fmt: skip
    record(DEFAULT, rows)


def evaluate(seeds: int, out: Path, only_default: bool = False) -> dict:
    bench, results, began = Bench(seeds), {}, time.perf_counter()
    done = out / "results.json"
    if done.exists():
        kept = json.loads(done.read_text())
        results = kept if only_default else {name: rows for name, rows in kept.items() if name == "price"}

    def record(group: str, rows: dict[str, tuple[float, Callable[[], Tensor]]]) -> None:
        """rows: by name, the cost in plain runs and what makes the pictures."""
        results[group] = {
            name: {"passes": cost} | bench.judged(make(), rare=True) for name, (cost, make) in rows.items()
        }
        table(group, results[group])
        out.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(results, indent=1))

    default(bench, record)
    if only_default:
        return results
    held = drawings.sample_attributes(torch.arange(len(drawings.PROMPTS)).repeat_interleave(128), generator(1), True)
    right = judging.attributes(bench.judge, drawings.draw(held, generator(2))) == held
    results["judge"] = dict(zip(drawings.NAMES, right.double().mean(0).tolist()))
    print("judge right on real drawings of all looks:", {k: round(v, 3) for k, v in results["judge"].items()})

    def teacher(guidance: float) -> tuple[float, Callable[[], Tensor]]:
        cost = models.TEACHER_STEPS / models.STUDENT_STEPS * (1 if guidance == 1 else 2)
        options = {"steps": models.TEACHER_STEPS, "guidance": guidance}
        return cost, lambda: bench.sampled(bench.teacher, bench.noise, **options).pictures

    def student(noise: Tensor) -> tuple[float, Callable[[], Tensor]]:
        return 1, lambda: bench.sampled(bench.student, noise).pictures

    record("before", {
        "real drawings": (0, lambda: drawings.draw(
            drawings.sample_attributes(bench.rows, generator(FRESH)), generator(FRESH + 1)
        )),
        "teacher, no guidance": teacher(1.0),
        **{f"teacher, guidance {w:g}": teacher(w) for w in (1.5, 2.0, 3.0, 4.0)},
        "student, white noise": student(bench.noise),
    })  # fmt: skip

    spectra = {f"alpha {k / 20:.2f}": Spectrum(alpha=k / 20) for k in range(1, 11)}
    spectra |= {"blue, alpha -0.20": Spectrum(alpha=-0.2)}
    spectra |= {f"band {low:g} to {high:g}": Spectrum("band", 0.0, low, high) for low, high in ((0, 0.5), (0.5, 1))}
    record("noise spectra, student", {name: student(colour(bench.noise, s)) for name, s in spectra.items()})

    record("search, student", {
        f"best 4 of {n}": (search_passes(n), lambda n=n: bench.searched(n)[0].pictures) for n in (16, 64)
    })  # fmt: skip
    searched = {n: bench.searched(n, QUALITY) for n in (16, 64, 128, 256)}
    record("search + score, student", {
        f"best 4 of {n}": (search_passes(n), lambda b=b: b.pictures) for n, (b, _) in searched.items()
    })  # fmt: skip

    budgets, shares = (5, 10, 20, 30), {}
    alone, both = (Sets(features=bench.features, statistic="vendi"),), bench.main_diversity()
    for name, objective, basis in (
        ("vendi", bench.objective(*alone, quality=0.0), "full"),
        (QUICK_START, bench.objective(*alone, guard=1.0), "full"),
        ("vendi + latents + score", bench.objective(*both), "full"),
        ("vendi + latents + score, low frequency", bench.objective(*both), "low frequency"),
    ):
        settings = Settings(iterations=max(budgets), basis=basis, rollback=1.0)
        made = bench.optimised(objective, settings, budgets)
        record(f"optimised, {name}", {
            f"{k} iterations": (passes(k), lambda b=b: b.pictures) for k, (b, _) in made.items()
        })  # fmt: skip
        shares[name] = {k: band_change(bench.noise, noise).mean(0).tolist() for k, (_, noise) in made.items()}
    budgets, start = (2, 5, 10, 20), searched[64][1]
    made = bench.optimised(bench.objective(*both), Settings(iterations=max(budgets), rollback=1.0), budgets, start)
    record("optimised, from search of 64", {
        f"{k} iterations": (search_passes(64) - 1 + passes(k), lambda b=b: b.pictures) for k, (b, _) in made.items()
    })  # fmt: skip
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
    settings = Settings(iterations=10, rollback=1.0)
    record("objectives, each with score, 10 iterations", {
        name: (passes(10), lambda d=d: bench.optimised(bench.objective(d), settings, (10,))[10][0].pictures)
        for name, d in objectives.items()
    })  # fmt: skip

    results["machine"] = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()} CPU"
    results["sets"] = {"prompts": len(bench.real), "sets of four each": seeds}
    results["seconds"] = time.perf_counter() - began
    done.write_text(json.dumps(results, indent=1))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=models.ASSETS)
    parser.add_argument("--default", action="store_true")
    options = parser.parse_args()
    evaluate(options.seeds, options.out, options.default)
