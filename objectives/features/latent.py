"""Latent features: the sampler's prediction, average-pooled (arXiv 2510.03813); no decoder, no download."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import Features
from .pooling import area_pool


@dataclass(frozen=True)
class LatentFeatures(Features):
    """Latents (B, C, ..., H, W) averaged over a grid x grid raster, as one vector of C * ... * grid^2 numbers.

    Pooling forgets texture, which differs between any two seeds, and keeps layout and colour, which collapse.
    """

    name = "Latent Features"
    source = "latents"
    grid: int = 8

    def __post_init__(self) -> None:
        if self.grid < 1:
            raise ValueError(f"{self.name}: grid is {self.grid}; set 1 or more.")

    def encode(self, x: Tensor) -> Tensor:
        """(B, 1, C * ... * grid^2)."""
        if x.dim() < 4:
            raise ValueError(
                f"{self.name} need latents with height and width; these are of shape {tuple(x.shape)}: "
                "wire the latents of a picture or video model."
            )
        return area_pool(x.flatten(1, -3), *(min(self.grid, side) for side in x.shape[-2:])).flatten(1)[:, None]
