"""Demo Score: how surely a small classifier sees the prompt, the demo's stand-in for a CLIP score."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from .batch import PICTURES, Batch
from .features.demo import SIDE, Tower
from .features.pooling import area_pool
from .objective import UNPROMPTED, Objective

PROMPTS = (
    "a house", "a fish", "a flower in a pot", "a sailing boat", "a tree", "a cat", "a car", "a hot-air balloon",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoScore(Objective):
    """Probability of the prompt for each picture, 0..1. prompt: its place in PROMPTS; None where it is yet to come."""

    name = "Demo Score"
    kind = "quality"
    needs = PICTURES
    network: Tower
    prompt: int | None = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def for_prompt(self, prompt: str) -> DemoScore:
        if self.prompt is not None:
            return self
        if prompt not in PROMPTS:
            raise ValueError(f"{self.name} knows no {prompt!r}; draw one of {', '.join(PROMPTS)}.")
        return replace(self, prompt=PROMPTS.index(prompt))

    def measure(self, batch: Batch) -> Tensor:
        """(B,)"""
        if self.prompt is None:
            raise ValueError(f"{self.name} has no prompt: {UNPROMPTED}")
        return self.probabilities(batch)[:, self.prompt]

    def probabilities(self, batch: Batch) -> Tensor:
        """(B, prompts) of every prompt for each picture; the rows sum to 1."""
        pictures = batch.get(PICTURES)
        x = pictures if pictures.shape[-2:] == (SIDE, SIDE) else area_pool(pictures, SIDE, SIDE)
        return self.network(x.to(next(self.network.parameters()))).to(pictures).softmax(1)
