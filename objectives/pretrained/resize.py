"""Resizing as two matrix products: every output pixel is a weighted mean of input pixels, with a fixed order of sums.

The derivative of torch's `interpolate` adds on CUDA in whatever order threads finish, so that two runs differ; that of
a matrix product does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def triangle(t: Tensor) -> Tensor:
    """1 - |t|: linear interpolation."""
    return 1 - t.abs()


def cubic(t: Tensor) -> Tensor:
    """Keys' cubic convolution (1981) with a = -1/2, as Pillow and torch use it where they filter."""
    t = t.abs()
    return torch.where(t < 1, (1.5 * t - 2.5) * t**2 + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2)


@dataclass(frozen=True)
class Filter:
    """A row of FILTERS. weight: of an input pixel at a distance in pixels; reach: the distance from which it is 0.

    widened: whether it is stretched over all of the input that an output pixel covers, so that nothing aliases.
    """

    weight: Callable[[Tensor], Tensor]
    reach: float
    widened: bool = True


FILTERS = {
    "bilinear": Filter(triangle, 1),
    "bicubic": Filter(cubic, 2),
    "bilinear, not filtered": Filter(triangle, 1, widened=False),  # torch's own bilinear without antialias
}


def resize(x: Tensor, height: int, width: int, interpolation: str = "bicubic") -> Tensor:
    """(..., height, width) from (..., H, W), as torch's `interpolate` does with antialias; a row of FILTERS."""
    rows, columns = (_weights(*sizes, FILTERS[interpolation]).to(x) for sizes in zip(x.shape[-2:], (height, width)))
    return rows @ (x @ columns.T)


def _weights(size: int, pixels: int, by: Filter) -> Tensor:
    """(pixels, size) float64 how much of each input pixel is in each output pixel; rows sum to 1."""
    scale = size / pixels
    stretch = max(scale, 1.0) if by.widened else 1.0
    centres = (torch.arange(pixels, dtype=torch.float64)[:, None] + 0.5) * scale - 0.5
    if not by.widened:
        centres = centres.clamp(0, size - 1)  # the edge is repeated
    distance = (torch.arange(size, dtype=torch.float64) - centres) / stretch
    weights = by.weight(distance).masked_fill(distance.abs() >= by.reach, 0.0)
    return weights / weights.sum(dim=1, keepdim=True)
