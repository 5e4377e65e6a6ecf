"""How the candidates of a search are scored: each by its quality, every two by their distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..objectives.batch import Batch, BrokenSamples
from ..objectives.objective import Objective
from .sets import together


@dataclass(frozen=True)
class Scored:
    """Some candidates that were looked at.

    quality: (n,) float64, NaN where a candidate is broken. rows: which of them are not; seen: those as a batch, which
    remembers their features, or None where all are broken.
    """

    quality: Tensor
    rows: Tensor
    seen: Batch | None


def scored(objectives: Sequence[Objective], batch: Batch) -> Scored:
    """The candidates of a batch as these objectives see them; one in which there is nothing to see is broken."""
    rows = torch.arange(len(batch))[~batch.broken().cpu()]
    quality = torch.full((len(batch),), torch.nan, dtype=torch.float64)
    while len(rows):
        part = Batch(*(None if t is None else t[rows.to(t.device)] for t in (batch.latents, batch.pictures)))
        try:
            for objective in objectives:
                objective.distances(part)
            quality[rows] = _quality(objectives, part)
            return Scored(quality, rows, part)
        except BrokenSamples as error:
            rows = rows[~error.samples.cpu()]
    return Scored(quality, rows, None)


def joined(objectives: Sequence[Objective], parts: Sequence[Scored]) -> tuple[Tensor, Tensor]:
    """Quality (N,) and distances (N, N) of all the candidates of these parts; the distances of a broken one are 0."""
    quality = torch.cat([part.quality for part in parts])
    distance = torch.zeros(len(quality), len(quality), dtype=torch.float64)
    seen = [part.seen for part in parts if part.seen is not None]
    if seen:
        numbers = torch.arange(len(quality)).split([len(part.quality) for part in parts])
        rows = torch.cat([number[part.rows] for number, part in zip(numbers, parts, strict=True)])
        distance[rows[:, None], rows] = _distances(objectives, together(seen))
    return quality, distance


def _quality(objectives: Sequence[Objective], batch: Batch) -> Tensor:
    """(n,) minus the losses of the scores that each picture has: weighted, and no better than at their targets. And how
    far it is from pictures to differ from."""
    total = torch.zeros(len(batch), dtype=torch.float64)
    for objective in objectives:
        if (away := objective.apart(batch)) is not None:
            total += objective.weight * away.cpu().double()
        if objective.role.search == "scores":
            for score in objective(batch):
                total -= score.losses.cpu().double()
    return total


def _distances(objectives: Sequence[Objective], batch: Batch) -> Tensor:
    """(n, n) the sum of the distances of all objectives that compare pictures, each times its weight."""
    total = torch.zeros(len(batch), len(batch), dtype=torch.float64)
    for objective in objectives:
        if (matrix := objective.distances(batch)) is not None:
            total += objective.weight * matrix.cpu().double()
    return total
