"""Backward passes in float16: the gradient is brought to a scale at which it does not vanish, and back, exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def scaled_vjp(output: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    """Vector-Jacobian product with the vector brought to a largest entry of 1..2 and back, exactly.

    The factor is a power of two: nothing is rounded, and a gradient of 1e-6 does not vanish in float16.
    """
    factor = power_of_two(grad)
    grads = torch.autograd.grad(output, inputs, grad * factor, allow_unused=True)
    return [torch.zeros_like(t) if g is None else _divide(g, factor) for t, g in zip(inputs, grads, strict=True)]


def _divide(grad: Tensor, factor: Tensor) -> Tensor:
    return (grad.to(torch.promote_types(grad.dtype, torch.float32)) / factor).to(grad.dtype)


def power_of_two(grad: Tensor) -> Tensor:
    """() the power of two that brings the largest entry of grad to 1..2; 1 where grad is zero or not finite."""
    largest = grad.detach().abs().amax().float()
    factor = torch.exp2(-torch.floor(torch.log2(largest)).clamp(-100, 100))
    return torch.where(torch.isfinite(factor) & (largest > 0), factor, torch.ones_like(factor))


def rescaled(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """function(*tensors) with its graph kept, whose backward pass runs at the scale of `scaled_vjp`."""
    factors: list[Tensor] = []
    inputs = _Unscale.apply(factors, *tensors)
    return _Scale.apply(factors, function(*(inputs if len(tensors) > 1 else (inputs,))))


class _Unscale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factors: list[Tensor], *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        ctx.factors = factors
        inputs = tuple(t.view_as(t) for t in tensors)
        return inputs if len(inputs) > 1 else inputs[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        factor = ctx.factors.pop()
        return None, *(None if g is None else _divide(g, factor) for g in grads)


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factors: list[Tensor], tensor: Tensor) -> Tensor:
        ctx.factors = factors
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        ctx.factors.append(power_of_two(grad))
        return None, grad * ctx.factors[-1]
