"""Area pooling to any size: every output pixel is the exact mean of the area it covers."""

from __future__ import annotations

import torch
from torch import Tensor


def area_pool(x: Tensor, height: int, width: int) -> Tensor:
    """(..., height, width) from (..., H, W), height <= H and width <= W need not divide them.

    Two matrix products, because adaptive pooling weighs overlapping windows unequally and lacks these sizes on MPS.
    """
    rows, columns = (_shares(*sizes).to(x) for sizes in ((x.shape[-2], height), (x.shape[-1], width)))
    return rows @ x @ columns.T


def _shares(size: int, cells: int) -> Tensor:
    """(cells, size) float64 the share of each cell that each pixel fills; rows sum to 1."""
    edges = torch.arange(cells + 1, dtype=torch.float64)[:, None] * (size / cells)
    pixels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edges[1:], pixels + 1) - torch.maximum(edges[:-1], pixels)
    return overlap.clamp(min=0) * (cells / size)
