"""Sets larger than a batch: made one batch after another, each different from all before, in the memory of one.

What is finished is a reference for what follows (arXiv 2601.00090, sequential sets); its features are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..objectives.batch import Batch
from ..objectives.features.base import Features
from ..objectives.objective import Objective, Sum


@dataclass(frozen=True, eq=False)
class Together(Batch):
    """Several batches as one; its features are those of its parts, which remember them."""

    parts: tuple[Batch, ...] = ()

    def features(self, extractor: Features) -> Tensor:
        return torch.cat([part.features(extractor) for part in self.parts])


def together(batches: Sequence[Batch]) -> Batch:
    """One batch of several; latents or pictures are None where a part has none.

    >>> made = [Batch(latents=torch.ones(2, 4, 8, 8)), Batch(latents=torch.zeros(1, 4, 8, 8))]
    >>> len(together(made))  # for what follows: objective.bind(references=together(made))
    3
    """
    if len(batches) == 1:
        return batches[0]

    def joined(tensors: list[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if len(present) == len(tensors) else None

    return Together(
        latents=joined([batch.latents for batch in batches]),
        pictures=joined([batch.pictures for batch in batches]),
        parts=tuple(batches),
    )


def alone(objective: Objective) -> Objective:
    """The objective of one picture that has nothing to differ from: its quality and its guards."""
    return Sum(terms=tuple(leaf for leaf in objective.leaves() if leaf.role.compares != "set"))


def turns(total: int, at_once: int) -> Iterator[list[int]]:
    """The places in a set of `total` samples, as many at a time as are made at once."""
    for first in range(0, total, at_once):
        yield list(range(first, min(first + at_once, total)))
