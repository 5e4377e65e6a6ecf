"""Sampling the demo's flow models without a host: x at noise level s is s * noise + (1 - s) * data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]


def guided(model, prompts, rows: Tensor, scale: float = 1.0) -> Velocity:
    """Classifier-free guidance: v = v_empty + scale * (v_prompt - v_empty); a scale of 1 needs one call."""
    context, pooled = prompts(rows)
    if scale != 1.0:
        nothing = prompts(torch.full_like(rows, len(prompts.pooled) - 1))
        context, pooled = torch.cat([context, nothing[0]]), torch.cat([pooled, nothing[1]])

    def velocity(x: Tensor, sigma: float) -> Tensor:
        if scale == 1.0:
            return model.velocity(x, x.new_full((len(x),), sigma), context, pooled)
        both = model.velocity(torch.cat([x, x]), x.new_full((2 * len(x),), sigma), context, pooled)
        with_prompt, without = both.chunk(2)
        return without + scale * (with_prompt - without)

    return velocity


def euler(velocity: Velocity, x: Tensor, sigmas: Tensor) -> Tensor:
    for now, then in zip(sigmas[:-1].tolist(), sigmas[1:].tolist()):
        x = x + (then - now) * velocity(x, now)
    return x
