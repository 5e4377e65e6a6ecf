"""How the power of noise is spread over spatial frequency: radial spectra, shares of bands, the change per band.

Frequency is radial, in cycles per latent pixel: 0 is the mean, 0.5 the finest stripe along an axis, 0.707 the finest
chequerboard. Bands are equal parts of it, up to the highest the latent holds; white noise at 64 x 64 has 17.5 % of its
power in the lowest of three. Latents are (B, C, L), (B, C, H, W) or (B, C, T, H, W); each frame of a video counts by
itself. Bins are summed by matrix products, which unlike `index_add` add in a fixed order on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def frequencies(size: tuple[int, ...], per_side: bool = False, device: torch.device | str | None = None) -> Tensor:
    """Radial frequency of each bin of `rfftn` over `size`: (*size[:-1], size[-1] // 2 + 1) float32.

    In cycles per latent pixel; with `per_side` in whole cycles along each side, as arXiv 2601.00090 has it.
    """
    squared = torch.zeros((), device=device)
    for axis, n in enumerate(size):
        last = axis == len(size) - 1
        along = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(n, 1 / n if per_side else 1.0, device=device)
        squared = squared[..., None] + along.square()
    return squared.sqrt()


def multiplicity(size: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
    """(size[-1] // 2 + 1,) how many bins of the full FFT each column of `rfftn` stands for: 2, or 1 where it is its own
    mirror image."""
    n = size[-1]
    columns = torch.full((n // 2 + 1,), 2.0, device=device)
    columns[0] = 1
    if n % 2 == 0:
        columns[-1] = 1
    return columns


def spatial_size(noise: Tensor) -> tuple[int, ...]:
    """The sides that space has in a latent: the last one of (B, C, L), else the last two."""
    if not 3 <= noise.ndim <= 5 or 0 in noise.shape:
        raise ValueError(
            f"noise of shape {tuple(noise.shape)} has no spectrum: "
            "it must be (batch, channels, length), (.., height, width) or (.., frames, height, width), each at least 1."
        )
    return tuple(noise.shape[-min(2, noise.ndim - 2) :])


def power(noise: Tensor) -> Tensor:
    """(B, *bins) power of each bin of `frequencies`, averaged over channels and frames; white noise expects 1 per
    full-FFT bin, so a bin that stands for two expects 2."""
    size = spatial_size(noise)
    bins = torch.fft.rfftn(noise.float(), s=size, norm="ortho").abs().square()
    return bins.flatten(1, -len(size) - 1).mean(1) * multiplicity(size, noise.device)


def radial_spectrum(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power over rings one cycle wide: frequencies (R,) in cycles per latent pixel, power (B, R); white is 1."""
    size = spatial_size(noise)
    radius = frequencies(size, device=noise.device)
    _, ring = torch.unique((radius * max(size)).round().long().flatten(), return_inverse=True)
    weight = multiplicity(size, noise.device).expand(radius.shape).flatten()

    def per_ring(values: Tensor) -> Tensor:
        return values @ one_hot(ring).to(values)

    count = per_ring(weight)
    return per_ring(radius.flatten() * weight) / count, per_ring(power(noise).flatten(1)) / count


def band_shares(noise: Tensor, bands: int = 3) -> Tensor:
    """(B, bands) share of each sample's power in each band of radial frequency, lowest first; rows sum to 1.

    A sample without any power has shares of 0.
    """
    size = spatial_size(noise)
    radius = frequencies(size, device=noise.device).flatten()
    position = radius / radius.max().clamp(min=torch.finfo(radius.dtype).tiny)
    band = (position * bands + 1e-5).long().clamp(max=bands - 1)
    spread = power(noise).flatten(1)
    sums = spread @ one_hot(band, bands).to(spread)
    return sums / sums.sum(1, keepdim=True).clamp(min=torch.finfo(sums.dtype).tiny)


def band_change(before: Tensor, after: Tensor, bands: int = 3) -> Tensor:
    """(B, bands) share of each band in the power of what changed between two noises, lowest first."""
    return band_shares(after - before, bands)
