"""Is a gradient right? A check by finite differences that holds in half precision and costs a few calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .in_place import Writes
from .recompute import recompute

STEPS = (0.01, 0.04, 0.16, 0.64)  # of the size of what is moved; the coarser a network rounds, the larger it must be
AGREEMENT = 0.85  # cosine of two differences that are taken to measure the same thing
TOLERANCE = 0.05


@dataclass(frozen=True)
class Probe:
    """What a gradient says of a change, as a share of the change that is measured: 1 where it is right.

    agreement: the cosine of the two differences that measured it; the less they agree, the further from 1 share may be.
    """

    share: float
    agreement: float

    @property
    def right(self) -> bool:
        return abs(self.share - 1) <= TOLERANCE + (1 - self.agreement) / 2


def probe(
    function: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    *tensors: Tensor,
    writes: Writes | None = None,
) -> Probe | None:
    """Whether function's gradient is the derivative of reference; None where no two differences agree.

    The tensors that ask for a gradient are moved along one random direction d. Central differences of reference at two
    step sizes, u and w, both estimate its Jacobian's J d. The gradient of <w, function> along d is <w, J' d>, and the
    share is <w, J' d> / <w, u>. What rounding does to u and to w is independent and cancels in their product, so the
    share is right to a few per cent in half precision and with quantised activations. A path through the network that
    the gradient misses lowers the share by that path's part of the change; one of under a twentieth is not seen.

    function, reference: (B, ...) of the same tensors. reference is called without a graph; it draws nothing.
    writes: as in `recompute`, by which function is differentiated.
    Costs: 4 calls of reference, up to 8 where it rounds coarsely, and one of function with its gradient (about 4).
    """
    moved = [t.requires_grad for t in tensors]
    source = torch.Generator().manual_seed(0)
    along = [_direction(t, source) if m else None for t, m in zip(tensors, moved, strict=True)]

    def at(step: float) -> Tensor:
        value = reference(*(t if d is None else t.detach() + step * d for t, d in zip(tensors, along, strict=True)))
        return value.to(torch.promote_types(value.dtype, torch.float32))

    with torch.no_grad():
        small, large, agreement = None, (at(STEPS[0]) - at(-STEPS[0])) / (2 * STEPS[0]), 0.0
        for step in STEPS[1:]:
            small, large = large, (at(step) - at(-step)) / (2 * step)
            agreement = float(torch.cosine_similarity(small.flatten(), large.flatten(), 0))
            if agreement >= AGREEMENT:
                break
        else:
            return None
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_(m) for t, m in zip(tensors, moved, strict=True)]
        output = recompute(function, *leaves, writes=writes)
        gradients = torch.autograd.grad(output, [t for t, m in zip(leaves, moved, strict=True) if m], large.to(output))
    said = sum(float((g * d).sum()) for g, d in zip(gradients, (d for d in along if d is not None), strict=True))
    return Probe(said / float((large * small).sum()), agreement)


def _direction(tensor: Tensor, source: torch.Generator) -> Tensor:
    """A random tensor of the shape and size (root mean square) of another."""
    size = tensor.detach().float().square().mean().sqrt()
    return (torch.randn(tensor.shape, generator=source).to(tensor.device) * size).to(tensor)
