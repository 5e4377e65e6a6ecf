"""What variety costs: ways to a varied set, tried on noise that the tables of evaluate.py do not use.

python tests/demo/price.py [GROUP ...] [--seeds 2] [--out DIR]: prints a table for each group, by default for all, puts
them into DIR/results.json and writes DIR/price.png (variety against plain sampling runs). The defaults of Noise
Optimize were chosen by such tables; the numbers in README and model card are from other seeds. Each set is optimised by
itself, as the node does it, and counted as in evaluate.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluate
import here  # noqa: F401
import models
import torch
from evaluate import LARGE, SET, STEPS, Bench, Row, generator
from torch import Tensor

from noise_optimize.noise import Settings
from noise_optimize.noise.basis import make_basis
from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.search import select
from noise_optimize.objectives.statistics import kernel

CHOSEN_ON = 95_000  # first of the seeds that choices were made on
PUBLISHED = Settings(rollback=1.0)  # SGD 0.004, momentum 0.9, through the whole schedule
Way = tuple[str, float, Tensor]  # its name, what it costs with the final rendering, and the noise that it gives


def ways(bench: Bench) -> Iterator[Way]:
    """Every way to a varied set."""
    yield "plain", 1, bench.noise
    yield "pink, alpha 0.2", 1, colour(bench.noise, Spectrum(alpha=0.2))
    for n in (16, 64):
        yield f"search with score, {n}", evaluate.search_passes(n), bench.searched(n, evaluate.QUALITY)[1]
    for name, settings in {
        "published": PUBLISHED,
        "ReNO": replace(PUBLISHED, optimizer="nesterov"),
        "Adam 0.02": replace(PUBLISHED, optimizer="adam", learning_rate=0.02),
        "CMA-ES": replace(PUBLISHED, optimizer="cma", learning_rate=0.02),
    }.items():
        for k in (1, 3) if name == "CMA-ES" else (2, 5):
            yield optimised(bench, f"{name}, {k} iterations", replace(settings, iterations=k), until=None)
    for k in (1, 2, 3, 5, 8, 30):
        yield optimised(bench, f"large steps, {k} iterations", replace(LARGE, iterations=k))
    start = bench.searched(64, evaluate.QUALITY)[1]
    for k in (2, 5):
        name = f"search of 64, then large steps, {k}"
        yield optimised(bench, name, replace(LARGE, iterations=k), start=start, before=evaluate.search_passes(64) - 1)


def where(bench: Bench) -> Iterator[Way]:
    """Where the gradient looks: after one step, after two, at the finished picture."""
    for until, iterations in ((1, (2, 5)), (2, (1, 2)), (None, (1, 2))):
        for k in iterations:
            yield optimised(bench, f"step {until or STEPS}, {k} iterations", replace(LARGE, iterations=k), until=until)


def step(bench: Bench) -> Iterator[Way]:
    """The step: its length, momentum, Adam."""
    tried = {f"length {x:g}": replace(LARGE, learning_rate=x) for x in (0.06, 0.15, 0.25, 0.35, 0.45)}
    tried["0.25, momentum 0.3"] = replace(LARGE, optimizer="sgd", learning_rate=0.25, momentum=0.3)
    tried["Adam 0.3, momentum 0.5"] = replace(LARGE, optimizer="adam", learning_rate=0.3, momentum=0.5)
    yield from each(bench, tried)


def prior(bench: Bench) -> Iterator[Way]:
    """The prior: none, as by default, and so strong that it is the projection on noise whose rings have the norms of
    white noise (as of blocks of the spectrum in arXiv 2602.08646); whiteness beside it; only the low band moved."""
    tried = {f"weight {weight:g}": replace(LARGE, prior_weight=weight) for weight in (0, 4, 100)}
    tried["whiteness 0.01"] = replace(LARGE, whiteness_weight=0.01)
    tried["low frequency"] = replace(LARGE, basis="low frequency")
    yield from each(bench, tried)


def objective(bench: Bench) -> Iterator[Way]:
    """What is raised: features and latents, how much the score weighs, the guard of detail."""
    for name, options in {
        "latents 0": {"latents": 0.0},
        "latents 0.5": {"latents": 0.5},
        "latents 1": {},
        "latents 1.5": {"latents": 1.5},
        "latents 1, score 0": {"quality": 0.0},
        "latents 1, score 8": {"quality": 8.0},
        "latents 0, guard 1": {"latents": 0.0, "guard": 1.0},
    }.items():
        for k in (2, 5):
            yield optimised(bench, f"{name}, {k} iterations", replace(LARGE, iterations=k), **options)


def start(bench: Bench) -> Iterator[Way]:
    """From the best four of the first predictions of several noises."""
    for n in (8, 16):
        found = best_predictions(bench, n)
        yield f"best 4 of {n} first predictions", 1 + n / SET / STEPS, found
        for k in (1, 2):
            name = f"best 4 of {n}, then {k} iterations"
            yield optimised(bench, name, replace(LARGE, iterations=k), start=found, before=n / SET / STEPS)


def small(bench: Bench) -> Iterator[Way]:
    """Optimised at half the size, where a call costs a quarter; its coefficients are the low band of what is rendered.
    The demo model knows one size only, so this says what survives there and no more."""
    basis = make_basis("low frequency", bench.noise, band=0.5)
    begun, latents = basis.analyse(bench.noise), {"features": 0.0, "quality": 0.0}
    for k in (2, 5, 10):
        settings = replace(LARGE, iterations=k)
        found = bench.found(settings, 1, begun, **latents)
        noise = basis.noise(found.noise - begun)
        yield f"half the size, latents, {k} iterations", 1 + found.calls / 4 / STEPS, noise
        yield optimised(bench, f"whole size, latents, {k} iterations", settings, **latents)


GROUPS: dict[str, Callable[[Bench], Iterator[Way]]] = {
    group.__name__: group for group in (ways, where, step, prior, objective, start, small)
}


def each(bench: Bench, tried: dict[str, Settings]) -> Iterator[Way]:
    for name, settings in tried.items():
        for k in (2, 5):
            yield optimised(bench, f"{name}, {k} iterations", replace(settings, iterations=k))


def optimised(
    bench: Bench, name: str, settings: Settings, until: int | None = 1, before: float = 0.0, **options: Any
) -> Way:
    """before: what the start has cost."""
    found = bench.found(settings, until, **options)
    return name, before + found.passes(), found.noise


@torch.no_grad()
def best_predictions(bench: Bench, n: int) -> Tensor:
    """For each set the best four of its own noise and n - 4 others, by one call each."""
    chosen = []
    for number, row in enumerate(bench.rows[::SET].tolist()):
        others = torch.randn(n - SET, *models.SHAPE, generator=generator(2 * CHOSEN_ON + number))
        noise = torch.cat([bench.noise[number * SET :][:SET], others])
        batch = bench.student.sample(noise, torch.full((n,), row), until=1)
        score = bench.score(batch.pictures).softmax(1)[:, row].clamp(max=evaluate.SCORE_TARGET).double()
        distance = (1 - kernel(batch.features(bench.features))).fill_diagonal_(0)
        chosen.append(noise[select(evaluate.QUALITY * score, distance, SET, evaluate.SEARCH_WEIGHT)])
    return torch.cat(chosen)


def plot(results: dict[str, dict[str, Row]], file: Path) -> None:
    """Variety against cost, every way of the group `ways` by its own line, and all else as dots."""
    from matplotlib.figure import Figure

    figure = Figure((9, 6), layout="constrained")
    axes, lines = figure.subplots(), {}
    for group, rows in results.items():
        for name, row in rows.items():
            lines.setdefault(name.partition(",")[0] if group == "ways" else group, []).append(row)
    for name, rows in lines.items():
        passes, variety, error = ([row["passes"] for row in rows], [row["vendi"] for row in rows],
                                  [row["se"]["vendi"] for row in rows])  # fmt: skip
        mark = "." if name in GROUPS else "o-"
        axes.errorbar(passes, variety, error, fmt=mark, capsize=2, alpha=0.4 if mark == "." else 1, label=name)
    axes.set(xscale="log", xlabel="plain sampling runs", ylabel="Vendi score of 4, by the judge")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; by default all")
    parser.add_argument("--seeds", type=int, default=2, help="sets of each of the eight prompts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"there is no group {', '.join(unknown)}")
    bench = Bench(options.seeds, first=CHOSEN_ON)
    results: dict[str, dict[str, Row]] = {}
    for group in options.groups or GROUPS:
        results[group] = {
            name: {"passes": passes} | bench.judged(bench.sampled(bench.student, noise).pictures, rare=True)
            for name, passes, noise in GROUPS[group](bench)
        }
        evaluate.table((GROUPS[group].__doc__ or group).partition(":")[0], results[group])
    if options.out is not None:
        file = options.out / "results.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"price": results}, indent=1))
        plot(results, options.out / "price.png")


if __name__ == "__main__":
    main()
