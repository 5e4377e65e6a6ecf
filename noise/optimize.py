"""Gradient steps on the starting noise of a batch (arXiv 2601.00090, Eq. 3), or CMA-ES where there is no gradient.

    minimise over z_1..z_B    total_loss(objective(generate(z)))    with the chi_d prior on each ||z_i||

The prior is applied after each step as its proximal map, which has a closed form and is stable for every weight and
size; it therefore is no part of the loss by which the best iterate is chosen. What is returned is never worse than the
start, and the same inputs give the same noise bit for bit.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..objectives.batch import Batch
from ..objectives.objective import Objective, Score, total_loss
from .basis import LOWEST_THIRD, Basis, make_basis, norms, per_sample
from .evolution import Evolution
from .optimizers import OPTIMIZERS, State, Update, clipped, forget, only
from .prior import Whiteness
from .spectrum import band_change

Generate = Callable[[Tensor], Batch]
PATIENCE = 3  # iterations in a row that may fail with NaN or infinity before the run is given up


@dataclass(frozen=True)
class Settings:
    """How to optimise.

    learning_rate: the step as a share of the noise radius sqrt(d) of each sample, before momentum multiplies it by up
    to 1 / (1 - momentum). For CMA-ES, the reach that this gives is the spread of the first generation.
    clip: the gradient norm per sample above which a step is full, in loss per radius (noise/optimizers.py).
    prior_weight: weight of the chi_d negative log-density in nats; a deviation of the radius is divided by about
    1 + 2 w in each iteration. 0: no prior. whiteness_weight: of the penalty for leaving the starting spectrum, in nats.
    rollback: how much of its starting quality a picture may lose before it is put back, as a share of the span of the
    score (objectives/objective.py); 1: never put back.
    seconds: budget of time, checked after each iteration. population: candidates of one generation of CMA-ES.
    """

    iterations: int = 30
    learning_rate: float = 0.004
    optimizer: str = "sgd"
    momentum: float = 0.9
    clip: float = 0.1
    prior_weight: float = 4.0
    whiteness_weight: float = 0.0
    basis: str = "full"
    band: float = LOWEST_THIRD
    rollback: float = 0.1
    seconds: float = math.inf
    population: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
        for name in ("iterations", "learning_rate", "clip", "prior_weight", "whiteness_weight", "rollback", "seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; set 0 or more.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; set 0 or more and less than 1.")
        if self.population < 2:
            raise ValueError(f"population is {self.population}; set at least 2.")


@dataclass(frozen=True)
class Step:
    """One iteration, as measured before its step. Iteration 0 is the start.

    scores: every score, averaged over the pictures. radius: ||z|| / sqrt(d - 1), the mean of the samples.
    gradient_norm: loss per radius, the mean of the samples. change: share of the change since the start in the low,
    mid and high third of the spectrum. put_back: samples that were rolled back.
    """

    iteration: int
    scores: dict[str, float]
    loss: float
    radius: float
    gradient_norm: float
    seconds: float
    change: tuple[float, ...]
    put_back: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What a run found.

    batch: what `noise` gave. plain: whether that was sampled without a gradient, as any sampler does. best: its
    iteration. stopped: why the run ended, in words.
    """

    noise: Tensor
    batch: Batch
    history: tuple[Step, ...]
    best: int
    stopped: str
    plain: bool = False


@dataclass(frozen=True)
class Progress:
    """What `on_step` sees: the step, the batch it measured, and what the run would return if it ended here."""

    step: Step
    batch: Batch
    result: Result


OnStep = Callable[[Progress], None]


def towards_prior(radius: Tensor, likeliest: Tensor, weight: float) -> Tensor:
    """The proximal map of w (r^2 / 2 - m^2 ln r), with m the mode: the root of (1 + w) r'^2 - r r' - w m^2 = 0."""
    return (radius + (radius**2 + 4 * (1 + weight) * weight * likeliest**2).sqrt()) / (2 * (1 + weight))


@dataclass
class Evaluation:
    """One run of the sampler and its scores; gradient of the noise where it was asked for, which `plain` denies."""

    noise: Tensor
    batch: Batch
    scores: list[Score]
    loss: float
    gradient: Tensor | None
    plain: bool

    @cached_property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and (self.gradient is None or bool(self.gradient.isfinite().all()))


class Run:
    """The state of one optimisation: what was measured so far and the best of it."""

    def __init__(
        self, generate: Generate, objective: Objective, noise: Tensor, settings: Settings, on_step: OnStep | None
    ) -> None:
        self.generate, self.objective, self.settings, self.on_step = generate, objective, settings, on_step
        self.start = noise
        self.history: list[Step] = []
        self.first: Evaluation | None = None
        self.best: tuple[int, Evaluation] | None = None
        self.whiteness = Whiteness.of(noise) if settings.whiteness_weight else None
        self.began = self.lap = time.perf_counter()

    def evaluate(self, noise: Tensor, gradient: bool) -> Evaluation:
        """Samples, scores and, where wanted, differentiates; the first batch is what guards compare with."""
        noise = noise.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            batch = self.generate(noise)
            if self.first is None:
                self.objective = self.objective.bind(start=batch.detach())
            scores = self.objective(batch)
            loss = total_loss(scores) if scores else noise.new_zeros(())
        slope = None
        if gradient:
            if not loss.requires_grad:
                raise RuntimeError(
                    "No gradient reaches the noise: this model or objective cannot be differentiated. "
                    "Set optimizer to cma, which needs none."
                )
            whole = loss
            if self.whiteness is not None:
                whole = loss + self.settings.whiteness_weight * self.whiteness(noise).mean()
            (slope,) = torch.autograd.grad(whole, noise)
        scores = [replace(score, values=score.values.detach()) for score in scores]
        return Evaluation(noise.detach(), batch.detach(), scores, float(loss.detach()), slope, plain=not gradient)

    def broken(self, scores: list[Score]) -> Tensor:
        """(B,) whether a quality of the picture fell below its start by more than `rollback` of its span."""
        broken = torch.zeros(len(self.start), dtype=torch.bool, device=self.start.device)
        for score, first in zip(scores, self.first.scores if self.first else scores, strict=True):
            if score.kind == "quality" and score.values.ndim and self.settings.rollback < 1:
                broken |= score.lost(first, self.settings.rollback).to(broken.device)
        return broken

    def record(self, seen: Evaluation, put_back: Tensor, note: str = "") -> None:
        """Enters an evaluation in the history, keeps it if it is the best, and shows it to `on_step`."""
        iteration, now = len(self.history), time.perf_counter()
        d = seen.noise[0].numel()
        slope = math.nan if seen.gradient is None else float(norms(seen.gradient).mean()) * math.sqrt(d)
        step = Step(
            iteration=iteration,
            scores=named(seen.scores),
            loss=seen.loss,
            radius=float(norms(seen.noise).mean()) / math.sqrt(max(d - 1, 1)),
            gradient_norm=slope,
            seconds=now - self.lap,
            change=tuple(band_change(self.start, seen.noise).mean(0).tolist()),
            put_back=tuple(put_back.nonzero().flatten().tolist()),
            note=note,
        )
        self.lap = now
        self.history.append(step)
        usable = math.isfinite(seen.loss) and not put_back.any()
        if self.best is None or (usable and not seen.loss >= self.best[1].loss):
            self.best = iteration, replace(seen, gradient=None)
        self.first = self.first or replace(seen, gradient=None)
        if self.on_step is not None:
            self.on_step(Progress(step, seen.batch, self.result("it was cancelled")))

    def stop(self, seen: Evaluation, put_back: Tensor) -> str:
        """Why to stop here, or an empty string."""
        first = math.inf if self.first is None else self.first.loss
        wanted = [score for score in seen.scores if score.wanted and score.kind != "guard"]
        reached = any(score.kind == "diversity" for score in wanted) and all(score.reached for score in wanted)
        if reached and not put_back.any() and seen.loss <= first:
            self.best = len(self.history) - 1, replace(seen, gradient=None)
            return "the targets were reached" if len(wanted) > 1 else "the diversity target was reached"
        if len(self.history) > self.settings.iterations:
            return (
                f"all {self.settings.iterations} iterations were made"
                if len(self.history) > 1
                else "none was asked for"
            )
        if time.perf_counter() - self.began >= self.settings.seconds:
            return f"the budget of {self.settings.seconds:g} seconds was spent"
        return ""

    def result(self, stopped: str) -> Result:
        """What to return if the run ends here."""
        if self.best is None:
            raise RuntimeError("Nothing has been measured yet.")
        best, seen = self.best
        return Result(seen.noise, seen.batch, tuple(self.history), best, stopped, seen.plain)


def optimize(
    generate: Generate, objective: Objective, noise: Tensor, settings: Settings, on_step: OnStep | None = None
) -> Result:
    """Optimises the noise of a batch.

    generate: noise (B, C, ...) -> Batch, differentiable unless the optimiser is CMA-ES. noise: float32 or float64.
    on_step: called after each evaluation; what it raises ends the run, and the last progress it saw holds the result.
    With 0 iterations the start is sampled and scored once.
    """
    if not noise.isfinite().all():
        raise ValueError("noise contains NaN or infinity; wire a NOISE that is finite.")
    run = Run(generate, objective, noise, settings, on_step)
    chosen = OPTIMIZERS[settings.optimizer]
    basis = make_basis(settings.basis, noise, settings.band, chosen.most)
    return run.result(_descend(run, basis, chosen.update) if chosen.update else _evolve(run, basis))


def _descend(run: Run, basis: Basis, update: Update) -> str:
    """Steps along the gradient; returns why it stopped."""
    settings, d = run.settings, basis.start[0].numel()
    change = good = torch.zeros_like(basis.analyse(basis.start))  # good: for each sample, where its quality last held
    none = torch.zeros(len(change), dtype=torch.bool, device=change.device)
    state: State = {}
    rate, failures, u = settings.learning_rate, 0, None
    while True:
        seen = run.evaluate(basis.noise(change), gradient=len(run.history) < settings.iterations)
        bad = run.broken(seen.scores) if seen.finite else none
        if not seen.finite:
            failures, rate = failures + 1, rate / 2
            state.clear()
        run.record(seen, bad, "" if seen.finite else "NaN or infinity: the step was dropped, the learning rate halved")
        if why := run.stop(seen, bad):
            return why
        if failures == PATIENCE:
            return f"NaN or infinity came {PATIENCE} times in a row"
        if seen.finite and seen.gradient is not None:
            failures = 0
            good = only(bad, good, change)
            forget(state, bad)
            u = only(bad, torch.zeros_like(good), clipped(basis.analyse(seen.gradient), d, settings.clip))
            if not (u.any() or bad.any()):
                return "the gradient is zero: nothing is left to gain"
        if u is not None:
            change = good - rate * math.sqrt(d) * update(state, u, settings.momentum)
            change = only(bad, good, with_prior(basis, change, settings.prior_weight))


def _evolve(run: Run, basis: Basis) -> str:
    """Generations of CMA-ES, each entered in the history by its best candidate; returns why it stopped."""
    settings, d = run.settings, basis.start[0].numel()
    still = torch.zeros_like(basis.analyse(basis.start))
    sigma = settings.learning_rate / (1 - settings.momentum) * math.sqrt(d / still[0].numel())
    evolution: Evolution | None = None
    candidates, failures = [still], 0

    def tried(candidate: Tensor) -> tuple[float, Evaluation]:
        seen = run.evaluate(basis.noise(candidate), gradient=False)
        usable = seen.finite and not run.broken(seen.scores).any()
        return seen.loss if usable else math.inf, seen

    while True:
        best = tried(candidates[0])
        losses = [best[0]]
        for candidate in candidates[1:]:
            found = tried(candidate)
            losses.append(found[0])
            best = found if found[0] < best[0] else best
        seen = best[1]
        failures = 0 if math.isfinite(best[0]) else failures + 1
        bad = run.broken(seen.scores)
        run.record(seen, bad, "no candidate was usable: the spread was halved" if failures else "")
        if why := run.stop(seen, bad):
            return why
        if failures == PATIENCE:
            return f"no candidate was usable {PATIENCE} times in a row"
        if evolution is None:
            evolution = Evolution(still.shape, sigma, settings.population, settings.seed)
        else:
            evolution.tell(losses)
        candidates = [with_prior(basis, x, settings.prior_weight) for x in evolution.ask(still)]


def with_prior(basis: Basis, change: Tensor, weight: float) -> Tensor:
    """The change after one proximal step of the prior on the norm of the optimised coefficients."""
    if not weight:
        return change
    start = basis.analyse(basis.start)
    radius = norms(start + change)
    factor = towards_prior(radius, basis.prior_radius(), weight) / radius.clamp(min=torch.finfo(radius.dtype).tiny)
    return (start + change) * per_sample(factor, change) - start


def named(scores: list[Score]) -> dict[str, float]:
    """The mean of each score by its name; a name that comes again is numbered."""
    seen: Counter[str] = Counter()
    values = {}
    for score in scores:
        seen[score.name] += 1
        label = score.name if seen[score.name] == 1 else f"{score.name} {seen[score.name]}"
        values[label] = float(score.mean)
    return values
