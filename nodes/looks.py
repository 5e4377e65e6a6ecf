"""What the loop of Noise Optimize sees of a noise, and what any sampler makes of it; both are put on the bill."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..noise.bill import ALWAYS, FIRST, Bill, Prices, doubtful
from ..noise.history import Result, named
from ..objectives.batch import Batch, BrokenSamples
from ..objectives.objective import Objective, Score, total_loss
from . import host

WORSE = "finished, the noise found scored below its start, so the start is returned"


@dataclass
class Looks:
    """looks(noise): a batch for the objectives, with a gradient where noise asks for one.

    until: the step whose prediction is looked at; None for finished pictures. pictures: whether they are decoded.
    recall: what the model predicted in the look that ends a descent. descends: whether a gradient was taken.
    """

    session: host.Session
    pictures: bool
    until: int | None
    prices: Prices
    bill: Bill
    recall: host.Recall | None = None
    descends: bool = False

    @classmethod
    def at(cls, session: host.Session, look: str, gradient_steps: int, pictures: bool, bill: Bill) -> Looks:
        """look: as `look_of` gives it. gradient_steps: of Differentiable Sampler, 0 for all."""
        until = 1 if look == FIRST and session.steps > 1 else None
        if until is not None:
            calls = session.calls(until)
            prices = Prices(session.calls(), calls, calls, finishes=False, recalls=session.recalls())
        elif 0 < gradient_steps < session.steps:
            calls = session.calls()
            prices = Prices(calls, calls, calls - session.calls(session.steps - gradient_steps + 1) + 1)
        else:
            prices = Prices(1, 1, 1)
        return cls(session, pictures, until, prices, bill)

    def __call__(self, noise: Tensor) -> Batch:
        gradient = torch.is_grad_enabled() and noise.requires_grad
        self.bill.add(len(noise), self.prices.of_a_look(gradient))
        self.descends |= gradient
        if self.until is not None and self.descends and not gradient and self.prices.recalls:
            self.recall = host.Recall()
        return self.session.batch(noise, self.pictures, self.until, None if gradient else self.recall)

    def render(self, noise: Tensor) -> Batch:
        """What any sampler makes of the noise."""
        batch = self.session.batch(noise, self.pictures, recall=self.recall)
        self.bill.add(len(noise), 1.0 - (self.recall.spared if self.recall else 0) / self.prices.plain)
        return batch


@dataclass(frozen=True)
class Finished:
    """How a run ended: its result, what any sampler makes of the noise, and the scores of that, where the loop has seen
    predictions only; None where it has seen the batch itself."""

    result: Result
    batch: Batch
    scores: dict[str, float] | None = None


@torch.no_grad()
def finish(
    looks: Looks, objective: Objective, result: Result, noise: Tensor, start: Batch | None, compare: str
) -> Finished:
    """The noise found, rendered; or the start, where that is better as rendered.

    noise: of the start. start: what the loop saw of it; None where it was broken. compare: IN_DOUBT or ALWAYS.
    """
    if looks.prices.finishes and result.plain:
        return Finished(result, result.batch)
    batch = looks.render(result.noise)
    if looks.prices.finishes or start is None:
        return Finished(result, batch)
    scores = scored(objective.bind(start=start), batch)
    first, found = (result.history[i].loss for i in (0, result.best))
    if result.best and (compare == ALWAYS or doubtful(first, found, loss_of(scores))):
        begun = looks.render(noise)
        objective = objective.bind(start=begun)
        scores, before = scored(objective, batch), scored(objective, begun)
        if not loss_of(scores) <= loss_of(before):
            result = replace(result, noise=noise, batch=start, best=0, stopped=f"{result.stopped}; {WORSE}")
            batch, scores = begun, before
    return Finished(result, batch, named(scores))


def scored(objective: Objective, batch: Batch) -> list[Score]:
    """The scores of a batch; none where a picture is broken."""
    try:
        return [] if batch.broken().any() else objective(batch)
    except BrokenSamples:
        return []


def loss_of(scores: list[Score]) -> float:
    """Their loss; infinite where there are none, or where it is not a number."""
    loss = float(total_loss(scores)) if scores else math.inf
    return loss if math.isfinite(loss) else math.inf
