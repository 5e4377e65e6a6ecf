"""Layers whose weight exists only during the call: it is brought to the device, cast or patched for each call anew.

Autograd would save these temporary weights until the backward pass. All layers together, that is a second copy of the
network; and a host that offloads may have written something else into their memory by then. An affine layer, A x + b,
needs nothing saved: its derivative A is the same at every x, so the backward pass can call the layer again, on zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .recompute import autocast_like


def affine(function: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    """function(input), with a graph that saves no tensor: the backward pass calls function again, on zeros.

    function: must return A input + b, with the same A in each call, for an input of any shape. The gradient with
    respect to input is exact; A and b get none.
    """
    if torch.is_grad_enabled() and input.requires_grad:
        return _Affine.apply(function, input)
    return function(input)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
        ctx.function, ctx.like = function, (input.shape, input.dtype, input.device)
        ctx.autocast = autocast_like(input.device.type)
        output = function(input)
        return torch.ops.aten._unsafe_view(output, output.shape)  # what follows may write in place into it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        shape, dtype, device = ctx.like
        with torch.enable_grad(), ctx.autocast():
            zero = torch.zeros((), dtype=dtype, device=device).expand(shape).requires_grad_()
            return None, torch.autograd.grad(ctx.function(zero), zero, grad)[0]
