"""How a session takes a call of the host's model apart along the batch, and what it switches in the host meanwhile."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import comfy.model_management
import torch
from comfy.controlnet import ControlLoraOps
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ..noise.affine import affine
from ..noise.gradient import VERIFY_TOLERANCE, recompute

CONTROL_LORA = (ControlLoraOps.Linear, ControlLoraOps.Conv2d)
AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, *CONTROL_LORA)


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


@contextlib.contextmanager
def training(on: bool = True) -> Iterator[None]:
    """The host's flag that keeps kernels without a derivative out of the way."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = on or before
    try:
        yield
    finally:
        comfy.model_management.in_training = before


@contextlib.contextmanager
def no_silent_fallback() -> Iterator[None]:
    """An operation without a derivative is an error, not a warning and a wrong gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        yield


@contextlib.contextmanager
def casting(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, a layer whose weight the host brings for each call keeps no copy of it for the backward pass.

    Where a model is loaded in part, patched on the fly, or stored in fewer bits, the host's layers cast their weight in
    `forward_comfy_cast_weights`, those of a Control-LoRA in `forward`, and drop it. A graph would hold the copies, and
    so the whole model that did not fit; with asynchronous offloading they lie in buffers that other layers overwrite.
    So the backward pass casts again.
    """
    name = "forward_comfy_cast_weights"
    modules = {id(module): module for network in networks for module in network.modules()}.values()
    with (
        overridden((module for module in modules if hasattr(module, name)), name, _cast),
        overridden((module for module in modules if isinstance(module, CONTROL_LORA)), "forward", _cast),
    ):
        yield


def _cast(layer: Any, forward: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    weight = layer.weight
    patched = layer.weight_function or layer.bias_function or getattr(layer, "up", None) is not None
    as_it_is = type(weight) is nn.Parameter and weight.device == input.device and weight.dtype == input.dtype
    if weight is None or (as_it_is and not patched):
        return forward(input, *args, **kwargs)
    again = affine if isinstance(layer, AFFINE) or hasattr(layer, "in_features") else recompute
    return again(lambda x: forward(x, *args, **kwargs), input)


@contextlib.contextmanager
def overridden(holders: Iterable[Any], name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within it, the method `name` of each holder is function(holder, method, ...)."""
    holders = list(holders)
    before = [vars(holder).get(name) for holder in holders]
    for holder in holders:
        setattr(holder, name, functools.partial(function, holder, getattr(holder, name)))
    try:
        yield
    finally:
        for holder, own in zip(holders, before, strict=True):
            delattr(holder, name) if own is None else setattr(holder, name, own)
