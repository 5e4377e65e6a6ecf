"""Pretrained networks: loaded once, shared by all that use them, with a gradient to their input in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ...noise.gradient.recompute import recompute

Network = TypeVar("Network", bound=nn.Module)
_loaded: WeakValueDictionary[Hashable, nn.Module] = WeakValueDictionary()  # keeps no network alive


def shared(key: Hashable, build: Callable[[], Network]) -> Network:
    """The network that `build` makes, or the one made before under this key, as long as somebody still holds it.

    It is built outside inference mode, so that a gradient can go through it; it is in eval mode and frozen.
    """
    network = _loaded.get(key)
    if network is None:
        with torch.inference_mode(False):
            network = build().eval().requires_grad_(False)
        _loaded[key] = network
    return network  # type: ignore[return-value]


def run(network: Callable[[Tensor], Tensor], pixels: Tensor, like: Tensor, chunk: int) -> Tensor:
    """`network(pixels)` on the device and in the precision of its weight `like`, back on that of pixels in float32.

    chunk: pictures whose activations are alive at once. More pictures than that, or half precision, are recomputed in
    the backward pass: chunk by chunk, and with a gradient scaled so that it does not vanish in float16. float64 stays.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32

    def forward(x: Tensor) -> Tensor:
        return network(x.to(like)).to(x.device, dtype)

    if len(pixels) <= chunk and like.dtype in (torch.float32, torch.float64):
        return forward(pixels)
    return recompute(forward, pixels, chunk=chunk)
