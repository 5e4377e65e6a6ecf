"""Noise sets: a few patterns of low frequencies, found once for a model, that make the noise of every seed differ.

White noise has independent standard normal coefficients in an orthonormal DCT-II, whatever its size. So the lowest
coefficients at one size are the lowest at every other, and a pattern takes their place in fresh noise of any size:

    z = white + S (sqrt(s) p + sqrt(1 - s) c - c)       c = S^T white: the lowest coefficients;  s: strength, 0..1

With patterns like white noise that keeps the variance at every strength, and at 0 it is the fresh noise bit for bit.

Time is a third axis of a video, and a pattern is in its lowest coefficient (the mean over frames, times sqrt(T)). Were
it laid into each frame instead, the frames would share a part of their spectrum, which no video model was trained on:
the coefficients of the whole stay those of white noise, and a video of one frame is a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .basis import Basis, dct_rows

NEIGHBOURS = 4  # pictures in a row that are to differ
STARTS, TOLERANCE = 8, 1e-9  # of the search for their order


@dataclass(frozen=True, eq=False)
class NoiseSet:
    """K patterns. Raises ValueError where they are none, or order is none of theirs.

    coefficients: (K, C, h, w) the lowest coefficients of each channel, of a kind with standard normal ones; h is 1 for
        latents of one dimension. order: all K numbers, so that neighbours differ as much as can be.
    size: of the latents they were found at, without batch and channels. model, latent_format: names, "" where unknown.
    prompts: what they were found on; unseen: what was kept out. scores, settings: anything that JSON can hold.
    """

    coefficients: Tensor
    order: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    model: str = ""
    latent_format: str = ""
    prompts: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    scores: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.coefficients.ndim != 4 or 0 in self.coefficients.shape:
            raise ValueError(f"coefficients are {tuple(self.coefficients.shape)}; give (patterns, channels, h, w).")
        if not self.coefficients.isfinite().all():
            raise ValueError("coefficients hold values that are not finite.")
        if not self.order:
            object.__setattr__(self, "order", tuple(range(len(self))))
        if sorted(self.order) != list(range(len(self))):
            raise ValueError(f"order is {self.order}; give each of the {len(self)} patterns its place.")

    def __len__(self) -> int:
        return len(self.coefficients)

    def numbers(self, seed: int, index: Sequence[int]) -> list[int]:
        """The patterns of pictures `index` of a batch of `seed`: one step further in the order for each, from the
        seed's own place, so that a batch goes on where the batch of the seed before it began."""
        return [self.order[(seed + i) % len(self)] for i in index]

    def applied(self, white: Tensor, numbers: Sequence[int], strength: float = 1.0) -> Tensor:
        """White noise (B, C, L), (B, C, H, W) or (B, C, T, H, W) with the patterns `numbers` (B) in it.

        strength: the share of a pattern in the variance, 0..1. Where the noise has fewer coefficients than a pattern,
        those that it has. Raises ValueError where its channels are not those of the set.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}; set 0 (fresh noise) to 1 (the set).")
        channels = self.coefficients.shape[1]
        if white.shape[1] != channels:
            raise ValueError(
                f"the noise set was found for latents of {channels} channels{self.whose()}, and this latent has "
                f"{white.shape[1]}; choose a set that was found for this model."
            )
        if strength == 0:
            return white
        basis, whole = lowest(white, self.coefficients.shape[-2:])
        fresh = basis.analyse(basis.start)
        pattern = self.coefficients[list(numbers), :, : fresh.shape[-2], : fresh.shape[-1]].to(fresh)
        change = basis.synthesise(math.sqrt(strength) * pattern + (math.sqrt(1 - strength) - 1) * fresh)
        return (whole + change[:, :, None] / math.sqrt(whole.shape[2])).reshape(white.shape)

    def whose(self) -> str:
        """Of which model, for a message."""
        names = " ".join(name for name in (self.model, f"({self.latent_format})" if self.latent_format else "") if name)
        return f" of {names}" if names else ""


def lowest(white: Tensor, band: Sequence[int]) -> tuple[Basis, Tensor]:
    """The basis of the lowest (h, w) coefficients of noise, fewer where it has fewer, and the noise as (B, C, T, H, W).

    The basis starts from the lowest coefficients (B, C, H, W) along time.
    """
    *_, T, H, W = (1, 1, *white.shape[2:])
    whole = white.reshape(*white.shape[:2], T, H, W)
    rows, columns = (dct_rows(size, min(size, count), white) for size, count in zip((H, W), band, strict=True))
    return Basis(whole.sum(dim=2) / math.sqrt(T), rows, columns), whole


def apart(likeness: Tensor) -> tuple[int, ...]:
    """A cyclic order of K things in which any four neighbours differ as much as can be.

    likeness: (K, K), 1 on the diagonal, such as a mean kernel of features. What is lowered is the sum of
    ||likeness_W||^2 over all neighbourhoods W of four; 16 / ||likeness_W||^2 is their Vendi score of order 2. It is
    lowered by the best swap of two, again and again, from several orders; the best is kept. The same likeness gives the
    same order.
    """
    K, L = len(likeness), likeness.double().cpu().square()
    gap = (torch.arange(K)[:, None] - torch.arange(K)).abs()
    shared = (NEIGHBOURS - torch.minimum(gap, K - gap)).clamp(min=0).double()  # neighbourhoods that hold both places
    swaps, generator = torch.combinations(torch.arange(K)), torch.Generator().manual_seed(0)

    def alike(orders: Tensor) -> Tensor:
        """(n,) of orders (n, K)."""
        return (L[orders[:, :, None], orders[:, None, :]] * shared).sum(dim=(1, 2))

    def lowered(order: Tensor) -> tuple[float, Tensor]:
        least = alike(order[None])[0]
        while True:
            tries = order.repeat(len(swaps), 1)
            tries.scatter_(1, swaps, tries.gather(1, swaps.flip(1)))
            values = alike(tries)
            if not len(swaps) or values.min() >= least - TOLERANCE:
                return float(least), order
            least, order = values.min(), tries[values.argmin()]

    starts = [torch.arange(K), *(torch.randperm(K, generator=generator) for _ in range(STARTS))]
    _, best = min(map(lowered, starts), key=lambda found: found[0])
    return tuple(best.tolist())
