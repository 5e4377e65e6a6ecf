"""Pretrained networks: loaded once, frozen, shared by everything that uses them, run in any precision with a gradient."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

_loaded: WeakValueDictionary[Hashable, nn.Module] = WeakValueDictionary()  # keeps no network alive


def shared(key: Hashable, build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` makes, or the one made before under this key, as long as somebody still holds it.

    It is built outside inference mode, so that a gradient can go through it, in eval mode and without gradients of its own.
    """
    network = _loaded.get(key)
    if network is None:
        with torch.inference_mode(False):
            network = build().eval().requires_grad_(False)
        _loaded[key] = network
    return network


def run(network: Callable[[Tensor], Tensor], pixels: Tensor, like: Tensor) -> Tensor:
    """`network(pixels)` on the device and in the precision of its weight `like`, back on the device of pixels in float32.

    In float16 the gradient passes the network scaled so that its largest entry is near 1: the gradient of a mean over
    many pixels lies under float16's smallest number (6e-8) and would vanish. float64 pixels and weights stay float64.
    """
    out_dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    if like.dtype != torch.float16 or not (pixels.requires_grad and torch.is_grad_enabled()):
        return network(pixels.to(like)).to(pixels.device, out_dtype)
    scale = [1.0]

    def raise_gradient(gradient: Tensor) -> Tensor:
        largest = gradient.abs().amax()
        scale[0] = torch.where(largest > 0, largest, torch.ones_like(largest)).log2().round().neg().exp2()
        return gradient * scale[0]

    entry = pixels.clone()
    entry.register_hook(lambda gradient: gradient / scale[0])
    out = network(entry.to(like)).to(pixels.device, out_dtype)
    out.register_hook(raise_gradient)
    return out
