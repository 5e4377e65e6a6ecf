"""What an optimisation did: its iterations one by one, the best of them, and why it stopped."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..objectives.batch import Batch
from ..objectives.objective import Score
from .basis import Basis, norms
from .evaluation import Evaluation
from .settings import Settings
from .spectrum import band_change

CANCELLED = "it was cancelled"


@dataclass(frozen=True)
class Step:
    """One iteration, as measured before its step. Iteration 0 is the start.

    scores: every score, averaged over the pictures. Of the samples that may move, the mean: radius, of what moves of
    them, as a share of the likeliest; gradient_norm, loss per radius, without those that failed; change since the
    start, its share in the low, mid and high third of the spectrum. NaN where there are none, or no gradient.
    put_back: samples whose quality fell. failed: samples that met NaN or infinity.
    """

    iteration: int
    scores: dict[str, float]
    loss: float
    radius: float
    gradient_norm: float
    seconds: float
    change: tuple[float, ...]
    put_back: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
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


class History:
    """Keeps every evaluation as a Step and the best one whole, shows each to `on_step`, and says when to stop."""

    def __init__(self, basis: Basis, settings: Settings, on_step: OnStep | None = None) -> None:
        self.basis, self.settings, self.on_step = basis, settings, on_step
        self.steps: list[Step] = []
        self.best: tuple[int, Evaluation] | None = None
        self.began = self.lap = time.perf_counter()

    @property
    def more(self) -> bool:
        """Whether the iteration to come is followed by another, which takes a gradient."""
        return len(self.steps) < self.settings.iterations and bool(self.basis.moves.any())

    def enter(self, seen: Evaluation, note: str = "") -> str:
        """Enters an evaluation; returns why to stop here, or an empty string."""
        now, slope = time.perf_counter(), math.nan
        moved = self.basis.moves
        if seen.gradient is not None and (moved & ~seen.failed).any():
            slope = float((norms(seen.gradient) * self.basis.d.sqrt())[moved & ~seen.failed].mean())
        step = Step(
            iteration=len(self.steps),
            scores=named(seen.scores),
            loss=seen.loss,
            radius=float(self.basis.radius(seen.noise)[moved].mean()),
            gradient_norm=slope,
            seconds=now - self.lap,
            change=tuple(band_change(self.basis.start, seen.noise)[moved].mean(0).tolist()),
            put_back=tuple(seen.fell.nonzero().flatten().tolist()),
            failed=tuple(seen.failed.nonzero().flatten().tolist()),
            note=note,
        )
        self.lap = now
        self.steps.append(step)
        if self.best is None or (seen.sound and not seen.loss >= self.best[1].loss):
            self.best = step.iteration, seen
        if self.on_step is not None:
            self.on_step(Progress(step, seen.batch, self.result(CANCELLED)))
        return self._stop(seen)

    def _stop(self, seen: Evaluation) -> str:
        wanted = [score for score in seen.scores if score.wanted and score.role.stop != "never"]
        reached = any(score.role.stop == "ends" for score in wanted) and all(score.reached for score in wanted)
        if reached and seen.sound and seen.loss <= self.steps[0].loss:
            self.best = self.steps[-1].iteration, seen
            return "the targets were reached" if len(wanted) > 1 else "the diversity target was reached"
        if self.settings.iterations and not self.basis.moves.any():
            return "nothing may move"
        if len(self.steps) > self.settings.iterations:
            return (
                f"all {self.settings.iterations} iterations were made" if len(self.steps) > 1 else "none was asked for"
            )
        if time.perf_counter() - self.began >= self.settings.seconds:
            return f"the budget of {self.settings.seconds:g} seconds was spent"
        return ""

    def result(self, stopped: str) -> Result:
        """What to return if the run ends here."""
        if self.best is None:
            raise RuntimeError("Nothing has been measured yet.")
        best, seen = self.best
        return Result(seen.noise, seen.batch, tuple(self.steps), best, stopped, seen.plain)


def named(scores: list[Score]) -> dict[str, float]:
    """The mean of each score by its name; a name that comes again is numbered."""
    seen: Counter[str] = Counter()
    values = {}
    for score in scores:
        seen[score.name] += 1
        label = score.name if seen[score.name] == 1 else f"{score.name} {seen[score.name]}"
        values[label] = float(score.mean)
    return values
