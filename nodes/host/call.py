"""How a session takes a call of the host's model apart along the batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...noise.gradient.recompute import VERIFY_TOLERANCE


def rows_of(tensor: Tensor, layers: int) -> Tensor:
    """(layers * B, ...) -> (B, layers, ...)"""
    return tensor.unflatten(0, (layers, -1)).transpose(0, 1)


def layers_of(tensor: Tensor, divisible: bool) -> Tensor:
    """(B, layers, ...) -> (layers * B, ...)"""
    return tensor.transpose(0, 1).flatten(0, 1) if divisible else tensor


def varies(leaf: Any, batch: int) -> bool:
    """Whether a leaf of the model call belongs to samples: not numbers, nor what all samples share."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and (len(leaf) == batch or len(leaf) > 1 or leaf.requires_grad)


def constant_conds(guider: Any, conds: dict[str, Any]) -> list[str]:
    """Names of conditionings that the host never repeats along the batch."""
    constant = {
        name
        for options in guider.conds.values()
        for cond in options
        for name, value in cond["model_conds"].items()
        if type(value).__name__ == "CONDConstant"
    }
    return [name for name in conds if name in constant]


def has_foreign_patches(options: dict[str, Any]) -> bool:
    wrappers = options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    return bool(options.get("patches") or options.get("patches_replace") or any(wrappers.values()))


def samples_independent(call: Callable[..., Tensor], tensors: list[Tensor]) -> bool:
    """Whether the model gives the last sample the same when it is alone: a patch may hold tensors of the batch."""
    if len(tensors[0]) == 1:
        return True
    with torch.no_grad():
        whole = call(*tensors)[-1:]
        try:
            alone = call(*(t[-1:] for t in tensors))
        except RuntimeError:
            return False
    agree = bool((whole - alone).norm() <= VERIFY_TOLERANCE * whole.norm())
    if not agree:
        logging.info("Noise Optimize: a model patch looks at the whole batch, so the batch is recomputed in one piece.")
    return agree
