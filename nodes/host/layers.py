"""Layers of the host whose weight is brought, cast or patched for each call: what their backward pass does instead."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from comfy.controlnet import ControlLoraOps
from comfy.text_encoders import llama
from torch import Tensor, nn

from ...noise.gradient.affine import affine
from ...noise.gradient.in_place import OutAsWrite
from ...noise.gradient.recompute import recompute

CONTROL_LORA = (ControlLoraOps.Linear, ControlLoraOps.Conv2d)
LANGUAGE = (llama.TransformerBlock, llama.TransformerBlockGemma2)  # HiDream-O1 samples pictures with them
AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, *CONTROL_LORA)


@contextlib.contextmanager
def casting(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, a layer whose weight the host brings for each call keeps no copy of it for the backward pass.

    Where a model is loaded in part, patched on the fly, or stored in fewer bits, the host's layers cast their weight in
    `forward_comfy_cast_weights`, those of a Control-LoRA in `forward`, and drop it. A graph would hold the copies, and
    so the whole model that did not fit; with asynchronous offloading they lie in buffers that other layers overwrite.
    So the backward pass casts again. Blocks of a language model write their sum to an `out=`, which autograd refuses:
    they write it in place.
    """
    name = "forward_comfy_cast_weights"
    modules = {id(module): module for network in networks for module in network.modules()}.values()
    with (
        overridden((module for module in modules if hasattr(module, name)), name, _cast),
        overridden((module for module in modules if isinstance(module, CONTROL_LORA)), "forward", _cast),
        overridden((module for module in modules if isinstance(module, LANGUAGE)), "forward", _write),
        overridden((module for module in modules if hasattr(module, "quant_format")), "forward", _writable),
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


def _write(layer: Any, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with OutAsWrite() if torch.is_grad_enabled() else contextlib.nullcontext():
        return forward(*args, **kwargs)


def _writable(layer: Any, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Of a quantised layer, whose own derivative gives a view: autograd forbids to write into it, as blocks do."""
    output = forward(*args, **kwargs)
    return torch.ops.aten._unsafe_view(output, output.shape) if output.requires_grad else output


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
