"""The coordinates in which noise is optimised: every value of it, or the low frequencies of an orthonormal DCT-II.

Most of what optimisation changes lies in the lowest third of the spectrum (arXiv 2601.00090, Section 4.1), and a
gradient-free search needs few coordinates. The noise is always

    z = start + M S c        c: the change of the coefficients, 0 at the start;  S: the synthesis, S^T S = 1
                             M: 1 where the noise may move, 0 where a mask holds the picture

so `start` is read and never transformed back. What that gives: at c = 0 the noise is the start bit for bit; the
coefficients outside the band are those of `start`, which no step touches; and the noise handed out differs from them
only by the rounding of the one addition above, however many steps came before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BASES = ("full", "low frequency")
LOWEST_THIRD = 1 / 3


def dct_rows(size: int, count: int, like: Tensor) -> Tensor:
    """(count, size) the lowest `count` rows of the orthonormal DCT-II, with the dtype and device of `like`."""
    u, x = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)[None]
    rows = torch.cos(math.pi / size * (x + 0.5) * u) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows.to(like)


@dataclass(frozen=True)
class Basis:
    """Maps a change of coefficients to noise, and a gradient of the noise to one of the coefficients.

    start: (B, C, ..., H, W) or (B, C, L). rows, columns: (h, H), (w, W) orthonormal, or None for every value.
    free: M, 1 or 0 in the shape of start, or None where all of the noise may move.
    """

    start: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None
    free: Tensor | None = None

    def analyse(self, x: Tensor) -> Tensor:
        """S^T M x: what a gradient of the noise is for the coefficients; without a mask, the coefficients of x."""
        x = self.freed(x)
        if self.columns is not None:
            x = x @ self.columns.T
        return x if self.rows is None else self.rows @ x

    def synthesise(self, c: Tensor) -> Tensor:
        """M S c, in the shape of the noise."""
        if self.rows is not None:
            c = self.rows.T @ c
        return self.freed(c if self.columns is None else c @ self.columns)

    def noise(self, change: Tensor) -> Tensor:
        """start + M S change, in the shape and dtype of the start."""
        return self.start + self.synthesise(change)

    def freed(self, x: Tensor) -> Tensor:
        """M x: noise, or its gradient, where it may move."""
        return x if self.free is None else x * self.free

    @property
    def d(self) -> Tensor:
        """(B,) how many values of each sample may move."""
        if self.free is None:
            return self.start.new_full((len(self.start),), self.start[0].numel())
        return self.free.flatten(1).sum(dim=1)

    @property
    def moves(self) -> Tensor:
        """(B,) the samples of which anything may move."""
        return self.d > 0

    def radius(self, noise: Tensor) -> Tensor:
        """(B,) the norm of what may move, as a share of the likeliest, sqrt(d - 1): the mode of chi_d."""
        return norms(self.freed(noise)) / (self.d - 1).clamp(min=1).sqrt()


def make_basis(
    name: str, start: Tensor, band: float = LOWEST_THIRD, most: int | None = None, free: Tensor | None = None
) -> Basis:
    """The basis called `name` of the noise `start`.

    band: share of the frequencies of each side that is kept, 0..1 of the Nyquist frequency. most: at most so many a
    side. free: what broadcasts to start and is not 0 where the noise may move; None: all of it. Raises ValueError for
    an unknown name or a band outside 0..1.
    """
    if name not in BASES:
        raise ValueError(f"basis is {name!r}; choose one of {', '.join(BASES)}.")
    if not 0 < band <= 1:
        raise ValueError(f"band is {band}; set the share of frequencies to optimize, above 0 and at most 1.")
    if free is not None:
        free = (free != 0).to(start).expand_as(start)
    if name == "full" and most is None:
        return Basis(start, free=free)

    def lowest(size: int) -> Tensor:
        count = max(1, round(band * size)) if name != "full" else size
        return dct_rows(size, min(count, most or size), start)

    return Basis(start, lowest(start.shape[-2]) if start.ndim > 3 else None, lowest(start.shape[-1]), free)


def norms(x: Tensor) -> Tensor:
    """(B,) the Euclidean norm of each sample."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values as (B, 1, ..., 1), to multiply the samples of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
