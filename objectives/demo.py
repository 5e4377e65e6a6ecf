"""Demo Score: how surely a small classifier sees the prompt, the demo's stand-in for a CLIP score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import one_hot

from .batch import PICTURES, Batch
from .features.demo import SIDE, Tower
from .features.pooling import area_pool
from .objective import Objective


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoScore(Objective):
    """Probability of the prompt for each picture, 0..1.

    prompt: the row of the prompt's table, or one (B,) for each picture.
    """

    name = "Demo Score"
    kind = "quality"
    needs = PICTURES
    network: Tower
    prompt: int | Tensor = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def measure(self, batch: Batch) -> Tensor:
        """(B,)"""
        pictures = batch.get(PICTURES)
        x = pictures if pictures.shape[-2:] == (SIDE, SIDE) else area_pool(pictures, SIDE, SIDE)
        seen = self.network(x.to(next(self.network.parameters()))).to(pictures).softmax(1)
        if isinstance(self.prompt, int):
            return seen[:, self.prompt]
        return (seen * one_hot(self.prompt.to(seen.device), seen.shape[1])).sum(dim=1)
