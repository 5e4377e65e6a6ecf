"""Diversity of a set of pictures: any features with any statistic."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .batch import Batch
from .features.base import Features
from .objective import Objective
from .statistics import STATISTICS, kernel


@dataclass(frozen=True, kw_only=True)
class Diversity(Objective):
    """How different the pictures of a batch are, from each other and from the references: 0 .. 1.

    features: how pictures are seen. statistic: a name in STATISTICS. target: within 0..1.
    """

    kind = "diversity"
    name: str = ""
    features: Features
    statistic: str = "vendi"
    _references: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ValueError(f"Diversity: no statistic {self.statistic!r}; choose one of {', '.join(STATISTICS)}.")
        if not self.name:
            object.__setattr__(self, "name", f"{self.features.name} {self.statistic}")
        super().__post_init__()
        if self.target is not None and not 0 <= self.target <= 1:
            raise ValueError(f"{self.name}: target is {self.target}; a diversity goes from 0 to 1.")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.features.source})

    def bind(self, start: Batch | None = None, references: Batch | None = None) -> Diversity:
        """With the features of the references, which join every batch as fixed members of the set."""
        if references is None:
            return self
        if getattr(references, self.features.source) is None:
            raise ValueError(
                f"{self.name} works on {self.features.source}, and the references have none: "
                "choose features of pictures, or take the references off."
            )
        with torch.no_grad():
            return replace(self, _references=references.features(self.features))

    def measure(self, batch: Batch) -> Tensor:
        """() the statistic of the batch and the references, with gradient to the batch alone."""
        seen = batch.features(self.features)
        K = kernel(self._with_references(seen))
        if len(K) < 2:
            raise ValueError(
                f"{self.name} compares pictures, and there is only one: raise the batch size of the latent, "
                "or wire references."
            )
        return STATISTICS[self.statistic](K).to(seen)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return self.features.networks

    def distances(self, batch: Batch) -> Tensor:
        """(B, B) the distances 1 - K, without the references."""
        return (1 - kernel(batch.features(self.features))).clamp(0, 1).fill_diagonal_(0)

    def apart(self, batch: Batch) -> Tensor | None:
        """(B,) the mean of the distances 1 - K to the references."""
        if self._references is None:
            return None
        K = kernel(self._with_references(batch.features(self.features)))[: len(batch), len(batch) :]
        return (1 - K).clamp(0, 1).mean(1)

    def _with_references(self, seen: Tensor) -> Tensor:
        if self._references is None:
            return seen
        if seen.shape[1:] != self._references.shape[1:]:
            raise ValueError(
                f"{self.name}: the references are seen as {tuple(self._references.shape[1:])} (places, channels) and "
                f"the batch as {tuple(seen.shape[1:])}: give references of the size of the pictures."
            )
        return torch.cat([seen, self._references.to(seen)])
