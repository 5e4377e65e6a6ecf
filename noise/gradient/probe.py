"""Is a gradient right? A check by finite differences that holds in half precision and costs a few calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .in_place import Writes
from .scale import scaled_vjp

STEPS = (0.01, 0.04, 0.16, 0.64)  # of the size of what is moved; the coarser a network rounds, the larger it must be
AGREEMENT = 0.85  # cosine of two differences that are taken to measure the same thing
REPEATS = 0.005  # of the change: how much an answer may differ when it is asked for again
TOLERANCE, PER_DISAGREEMENT = 0.01, 0.5  # of the share; a decoder with ReLUs needs up to 0.3 of the latter


@dataclass(frozen=True)
class Probe:
    """What a gradient says of a change, as a share of the change that is measured: 1 where it is right.

    agreement: the cosine of the two differences that measured it; the less they agree, the further from 1 share may be.
    """

    share: float
    agreement: float

    @property
    def right(self) -> bool:
        return abs(self.share - 1) <= TOLERANCE + PER_DISAGREEMENT * max(0.0, 1 - self.agreement) ** 0.5


def probe(function: Callable[..., Tensor], reference: Callable[..., Tensor], *tensors: Tensor) -> Probe | None:
    """Whether function's gradient is the derivative of reference; None where that cannot be told.

    The tensors that ask for a gradient are moved along one random direction d. Central differences of reference at two
    step sizes, u and w, both estimate its Jacobian's J d. The gradient of <w, function> along d is <w, J' d>, and the
    share is <w, J' d> / <w, u>. What rounding does to u and to w is independent and cancels in their product, so the
    share is right to a few per cent in half precision and with quantised activations. A path through the network that
    the gradient misses lowers the share by that path's part of the change; one of under a hundredth, in half precision
    a tenth, is not seen.

    function, reference: one tensor (B, ...) of the same tensors; function may write in place, reference is called
        without a graph. Not told: where no two differences agree, or reference answers differently when asked again.
    Costs: 5 calls of reference, up to 9 where it rounds coarsely, and one of function with its gradient.
    """
    moved = [t.requires_grad for t in tensors]
    source = torch.Generator().manual_seed(0)
    along = [_direction(t, source) if m else None for t, m in zip(tensors, moved, strict=True)]

    def at(step: float) -> Tensor:
        value = reference(*(t if d is None else t.detach() + step * d for t, d in zip(tensors, along, strict=True)))
        return value.to(torch.promote_types(value.dtype, torch.float32))

    with torch.no_grad():
        before, after = at(-STEPS[0]), at(STEPS[0])
        if not (at(-STEPS[0]) - before).norm() <= REPEATS * (after - before).norm():
            return None
        large, agreement = (after - before) / (2 * STEPS[0]), 0.0
        for step in STEPS[1:]:
            small, large = large, (at(step) - at(-step)) / (2 * step)
            agreement = float(torch.cosine_similarity(small.flatten(), large.flatten(), 0))
            if agreement >= AGREEMENT:
                break
        else:
            return None
    measured = float((large * small).sum())
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_(m) for t, m in zip(tensors, moved, strict=True)]
        output = Writes()(lambda *given: function(*(t.clone() if t.requires_grad else t for t in given)), *leaves)
        if not output.requires_grad:
            return Probe(0.0, agreement)
        wanted = [t for t in leaves if t.requires_grad]
        gradients = scaled_vjp(lambda: (output, wanted), large.to(output), keep=True)
    said = sum(float((g * d).sum()) for g, d in zip(gradients, (d for d in along if d is not None), strict=True))
    return Probe(said / measured, agreement)


def _direction(tensor: Tensor, source: torch.Generator) -> Tensor:
    """A random tensor of the shape and size (root mean square) of another."""
    size = tensor.detach().float().square().mean().sqrt()
    return (torch.randn(tensor.shape, generator=source).to(tensor.device) * size).to(tensor)
