"""Demo Score: how surely a small classifier sees the prompt, the demo's stand-in for a CLIP score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .batch import PICTURES, Batch
from .features.demo import SIDE, Tower
from .features.pooling import area_pool
from .objective import Objective


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoScore(Objective):
    """Probability of the prompt for each picture, 0..1. prompt: its row in the demo's table."""

    name = "Demo Score"
    kind = "quality"
    needs = PICTURES
    network: Tower
    prompt: int = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def measure(self, batch: Batch) -> Tensor:
        """(B,)"""
        return self.probabilities(batch)[:, self.prompt]

    def probabilities(self, batch: Batch) -> Tensor:
        """(B, prompts) of every prompt for each picture; the rows sum to 1."""
        pictures = batch.get(PICTURES)
        x = pictures if pictures.shape[-2:] == (SIDE, SIDE) else area_pool(pictures, SIDE, SIDE)
        return self.network(x.to(next(self.network.parameters()))).to(pictures).softmax(1)
