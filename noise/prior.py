"""What keeps noise likely while it is optimised: its radius, its spectrum, and the independence of its values.

An orthonormal DCT makes independent standard normal values of white noise, so the norm r of any n of them has the
negative log-density of chi_n,

    1/2 r^2 - (n - 1) ln r        least at r = sqrt(n - 1)

arXiv 2601.00090 takes it of all d values of a sample. Here it is also taken of each ring of the spectrum: else the
lowest frequencies, which the loop moves most, end up with twice the power of noise, and all others pay for it. Norms of
blocks of the spectrum are what arXiv 2602.08646 holds, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .basis import Basis, make_basis, norms, per_sample
from .spectrum import frequencies, radial_spectrum, spatial_size

REACH = 0.04  # how far the default step reaches, as a share of the radius: the weight of the prior is stated for it
COLUMNS = 64  # k of Direct Noise Optimization: noise is read as rows of so many values
ORDERS = 4  # random orders in which it is read, beside its own
FLOOR = 0.01  # least power of the starting spectrum, beside 1 of white noise, that is divided out


def towards(radius: Tensor, likeliest: Tensor, weight: float) -> Tensor:
    """The proximal map of w (r^2 / 2 - m^2 ln r), with m the likeliest radius: the root of
    (1 + w) r'^2 - r r' - w m^2 = 0. A small deviation from m is divided by 1 + 2 w."""
    return (radius + (radius**2 + 4 * (1 + weight) * weight * likeliest**2).sqrt()) / (2 * (1 + weight))


class Prior:
    """The proximal step of the prior on a change of coefficients: rings of the spectrum, then the radius.

    A ring of a sample is brought to the norm that it started with: what was drawn is likely, and pink noise may stay
    pink. The radius is brought to sqrt(d - 1); but that of a band to where it started, as a band need not make up for
    what lies outside it.

    weight: in nats, for steps that reach REACH. It grows with `reach`, as that of a proximal step should: at the
        default weight the radius stays within 1 % however long the steps are. 0: no prior.
    """

    def __init__(self, basis: Basis, weight: float, reach: float) -> None:
        self.weight = weight * reach / REACH
        self.start = basis.analyse(basis.start)
        full = basis.columns is None
        self.dct = make_basis("low frequency", basis.start, band=1.0, free=basis.free) if full else None
        self.radius = (basis.d - 1).clamp(min=0).sqrt() if full else norms(self.start)
        spectrum = self.spectrum(self.start)
        sides = spatial_size(basis.start)
        self.ring = rings(tuple(spectrum.shape[-len(sides) :]), sides)
        self.norms = self.ring_norms(spectrum) * _ratio(self.radius, norms(self.start))[:, None].cpu()

    def __call__(self, change: Tensor) -> Tensor:
        """The change after the step; in the shape of what it was given."""
        if not self.weight:
            return change
        now = self.start + change
        radius = towards(norms(now), self.radius, self.weight)
        spectrum = self.spectrum(now)
        measured = self.ring_norms(spectrum)
        factor = _ratio(towards(measured, self.norms, self.weight), measured)[:, self.ring].to(spectrum)
        factor = factor.reshape(len(now), *[1] * (now.ndim - 1 - self.ring.ndim), *self.ring.shape)
        correction = (factor - 1) * spectrum
        now = now + (correction if self.dct is None else self.dct.synthesise(correction))
        return now * per_sample(_ratio(radius, norms(now)), now) - self.start

    def spectrum(self, coefficients: Tensor) -> Tensor:
        """The DCT of what may move, from its coefficients; those of a band are some of it already."""
        return coefficients if self.dct is None else self.dct.analyse(coefficients)

    def ring_norms(self, spectrum: Tensor) -> Tensor:
        """(B, R) the norm of each ring of each sample over all channels and frames, in float64 on the CPU, where sums
        over indices come out the same each time."""
        power = spectrum.detach().square().flatten(1, -self.ring.ndim - 1).sum(dim=1).flatten(1).cpu().double()
        sums = power.new_zeros(len(power), int(self.ring.max()) + 1)
        return sums.index_add(1, self.ring.flatten(), power).sqrt()


def rings(count: tuple[int, ...], sides: tuple[int, ...]) -> Tensor:
    """(*count) the ring of each of the lowest `count` frequencies of a DCT over `sides`: 0 is the mean, each is half a
    cycle of the longest side wide."""
    squared = torch.zeros(())
    for n, side in zip(count, sides, strict=True):
        squared = squared[..., None] + (torch.arange(n) * (max(sides) / side)).square()
    return squared.sqrt().round().long()


def _ratio(wanted: Tensor, measured: Tensor) -> Tensor:
    return wanted / measured.clamp(min=torch.finfo(measured.dtype).tiny)


@dataclass(frozen=True)
class Whiteness:
    """Whiteness of noise, relative to the spectrum it started with (Direct Noise Optimization, arXiv 2405.18881).

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
        centre, power = radial_spectrum(start.detach().cpu())  # where sums over indices come out the same each time
        ring = torch.bucketize(frequencies(size), (centre[1:] + centre[:-1]) / 2)
        gain = power.mean(dim=0).clamp(min=FLOOR).rsqrt()[ring.clamp(min=min(1, len(centre) - 1))]
        values = start[0].numel()
        columns = min(COLUMNS, max(1, math.isqrt(values)))
        used = values // columns * columns
        generator = torch.Generator().manual_seed(0)
        shuffled = [torch.randperm(values, generator=generator)[:used] for _ in range(ORDERS)]
        return cls(gain.to(start.device), torch.stack([torch.arange(used), *shuffled]).to(start.device), columns)

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
