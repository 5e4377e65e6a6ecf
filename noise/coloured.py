"""Coloured noise: white noise whose frequencies are weighted (arXiv 2601.00090, Eq. 7, and two more spectra).

Each sample and channel is filtered in Fourier space over its height and width (over its length in a 1-D latent, over
its frames too if asked), then has zero mean and unit standard deviation. What is white already stays as it is, bit for
bit: alpha 0, and latents of a single pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .spectrum import frequencies, spatial_size

ALPHA_LIMIT = 2.0


def _paper(size: tuple[int, ...], spectrum: Spectrum) -> Tensor:
    """1 / (1 + k)^alpha, with k in whole cycles along each side (Eq. 7)."""
    return (1 + frequencies(size, per_side=True)) ** -spectrum.alpha


def _power_law(size: tuple[int, ...], spectrum: Spectrum) -> Tensor:
    """f^(-alpha / 2): the power falls as 1 / f^alpha, with f in cycles per latent pixel."""
    return frequencies(size).clamp(min=1 / (2 * max(size))) ** (-spectrum.alpha / 2)


def _band(size: tuple[int, ...], spectrum: Spectrum) -> Tensor:
    """The paper's form from `low` to `high`, nothing outside."""
    radius = frequencies(size)
    inside = (radius >= spectrum.low * radius.max()) & (radius <= spectrum.high * radius.max())
    return _paper(size, spectrum) * inside


SPECTRA: dict[str, Callable[[tuple[int, ...], Spectrum], Tensor]] = {
    "paper": _paper,
    "power law": _power_law,
    "band": _band,
}


@dataclass(frozen=True)
class Spectrum:
    """The colour of noise.

    kind: a row of SPECTRA. alpha: -2..2; above 0 pink, 0 white, below 0 blue.
    low, high: the edges of a band, as shares of the highest frequency that a latent holds (its diagonal); 0..1.
    time: whether the frames of a video are filtered along time as well.
    """

    kind: str = "paper"
    alpha: float = 0.2
    low: float = 0.0
    high: float = 0.5
    time: bool = False

    def __post_init__(self) -> None:
        if self.kind not in SPECTRA:
            raise ValueError(f"spectrum is {self.kind!r}; choose one of {', '.join(SPECTRA)}.")
        if not (math.isfinite(self.alpha) and abs(self.alpha) <= ALPHA_LIMIT):
            raise ValueError(f"alpha is {self.alpha}; set a number from {-ALPHA_LIMIT:g} to {ALPHA_LIMIT:g}.")
        if self.kind == "band" and not 0 <= self.low < self.high <= 1:
            raise ValueError(f"the band goes from {self.low} to {self.high}; set 0 <= low < high <= 1.")

    @property
    def is_white(self) -> bool:
        return self.alpha == 0 and (self.kind != "band" or (self.low == 0 and self.high == 1))

    def amplitude(self, size: tuple[int, ...]) -> Tensor:
        """(*size[:-1], size[-1] // 2 + 1) the weight of each bin of `rfftn` over `size`; that of the mean is 0."""
        weight = SPECTRA[self.kind](size, self)
        weight[(0,) * len(size)] = 0
        if not weight.any():
            sides = " x ".join(map(str, size))
            raise ValueError(
                f"no frequency of a {sides} latent lies in the band from {self.low} to {self.high}; widen the band."
            )
        return weight


def colour(white: Tensor, spectrum: Spectrum) -> Tensor:
    """White noise (B, C, L), (B, C, H, W) or (B, C, T, H, W) in `spectrum`: zero mean and unit (sample) standard
    deviation per sample and channel. Differentiable."""
    size = spatial_size(white)
    if spectrum.time and white.ndim == 5:
        size = tuple(white.shape[-3:])
    if spectrum.is_white or math.prod(size) == 1:
        return white
    bins = torch.fft.rfftn(white, s=size).mul_(spectrum.amplitude(size).to(white))
    noise = torch.fft.irfftn(bins, s=size)
    # The mean is 0, so the deviation is the norm; few passes, as memory rules the cost of a large batch.
    norm = torch.linalg.vector_norm(noise, dim=tuple(range(2, noise.ndim)), keepdim=True)
    return noise * (math.sqrt(white[0, 0].numel() - 1) / norm.clamp(min=torch.finfo(norm.dtype).tiny))
