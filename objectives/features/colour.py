"""Colour features: a soft joint histogram of Lab or RGB, as square roots (Bhattacharyya, 1943)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .base import Features
from .pooling import area_pool

Space = Literal["lab", "rgb"]
RANGES: dict[Space, tuple[tuple[float, float], ...]] = {
    "lab": ((0.0, 100.0), (-80.0, 80.0), (-80.0, 80.0)),  # sRGB reaches further only in its most saturated corners
    "rgb": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
}
SOFTNESS = 0.5  # standard deviation of a pixel's share over the bins, in bins
PIXELS = 64  # pictures are averaged to at most this many pixels a side: colour is of areas, not of texture
FLOOR = 1e-6  # keeps the slope of the square root finite in empty bins


@dataclass(frozen=True)
class ColourFeatures(Features):
    """The square roots of a soft histogram h of bins^3 colours; the inner product of two is sum sqrt(h_i h_j).

    That is 1 for the same colours in any arrangement and 0 for pictures without a common colour. The histogram is
    joint: with one histogram per channel, red-and-cyan would look like green-and-magenta.
    """

    space: Space = "lab"
    bins: int = 8
    name: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.space not in RANGES:
            raise ValueError(f"Color Features: no color space {self.space!r}; choose {' or '.join(RANGES)}.")
        if not 2 <= self.bins <= 32:
            raise ValueError(f"Color Features: bins is {self.bins}; set 2 to 32.")
        object.__setattr__(self, "name", f"Color Features ({self.space})")

    def encode(self, x: Tensor) -> Tensor:
        """(B, 1, bins^3)."""
        x = x if x.dtype == torch.float64 else x.float()
        x = area_pool(x.clamp(0, 1), *(min(PIXELS, side) for side in x.shape[-2:]))
        shares = [self._shares(channel, *limits) for channel, limits in zip(self._convert(x), RANGES[self.space])]
        histogram = torch.einsum("bnl,bnm,bno->blmo", *shares).flatten(1) / shares[0].shape[1]
        return (histogram + FLOOR).sqrt()[:, None]

    def _convert(self, x: Tensor) -> tuple[Tensor, ...]:
        """Three channels (B, N) of the colour space."""
        if self.space == "lab":
            from kornia.color import rgb_to_lab

            x = rgb_to_lab(x)
        return x.flatten(2).unbind(1)

    def _shares(self, channel: Tensor, low: float, high: float) -> Tensor:
        """(B, N, bins) how much each pixel belongs to each bin; sums to 1 over the bins."""
        centres = torch.arange(self.bins, dtype=channel.dtype, device=channel.device) + 0.5
        position = (channel - low) / (high - low) * self.bins
        return torch.softmax(-0.5 * ((position[..., None] - centres) / SOFTNESS) ** 2, dim=-1)
