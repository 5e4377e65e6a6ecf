"""An objective maps a batch of pictures to named scores; objectives add with `+` and scale with `*`.

A leaf says what it needs (`needs`), what its score means (`kind`) and how to measure it (`measure`). Its place in the
loss is the same for all (arXiv 2601.00090, Eq. 3): with a target t the term is max(0, w (t - score)), without one it
is -w * score. So a negative weight lowers the score, and its target is what the score need not fall below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from .batch import PICTURES, Batch

Kind = Literal["diversity", "quality", "guard"]


@dataclass(frozen=True)
class Score:
    """One named score of a batch.

    values: () for a score of the whole set, (B,) for a score of each picture. Diversities are 0..1.
    span: how far usual pictures lie apart in this score, in its own units; what may be lost is a share of it.
    """

    name: str
    kind: Kind
    values: Tensor
    weight: float = 1.0
    target: float | None = None
    span: float = 1.0

    @property
    def mean(self) -> Tensor:
        """() the score, averaged over the pictures where each has its own."""
        return self.values.mean()

    @property
    def losses(self) -> Tensor:
        """The loss of each value: max(0, w (target - score)) with a target, else -w * score."""
        if self.target is None:
            return -self.weight * self.values
        return (self.weight * (self.target - self.values)).clamp(min=0)

    @property
    def loss(self) -> Tensor:
        """() the mean of `losses`."""
        return self.losses.mean()

    @property
    def wanted(self) -> bool:
        """Whether there is a target to reach. A weight of 0 only reports."""
        return self.target is not None and self.weight != 0

    @property
    def reached(self) -> bool:
        """Whether every value is at its target; False without a target."""
        return self.target is not None and not bool(self.losses.any())

    def lost(self, start: Score, share: float) -> Tensor:
        """Whether each value is worse than at the start by more than `share` of the span, and short of its target."""
        sign = -1.0 if self.weight < 0 else 1.0
        floor = sign * start.values - share * self.span
        if self.target is not None:
            floor = floor.clamp(max=sign * self.target)
        return sign * self.values < floor


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Base of all objectives. A leaf sets `needs`, `kind`, `name` and writes `measure`.

    weight: any finite number; negative lowers the score. target: the score at which the term is content.
    span: how far usual pictures lie apart in this score, in its own units, e.g. 1 for a probability.
    """

    weight: float = 1.0
    target: float | None = None
    span: float = 1.0
    name: str = field(default="", kw_only=True)
    kind: Kind = field(default="diversity", init=False, repr=False)
    needs: frozenset[str] = field(default=frozenset({PICTURES}), init=False, repr=False)

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"{self.name}: weight is {self.weight}; set a finite number.")
        if self.target is not None and not math.isfinite(self.target):
            raise ValueError(f"{self.name}: target is {self.target}; set a finite number or leave it out.")
        if not 0 < self.span < math.inf:
            raise ValueError(f"{self.name}: span is {self.span}; set a finite number above 0.")

    @abstractmethod
    def measure(self, batch: Batch) -> Tensor:
        """The score: () for a set, (B,) for each picture; differentiable."""

    def bind(self, start: Batch | None = None, references: Batch | None = None) -> Objective:
        """This objective with what it must remember of the starting batch and of pictures to differ from.

        Whatever is costly about them (their features) is computed here, once, without gradient.
        """
        return self

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The pretrained networks that measuring runs, for the host to place on its device."""
        return ()

    def distances(self, batch: Batch) -> Tensor | None:
        """(B, B) how far each picture is from each other, 0 (the same) .. 1; None where pictures are not compared."""
        return None

    def leaves(self) -> tuple[Objective, ...]:
        return (self,)

    def __call__(self, batch: Batch) -> list[Score]:
        for need in sorted(self.needs):
            if getattr(batch, need) is None:
                raise ValueError(f"{self.name} needs {need}, and this batch has none.")
        return [Score(self.name, self.kind, self.measure(batch), self.weight, self.target, self.span)]

    def __mul__(self, factor: float) -> Objective:
        return replace(self, weight=self.weight * factor)

    __rmul__ = __mul__

    def __add__(self, other: Objective) -> Sum:
        return Sum(terms=self.leaves() + other.leaves())


@dataclass(frozen=True, kw_only=True)
class Sum(Objective):
    """Several objectives as one."""

    terms: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset().union(*(term.needs for term in self.terms)))

    def measure(self, batch: Batch) -> Tensor:
        return -total_loss(self(batch))

    def bind(self, start: Batch | None = None, references: Batch | None = None) -> Sum:
        return replace(self, terms=tuple(term.bind(start, references) for term in self.terms))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return tuple(dict.fromkeys(network for term in self.terms for network in term.networks))

    def leaves(self) -> tuple[Objective, ...]:
        return self.terms

    def __call__(self, batch: Batch) -> list[Score]:
        return [score for term in self.terms for score in term(batch)]

    def __mul__(self, factor: float) -> Sum:
        return replace(self, terms=tuple(term * factor for term in self.terms))

    __rmul__ = __mul__


def combine(objectives: Sequence[Objective]) -> Sum:
    """The sum of objectives of which at least one has a weight."""
    leaves = tuple(leaf for objective in objectives for leaf in objective.leaves())
    if not leaves:
        raise ValueError("Combine Objectives has no objective: wire at least one.")
    if all(leaf.weight == 0 for leaf in leaves):
        raise ValueError("Every objective has weight 0: give at least one of them a weight.")
    return Sum(terms=leaves)


def total_loss(scores: list[Score]) -> Tensor:
    """() the sum of the terms of Eq. 3, without the prior on the noise."""
    return torch.stack([score.loss for score in scores]).sum()
