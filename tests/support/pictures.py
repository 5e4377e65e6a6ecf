"""Pictures and checks for the tests of whatever looks at pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def natural(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(B, 3, H, W) in 0.1..0.9 with the amplitude spectrum of natural pictures, 1 / f."""
    white = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    coloured = torch.fft.irfft2(
        torch.fft.rfft2(white) / (rows**2 + columns**2).sqrt().clamp(min=1 / 256), s=white.shape[-2:]
    )
    low, high = coloured.amin(dim=(1, 2, 3), keepdim=True), coloured.amax(dim=(1, 2, 3), keepdim=True)
    return 0.1 + 0.8 * (coloured - low) / (high - low)


def gradient_error(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-4) -> float:
    """How far the gradient of sum(w * function(x)) is from central differences along it, relative; w is random."""
    x = x.detach().clone().requires_grad_()
    out = function(x)
    weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    slope = gradient.norm()
    with torch.no_grad():
        move = step * gradient / slope
        measured = ((function(x + move) - function(x - move)) * weights).sum() / (2 * step)
    return float((measured - slope).abs() / slope)


def climb(
    score: Callable[[Tensor], Tensor], pictures: Tensor, steps: int = 10, length: float = 0.5
) -> tuple[float, float]:
    """The mean score before and after gradient steps of this length on each picture."""
    pictures = pictures.clone()
    start = float(score(pictures).mean())
    for _ in range(steps):
        pictures.requires_grad_()
        (gradient,) = torch.autograd.grad(score(pictures).mean(), pictures)
        norms = gradient.flatten(1).norm(dim=1)[:, None, None, None].clamp(min=1e-20)
        pictures = (pictures + length * gradient / norms).clamp(0, 1).detach()
    return start, float(score(pictures).mean())
