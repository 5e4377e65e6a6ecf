"""Guards against pictures that differ by getting worse: detail no poorer than in the starting pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .batch import PICTURES, Batch
from .features.pooling import area_pool
from .objective import Objective

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
WINDOWS = 16  # local contrast is taken over a sixteenth of the shorter side
QUIET = 0.01  # contrast below 2.5 of 255 levels is as good as none


@dataclass(frozen=True, kw_only=True)
class DetailGuard(Objective):
    """For each picture, its detail as a share of its starting picture's: 1 is as much, 0 none; target 1.

    Detail is the poorer of two shares. Sharpness is the amplitude of what a 3 x 3 blur takes away: blurring lowers it.
    Local contrast is the geometric mean, over windows, of the standard deviation within a window: flat areas lower it
    even where the rest is sharp. Both are measured on luminance and do not depend on what the picture shows.

    >>> start = Batch(pictures=torch.eye(32).expand(1, 3, 32, 32))
    >>> flat = Batch(pictures=torch.full((1, 3, 32, 32), 0.5))
    >>> guard = DetailGuard().bind(start)
    >>> float(guard.measure(start)), float(guard.measure(flat)) < 0.1
    (1.0, True)
    """

    name = "Detail Guard"
    kind = "guard"
    needs = PICTURES
    target: float | None = 1.0
    _start: Tensor | None = field(default=None, repr=False, compare=False)

    def bind(self, start: Batch | None = None, references: Batch | None = None) -> DetailGuard:
        """With the detail of the starting pictures, one for each sample of the batch."""
        if start is None or start.pictures is None:
            return self
        return replace(self, _start=detail(start.pictures.detach()))

    def measure(self, batch: Batch) -> Tensor:
        """(B,) the poorer of the two shares."""
        if self._start is None:
            raise ValueError(f"{self.name} compares with the starting pictures, and was given none.")
        now = detail(batch.get(PICTURES))
        if now.shape != self._start.shape:
            raise ValueError(
                f"{self.name} compares {now.shape[1]} pictures with {self._start.shape[1]} starting pictures: "
                "give as many before as after."
            )
        return (now / self._start.to(now)).amin(dim=0)


def detail(pictures: Tensor) -> Tensor:
    """(2, B) sharpness and local contrast of pictures (B, 3, H, W) in 0..1, each at least QUIET."""
    weights = torch.tensor(LUMA, dtype=pictures.dtype, device=pictures.device)
    luma = torch.einsum("bchw,c->bhw", pictures, weights)[:, None]
    sharpness = (_blur(luma) - luma).square().mean(dim=(1, 2, 3))
    side = max(2, min(luma.shape[-2:]) // WINDOWS)
    windows = [max(1, size // side) for size in luma.shape[-2:]]
    variance = (area_pool(luma.square(), *windows) - area_pool(luma, *windows).square()).clamp(min=0)
    contrast = (0.5 * (variance + QUIET**2).log()).mean(dim=(1, 2, 3)).exp()
    return torch.stack([(sharpness + QUIET**2).sqrt(), contrast])


def _blur(x: Tensor) -> Tensor:
    """(B, 1, H, W) blurred by the binomial 3 x 3 kernel, edges repeated; by slices, for a deterministic derivative."""
    for dim in (-2, -1):
        last = x.shape[dim] - 1
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, last)], dim)
        after = torch.cat([x.narrow(dim, 1, last), x.narrow(dim, last, 1)], dim)
        x = (before + 2 * x + after) / 4
    return x
