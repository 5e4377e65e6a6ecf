"""Backward passes in float16: the gradient is brought to a scale at which it neither vanishes nor overflows, and back.

The factors are powers of two, so that nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SCALES = (1.0, 2.0**-8, 2.0**-16)  # of the first try; at the last, entries below 2^-8 of the largest begin to vanish

Run = Callable[[], tuple[Tensor, list[Tensor]]]


def scaled_vjp(run: Run, grad: Tensor, keep: bool = False) -> list[Tensor]:
    """The vector-Jacobian product of output and inputs, which run() gives, with the vector's largest entry at 1..2.

    Where a finite output has a product that overflows on the way, it is tried again at a smaller scale, with what run()
    gives then; with keep, run() may give the same graph again.
    """
    largest = power_of_two(grad)
    for scale in SCALES:
        output, inputs = run()
        factor = largest * scale
        grads = torch.autograd.grad(output, inputs, grad * factor, allow_unused=True, retain_graph=keep)
        parts = [torch.zeros_like(t) if g is None else _divide(g, factor) for t, g in zip(inputs, grads, strict=True)]
        if all(part.isfinite().all() for part in parts) or not (output.isfinite().all() and grad.isfinite().all()):
            break
    return parts


def _divide(grad: Tensor, factor: Tensor) -> Tensor:
    return (grad.to(torch.promote_types(grad.dtype, torch.float32)) / factor).to(grad.dtype)


def power_of_two(grad: Tensor) -> Tensor:
    """() the power of two that brings the largest entry of grad to 1..2; 1 where grad is zero or not finite."""
    largest = grad.detach().abs().amax().float()
    factor = torch.exp2(-torch.floor(torch.log2(largest)).clamp(-100, 100))
    return torch.where(torch.isfinite(factor) & (largest > 0), factor, torch.ones_like(factor))


def rescaled(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """function(*tensors) with its graph kept, whose backward pass runs as `scaled_vjp`."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _Rescaled.apply(function, *tensors)
    return function(*tensors)


class _Rescaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(w) for t, w in zip(tensors, ctx.needs_input_grad[1:], strict=True)]
            output = function(*(t.view_as(t) for t in leaves))
        ctx.graph = output, [t for t in leaves if t.requires_grad]
        return output.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts = iter(scaled_vjp(lambda: ctx.graph, grad, keep=True))
        del ctx.graph
        return None, *(next(parts) if wanted else None for wanted in ctx.needs_input_grad[1:])
