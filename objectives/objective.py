"""An objective maps a batch to named scores; objectives add, subtract and scale like numbers.

A leaf states what its score means (`kind`) and what it looks at (`needs`), and says how to measure it (`measure`). Its
place in the loss is the same for all (arXiv 2601.00090, Eq. 3): without a target the term is -w * score, with a target
t it is max(0, w (t - score)). So a negative weight lowers the score, and its target is what it need not fall below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .facts import FACTS
from .kinds import KINDS, Kind, Role

UNPROMPTED = "write one into it, or use it where the prompt that is drawn is known, as in Find Noise Set."


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
    def role(self) -> Role:
        """What a score of its kind takes part in."""
        return KINDS[self.kind]

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
    """Base of all objectives. A new one is a frozen dataclass that states `kind` and `needs`, and writes `measure`.

    kind: a row of KINDS. needs: "pictures" or "latents", or both in a tuple. name: what its score is called, by default
        as its class. span: how far usual pictures lie apart in this score, in its own units, by default 1, as for a
        probability. These are facts of the class, checked when it is made; where one depends on what an object is made
        with, it is a property or a field.
    weight: any finite number; negative lowers the score, 0 only reports it.
    target: the score at which its term in the loss is 0.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Brightness(Objective):
    ...     kind = "quality"
    ...     needs = "pictures"
    ...     channel: int = 0
    ...
    ...     def measure(self, batch):
    ...         return batch.pictures[:, self.channel].mean(dim=(1, 2))
    >>> Brightness(channel=2, weight=0.5)(Batch(pictures=torch.ones(2, 3, 8, 8)))
    [Score(name='Brightness', kind='quality', values=tensor([1., 1.]), weight=0.5, target=None, span=1.0)]
    """

    weight: float = 1.0
    target: float | None = None

    if TYPE_CHECKING:  # as read-only properties, so that a class attribute, a field or a property may state them

        @property
        def name(self) -> str: ...

        @property
        def kind(self) -> Kind: ...

        @property
        def needs(self) -> Collection[str]: ...

        @property
        def span(self) -> float: ...

    def __init_subclass__(cls, leaf: bool = True, **options: Any) -> None:
        """leaf: whether the class has a score of its own, and so has facts to state."""
        super().__init_subclass__(**options)
        if leaf:
            for fact, checked in FACTS.items():
                if not isinstance(stated := getattr(cls, fact, None), (property, Field)):
                    type.__setattr__(cls, fact, checked(cls.__name__, stated))

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.default is not MISSING and (stated := getattr(type(self), each.name)) is not each.default:
                raise TypeError(
                    f"{type(self).__name__}: {each.name} = {stated!r} has no type and would be ignored; "
                    f"write {each.name}: {each.type} = {stated!r}."
                )
        for fact, checked in FACTS.items():
            checked(type(self).__name__, getattr(self, fact))
        if not math.isfinite(self.weight):
            raise ValueError(f"{self.name}: weight is {self.weight}; set a finite number.")
        if self.target is not None and not math.isfinite(self.target):
            raise ValueError(f"{self.name}: target is {self.target}; set a finite number or leave it out.")

    @property
    def role(self) -> Role:
        """What an objective of its kind takes part in."""
        return KINDS[self.kind]

    @abstractmethod
    def measure(self, batch: Batch) -> Tensor:
        """The score: () for a set, (B,) for each picture; differentiable."""

    def bind(self, start: Batch | None = None, references: Batch | None = None) -> Objective:
        """This objective with what it must remember of the starting batch and of pictures to differ from.

        Whatever is costly about them (their features) is computed here, once, without gradient.
        """
        return self

    def for_prompt(self, prompt: str) -> Objective:
        """This objective for pictures of `prompt`, where it scores by a prompt and was made without one."""
        return self

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The pretrained networks that measuring runs, for the host to place on its device."""
        return ()

    def distances(self, batch: Batch) -> Tensor | None:
        """(B, B) how far each picture is from each other, 0 (the same) .. 1; None where pictures are not compared."""
        return None

    def apart(self, batch: Batch) -> Tensor | None:
        """(B,) how far each picture is from the references, 0 (the same) .. 1; None where there are none."""
        return None

    def leaves(self) -> tuple[Objective, ...]:
        return (self,)

    def __call__(self, batch: Batch) -> list[Score]:
        for need in sorted(self.needs):
            if getattr(batch, need) is None:
                raise ValueError(f"{self.name} needs {need}, and this batch has none.")
        values = self.measure(batch)
        if values.shape not in ((), (len(batch),)):
            raise ValueError(
                f"{self.name}: measure gave a score of shape {tuple(values.shape)} for a batch of {len(batch)}; "
                f"return () for the set or ({len(batch)},) for each picture."
            )
        return [Score(self.name, self.kind, values, self.weight, self.target, self.span)]

    def __add__(self, other: Objective) -> Sum:
        return Sum(terms=(self, other)) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: int) -> Objective:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # 0 is where sum() begins

    def __sub__(self, other: Objective) -> Sum:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __neg__(self) -> Objective:
        return self * -1

    def __mul__(self, factor: float) -> Objective:
        return replace(self, weight=self.weight * factor) if isinstance(factor, (int, float)) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1 / divisor) if isinstance(divisor, (int, float)) else NotImplemented


@dataclass(frozen=True, kw_only=True)
class Sum(Objective, leaf=False):
    """Several objectives as one. Weights and targets are those of its terms: scaling it scales each of them."""

    terms: tuple[Objective, ...] = ()
    weight: float = field(default=1.0, init=False, repr=False)
    target: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(leaf for term in self.terms for leaf in term.leaves()))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(term.needs for term in self.terms))

    def measure(self, batch: Batch) -> Tensor:
        """() what its terms add up to: minus the loss."""
        return -total_loss(self(batch))

    def bind(self, start: Batch | None = None, references: Batch | None = None) -> Sum:
        return replace(self, terms=tuple(term.bind(start, references) for term in self.terms))

    def for_prompt(self, prompt: str) -> Sum:
        return replace(self, terms=tuple(term.for_prompt(prompt) for term in self.terms))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return tuple(dict.fromkeys(network for term in self.terms for network in term.networks))

    def leaves(self) -> tuple[Objective, ...]:
        return self.terms

    def __call__(self, batch: Batch) -> list[Score]:
        return [score for term in self.terms for score in term(batch)]

    def __mul__(self, factor: float) -> Sum:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return replace(self, terms=tuple(term * factor for term in self.terms))

    __rmul__ = __mul__


def combine(objectives: Sequence[Objective]) -> Sum:
    """The sum of objectives of which at least one has a weight, as Combine Objectives gives it.

    >>> from noise_optimize.objectives import DetailGuard, Diversity, LatentFeatures
    >>> combine([Diversity(features=LatentFeatures(), weight=2), DetailGuard()]).needs == {"latents", "pictures"}
    True
    """
    whole = Sum(terms=tuple(objectives))
    if not whole.terms:
        raise ValueError("Combine Objectives has no objective: wire at least one.")
    if all(leaf.weight == 0 for leaf in whole.terms):
        raise ValueError("Every objective has weight 0: give at least one of them a weight.")
    return whole


def total_loss(scores: list[Score]) -> Tensor:
    """() the sum of the terms of Eq. 3, without the prior on the noise."""
    return torch.stack([score.loss for score in scores]).sum()
