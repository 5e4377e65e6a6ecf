"""How likely a noise is as a draw from the prior: its radius, and its whiteness measured from where it started.

Each penalty is (B,), in nats, zero at its best and computed for each sample on its own in float32 at least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .spectrum import frequencies, radial_spectrum, spatial_size

COLUMNS = 64  # k of Direct Noise Optimization: noise is read as rows of so many values
ORDERS = 4  # random orders in which it is read, beside its own
FLOOR = 0.01  # least power of the starting spectrum, beside 1 of white noise, that is divided out


def radius_penalty(noise: Tensor) -> Tensor:
    """(B,) the chi_d negative log-density of each radius r, above its least value (arXiv 2601.00090):

        1/2 r^2 - (d - 1) ln r    with d values a sample and the minimum at r = sqrt(d - 1)

    noise: (B, C, ..., H, W). The constant is taken off before anything is summed, so float32 is enough at any d.
    """
    squared = _at_least_float32(noise).flatten(1).square().sum(dim=1)
    best = noise[0].numel() - 1
    if best == 0:
        return squared / 2
    return (squared - best) / 2 - best / 2 * (squared.clamp(min=torch.finfo(squared.dtype).tiny) / best).log()


@dataclass(frozen=True)
class Whiteness:
    """Whiteness of noise, relative to the spectrum of the noise it started as (Direct Noise Optimization, 2405.18881).

    A sample is read as N rows of k values, in its own order and in random ones. With M1 the length of the mean row and
    M2 the spectral norm of (covariance - 1), each order adds the bounds on how likely that is of white noise:

        N M1^2 / (2 k)  +  N / 2 max(sqrt(1 + M2) - 1 - sqrt(k / N), 0)^2

    gain: (*bins) the factor for each bin of `rfftn` that makes the start white; orders: (O, N * k) indices.
    """

    gain: Tensor
    orders: Tensor
    columns: int

    @classmethod
    def of(cls, start: Tensor) -> Whiteness:
        """Measured from `start` (B, C, ..., H, W): pink noise may stay as pink as it was.

        The mean of each channel takes the power of the lowest frequency beside it: coloured noise has no mean.
        """
        size = spatial_size(start)
        centre, power = radial_spectrum(start.detach())
        ring = torch.bucketize(frequencies(size, device=start.device), (centre[1:] + centre[:-1]) / 2)
        gain = power.mean(dim=0).clamp(min=FLOOR).rsqrt()[ring.clamp(min=min(1, len(centre) - 1))]
        values = start[0].numel()
        columns = min(COLUMNS, max(1, math.isqrt(values)))
        used = values // columns * columns
        generator = torch.Generator().manual_seed(0)
        shuffled = [torch.randperm(values, generator=generator)[:used] for _ in range(ORDERS)]
        return cls(gain, torch.stack([torch.arange(used), *shuffled]).to(start.device), columns)

    def __call__(self, noise: Tensor) -> Tensor:
        """(B,) the penalty, averaged over the orders; about 1/2 for noise as white as its start."""
        size = spatial_size(noise)
        bins = torch.fft.rfftn(_at_least_float32(noise), s=size)
        flat = torch.fft.irfftn(bins * self.gain.to(bins.real.dtype), s=size).flatten(1)
        reads = [flat[:, order] for order in self.orders]  # one by one: reading a value twice at once has a derivative
        rows = torch.stack(reads, 1).unflatten(-1, (-1, self.columns))  # that threads sum in any order
        N, k = rows.shape[-2:]
        mean = rows.mean(dim=-2).square().sum(dim=-1)
        covariance = (rows.mT @ rows / N).cpu().double()
        excess = torch.linalg.eigvalsh(covariance - torch.eye(k, dtype=torch.float64)).abs().amax(dim=-1).to(mean)
        slack = ((1 + excess).sqrt() - 1 - math.sqrt(k / N)).clamp(min=0)
        return (N * mean / (2 * k) + N / 2 * slack.square()).mean(dim=1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
