"""One look at a batch: it is sampled, scored and differentiated, and what broke in it is told from what did not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..objectives.batch import Batch, BrokenSamples
from ..objectives.objective import Objective, Score, total_loss
from .optimizers import OPTIMIZERS, only
from .prior import Whiteness
from .settings import Settings

Generate = Callable[[Tensor], Batch]


@dataclass(frozen=True)
class Evaluation:
    """What a noise gave.

    noise, batch, scores, loss: of the batch, in which a sample that broke is what it was when last sound.
    gradient: of the loss with respect to the noise, 0 for samples that failed; None where none was asked for.
    failed: (B,) samples with NaN or infinity in picture, score or gradient: no step can be taken from there.
    fell: (B,) samples that lost more of their quality than `rollback` allows.
    mended: whether those are here what they were when last sound, for an optimiser that `settles`.
    plain: whether every sample was made without a gradient, as any sampler makes it.
    """

    noise: Tensor
    batch: Batch
    scores: list[Score]
    loss: float
    gradient: Tensor | None
    failed: Tensor
    fell: Tensor
    mended: bool
    plain: bool

    @property
    def sound(self) -> bool:
        """Whether it may be what a run returns."""
        return math.isfinite(self.loss) and (self.mended or not bool(self.fell.any()))


class Evaluator:
    """Evaluates one noise after another. The first is the start, which later ones are compared with.

    generate: noise (B, C, ...) -> Batch, each sample by itself. So a sample that breaks (NaN or infinity) does not end
    the run: it is replaced by what it was when last sound, and the others go on. A score of the whole set that is not
    finite cannot be laid to one sample, so it breaks all of them.
    """

    def __init__(self, generate: Generate, objective: Objective, settings: Settings, start: Tensor) -> None:
        self.generate, self.objective, self.settings = generate, objective, settings
        self.mends = OPTIMIZERS[settings.optimizer].settles
        self.whiteness = Whiteness.of(start) if settings.whiteness_weight else None
        self.first: list[Score] = []
        self.sound: Evaluation | None = None

    def __call__(self, noise: Tensor, gradient: bool) -> Evaluation:
        """Raises BrokenSamples where the start is broken: there is nothing to go back to."""
        noise = noise.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            batch = self.generate(noise)
            batch, scores, broken = self._started(batch) if self.sound is None else self._mended(batch, self.sound)
            self.first = self.first or detached(scores)
            fell = self._fell(scores, broken)
            away = broken | fell if self.mends else broken
            if self.mends and self.sound is not None and fell.any():
                batch = batch.replaced(away, self.sound.batch)
                scores = self.objective(batch)
            loss = total_loss(scores) if scores else noise.new_zeros(())
        slope = self._gradient(loss, noise, away) if gradient else None
        failed = broken if slope is None else broken | ~slope.isfinite().flatten(1).all(dim=1)
        scores = detached(scores)
        seen = Evaluation(
            noise=noise.detach() if self.sound is None else only(away, self.sound.noise, noise.detach()),
            batch=batch.detach(),
            scores=scores,
            loss=float(loss.detach()),
            gradient=None if slope is None else only(failed, torch.zeros_like(slope), slope),
            failed=failed,
            fell=fell,
            mended=self.mends,
            plain=not gradient and not bool(away.any()),
        )
        if math.isfinite(seen.loss):
            self.sound = replace(seen, gradient=None)
        return seen

    def _started(self, batch: Batch) -> tuple[Batch, list[Score], Tensor]:
        """The starting batch, its scores, and that none of its samples is broken. Guards remember it."""
        broken = batch.broken()
        if broken.any():
            raise BrokenSamples(
                f"Sample {int(broken.nonzero()[0]) + 1} of the batch holds NaN or infinity before anything "
                "was optimized: change the seed of noise, the sampler, or the precision of model or VAE.",
                broken,
            )
        self.objective = self.objective.bind(start=batch.detach())
        scores = self.objective(batch)
        for score in scores:
            if (found := unscored([score], broken)).any():
                raise BrokenSamples(
                    f"{score.name} is {score.mean.item()} before anything was optimized: change the seed of noise, or "
                    "take this objective off.",
                    found,
                )
        return batch, scores, broken

    def _mended(self, batch: Batch, sound: Evaluation) -> tuple[Batch, list[Score], Tensor]:
        """The batch with broken samples as they were when last sound, its scores, and which samples (B,) are broken."""
        broken = batch.broken()
        while True:
            mended = batch.replaced(broken, sound.batch) if broken.any() else batch
            try:
                scores = self.objective(mended)
                found = unscored(scores, broken)
            except BrokenSamples as error:
                if broken.all():
                    raise
                found = error.samples.to(broken.device)
            if broken.all() or not found.any():
                return mended, scores, broken
            broken = broken | found if (found & ~broken).any() else torch.ones_like(broken)

    def _gradient(self, loss: Tensor, noise: Tensor, away: Tensor) -> Tensor:
        """The gradient of the loss, and of what its whiteness adds, with respect to the noise. away: (B,) samples that
        are not what the noise gave."""
        if away.all():
            return torch.zeros_like(noise)
        if not loss.requires_grad:
            raise RuntimeError(
                "No gradient reaches the noise: this model or objective cannot be differentiated. "
                "Set optimizer to cma, which needs none."
            )
        if self.whiteness is not None:
            loss = loss + self.settings.whiteness_weight * self.whiteness(noise).mean()
        return torch.autograd.grad(loss, noise)[0]

    def _fell(self, scores: list[Score], like: Tensor) -> Tensor:
        fell = torch.zeros_like(like)
        for score, first in zip(scores, self.first, strict=True):
            if score.role.rollback and score.values.ndim and self.settings.rollback < 1:
                fell |= score.lost(first, self.settings.rollback).to(fell.device)
        return fell


def detached(scores: list[Score]) -> list[Score]:
    return [replace(score, values=score.values.detach()) for score in scores]


def unscored(scores: list[Score], like: Tensor) -> Tensor:
    """(B,) the samples whose score is not finite: all of them where that is a score of the whole set."""
    found = torch.zeros_like(like)
    for score in scores:
        found |= ~score.values.detach().isfinite().to(like.device)
    return found
