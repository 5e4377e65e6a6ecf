"""Noise sets on the demo's model: what a set that was found on some prompts does to prompts that nothing has seen.

python tests/demo/find_sets.py [--folds 0 1 2 3] [--out DIR]: finds a set for each fold as Find Noise Set does, prints a
table over its strength and writes DIR/sets.json. In fold f, prompts 2f and 2f + 1 are seen by nothing before the table;
of the other six, --seen have the gradient and the rest choose the iteration. With --ship the set of the fold is the
one that comes with the pack: that is fold 1.

Every number is about four neighbours in the order of the set: for each prompt and seed all patterns are drawn, and the
columns are the mean over all neighbourhoods of four, in brackets the standard error over prompts and seeds. Finding
is counted in plain sampling runs of all patterns; using a set costs nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import drawings
import here  # noqa: F401
import judge as judging
import models
import torch
from torch import Tensor

from noise_optimize.noise import NoiseSet, save_set
from noise_optimize.noise.find_set import BAND, Finding, Found, Prompt, find_set
from noise_optimize.noise.history import named
from noise_optimize.noise.patterns import NEIGHBOURS
from noise_optimize.objectives.demo import DemoScore
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.objective import combine

PROMPTS = len(drawings.PROMPTS)
FIRST = 90_000  # of the seeds of the table, which were used for nothing else
REAL = 256  # drawings of each prompt that a distance is to the nearest of
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHIPPED = models.ASSETS / "set.safetensors"


class Bench:
    """The model, what a set is found by, and the judge."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.student, self.features, self.score = models.load("student"), models.features(), models.score()
        self.judge = judging.load()
        drawn = drawings.sample_attributes(torch.arange(PROMPTS).repeat_interleave(REAL), generator(1000))
        real = drawings.draw(drawn, generator(1001))
        self.real = judging.embedding(self.judge, real).unflatten(0, (PROMPTS, REAL))

    def prompt(self, row: int) -> Prompt:
        """A prompt whose gradient goes through the first prediction, or through the whole run."""

        def draw(until: int | None, count: int, body):
            return body(lambda noise: self.student.sample(noise, torch.full((count,), row), until=until))

        parts = [Diversity(features=self.features, statistic="vendi")]
        if self.options.quality:
            parts.append(DemoScore(network=self.score, prompt=row, weight=self.options.quality, target=0.97))
        draft = partial(draw, 1) if self.options.gradient == "first" else None
        return Prompt(drawings.PROMPTS[row], combine(parts), partial(draw, None), draft)

    def found(self, seen: list[int], unseen: list[int]) -> Found:
        """A set as Find Noise Set finds it, from patterns drawn at random."""
        o = self.options
        side = max(1, round(o.band * models.SHAPE[-1]))
        about = {"size": models.SHAPE[1:], "model": "Flux", "latent_format": "Flux"}
        named_rows = {"prompts": seen, "unseen": unseen}
        about |= {name: tuple(drawings.PROMPTS[row] for row in rows) for name, rows in named_rows.items()}
        start = torch.randn(o.patterns, models.SHAPE[0], side, side, generator=generator(o.seed))
        finding = Finding(o.iterations, o.rate, at_once=o.patterns, loss=o.loss, seed=o.seed)
        prompts = ([self.prompt(row) for row in rows] for rows in (seen, unseen))
        found = find_set(*prompts, NoiseSet(start, **about), models.SHAPE, finding)
        scores = {"plain": named(found.plain.scores), "set": named(found.now.scores)}
        kept = replace(found.noise_set, scores=scores, settings=asdict(finding) | {"iteration": found.best})
        return replace(found, noise_set=kept)

    @torch.no_grad()
    def judged(self, kept: NoiseSet, rows: list[int], strength: float, demo: models.Demo, **how) -> dict[str, Tensor]:
        """Of each prompt and seed (n,): Vendi of four neighbours, adherence, distance to real drawings."""
        K = len(kept)
        near = [[(first + place) % K for place in range(NEIGHBOURS)] for first in range(K)]
        columns: dict[str, list[float]] = {"vendi": [], "adherence": [], "distance": []}
        for row in rows:
            for draw in range(self.options.draws):
                white = torch.randn(K, *models.SHAPE, generator=generator(FIRST + 100 * row + draw))
                noise = kept.applied(white, kept.numbers(0, range(K)), strength)
                pictures = demo.sample(noise, torch.full((K,), row), **how).pictures
                seen = judging.attributes(self.judge, pictures)
                nearest = (judging.embedding(self.judge, pictures)[:, None] * self.real[row]).sum(2).amax(1)
                columns["vendi"].append(sum(judging.variety(seen[rows])["vendi"] for rows in near) / K)
                columns["adherence"].append(float((seen[:, judging.WHAT] == row).double().mean()))
                columns["distance"].append(float(1 - nearest.mean()))
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cells(columns: dict[str, Tensor]) -> str:
    return "   ".join(f"{v.mean():.3f} ({v.std() / len(v) ** 0.5:.3f})" for v in columns.values())


def table(title: str, rows: dict[str, dict[str, Tensor]]) -> None:
    print(f"\n{title}\n{'':28}{'Vendi of 4':>14}{'prompt seen':>17}{'distance':>17}")
    for name, columns in rows.items():
        print(f"{name:28}{cells(columns):>48}", flush=True)


def coefficients(kept: NoiseSet) -> str:
    """What the patterns are beside white noise, whose deviation is 1 and whose kurtosis is 3."""
    c = kept.coefficients
    norms = c.flatten(1).norm(dim=1) / c[0].numel() ** 0.5
    deviation, kurtosis = c.std(), ((c - c.mean()) / c.std()).pow(4).mean()
    return (
        f"coefficients: mean {c.mean():.3f}, deviation {deviation:.3f}, kurtosis {kurtosis:.2f}, beyond 2: "
        f"{(c.abs() > 2).double().mean():.3f} (white 0.046); norms {norms.min():.3f} to {norms.max():.3f} of white's"
    )


def main(options: argparse.Namespace) -> None:
    bench, teacher = Bench(options), models.load("teacher") if options.teacher else None
    together: dict[str, list[dict[str, Tensor]]] = {}
    report = {"options": {name: str(value) for name, value in vars(options).items()}, "folds": {}}
    for fold in options.folds:
        seen, choose, unseen = split(fold, options.seen)
        began = time.perf_counter()
        found = bench.found(seen, choose)
        kept = found.noise_set
        runs = found.slopes * 3 * (1 / models.STUDENT_STEPS if options.gradient == "first" else 1) + found.looks
        took = f"{time.perf_counter() - began:.0f} s, {runs:.0f} plain runs of {len(kept)}; iteration {found.best} kept"
        rows = {f"strength {s:g}": bench.judged(kept, unseen, s, bench.student) for s in STRENGTHS}
        if teacher is not None:
            how = {"steps": models.TEACHER_STEPS, "guidance": 4.0}
            rows |= {f"teacher, strength {s:g}": bench.judged(kept, unseen, s, teacher, **how) for s in (0.0, 0.5, 1.0)}
        table(f"fold {fold}, unseen: {', '.join(drawings.PROMPTS[row] for row in unseen)} ({took})", rows)
        print(coefficients(kept), flush=True)
        for name, columns in rows.items():
            together.setdefault(name, []).append(columns)
        report["folds"][fold] = {
            "seen": kept.prompts, "chosen by": kept.unseen, "unseen": [drawings.PROMPTS[row] for row in unseen],
            "iteration": found.best, "plain runs": runs, "history": found.history,
            "rows": {name: {k: v.tolist() for k, v in columns.items()} for name, columns in rows.items()},
        }  # fmt: skip
        options.out.mkdir(parents=True, exist_ok=True)
        save_set(options.out / f"set_{fold}.safetensors", kept)
        if options.ship:
            save_set(SHIPPED, replace(kept, settings=kept.settings | {"layout": host_layout()}))
        (options.out / "sets.json").write_text(json.dumps(report, indent=1))
    if len(together[f"strength {STRENGTHS[0]:g}"]) > 1:
        rows = {n: {k: torch.cat([p[k] for p in parts]) for k in parts[0]} for n, parts in together.items()}
        table("all folds", rows)


def host_layout() -> str:
    """By which Diverse Seeds knows the demo's model."""
    from comfy.cli_args import args

    args.cpu = True
    from noise_optimize.nodes import host

    return host.layout(host.load_demo(models.ASSETS / "student.safetensors", models.ASSETS / "vae.safetensors")[0])


def split(fold: int, seen: int) -> tuple[list[int], list[int], list[int]]:
    """The prompts with a gradient, those that choose the iteration, and those that nothing sees."""
    rows = [(2 * fold + i) % PROMPTS for i in range(PROMPTS)]
    return rows[PROMPTS - seen :], rows[2 : PROMPTS - seen], rows[:2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(PROMPTS // 2)))
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--seen", type=int, default=5, help="prompts with a gradient in each fold, at most 5")
    parser.add_argument("--patterns", type=int, default=16)
    parser.add_argument("--band", type=float, default=BAND)
    parser.add_argument("--iterations", type=int, default=Finding.iterations)
    parser.add_argument("--rate", type=float, default=Finding.learning_rate)
    parser.add_argument("--gradient", choices=("first", "whole"), default="first")
    parser.add_argument("--quality", type=float, default=2.0, help="weight of Demo Score beside diversity")
    parser.add_argument("--loss", type=float, default=Finding.loss)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--teacher", action="store_true", help="measure with another checkpoint, too")
    parser.add_argument("--out", type=Path, default=Path("sets"))
    main(parser.parse_args())
