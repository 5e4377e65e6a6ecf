"""Use tensors that were made in inference mode inside a graph, without copying them.

ComfyUI loads weights in inference mode. Autograd refuses to save such tensors for the backward pass ("Inference tensors
cannot be saved for backward"), but it saves an ordinary tensor that shares their memory.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

OPAQUE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    str,
    bytes,
    int,
    float,
    torch.dtype,
    torch.device,
)


def normal(tensor: Tensor) -> Tensor:
    """An ordinary tensor that shares the memory of this one, and that autograd may save.

    Call it outside inference mode. A Parameter becomes a Parameter that requires no gradient. A quantised weight, which
    wraps other tensors, is wrapped anew around ordinary ones. Other subclasses of Tensor are returned as they are.
    """
    savable = _has_version(tensor)
    kind: Any = type(tensor)
    if not savable and hasattr(kind, "__tensor_unflatten__"):
        names, context = kind.__tensor_flatten__(tensor)
        inner = {name: normal(getattr(tensor, name)) for name in names}
        alias = kind.__tensor_unflatten__(inner, context, tensor.size(), tensor.stride())
        return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias
    if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer) or (savable and not tensor.requires_grad):
        return tensor
    if not savable:
        alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        alias = alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    else:
        alias = tensor.detach()
    return nn.Parameter(alias, requires_grad=False) if isinstance(tensor, nn.Parameter) else alias


def _has_version(tensor: Tensor) -> bool:
    """Whether autograd may save it: only tensors made in inference mode have no version counter.

    `is_inference()` does not tell: it is false for such a tensor once its data was moved or cast, as `module.to` does.
    """
    try:
        return tensor._version >= 0
    except RuntimeError:
        return False


def savable(network: nn.Module) -> bool:
    """Whether autograd may save all parameters and buffers of network."""
    return all(_has_version(tensor) for tensor in (*network.parameters(), *network.buffers()))


@contextmanager
def normal_tensors(*roots: Any, depth: int = 2) -> Iterator[None]:
    """A context in which tensors in roots that were made in inference mode, or require a gradient, are `normal`.

    Searches modules, dicts and lists all the way down, and other objects `depth` levels deep. On exit the same
    tensor objects are put back, except where something else was stored in the meantime.
    """
    aliases: dict[int, Tensor] = {}
    places: list[tuple[Any, Any, Tensor]] = []
    try:
        for holder, key, value in _places(list(roots), depth, set()):
            if (alias := aliases.setdefault(id(value), normal(value))) is not value:
                places.append((holder, key, value))
                holder[key] = alias
        yield
    finally:
        for holder, key, value in reversed(places):
            present = holder.get(key) if isinstance(holder, dict) else holder[key] if key < len(holder) else None
            alias = aliases[id(value)]
            if present is alias and alias.data_ptr() == value.data_ptr():
                holder[key] = value


def _places(holder: Any, depth: int, seen: set[int]) -> Iterator[tuple[Any, Any, Tensor]]:
    """(dict or list, key, tensor) for each tensor below holder, which the caller may replace there."""
    if isinstance(holder, OPAQUE) or id(holder) in seen:
        return
    seen.add(id(holder))
    if isinstance(holder, (dict, list)):
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, Tensor):
                yield holder, key, value
            else:
                yield from _places(value, depth, seen)
    elif isinstance(holder, nn.Module):
        yield from _places(vars(holder), depth, seen)
    elif isinstance(holder, tuple):
        for value in holder if not any(isinstance(value, Tensor) for value in holder) else ():
            yield from _places(value, depth, seen)
    elif depth > 0 and hasattr(holder, "__dict__"):
        yield from _places(vars(holder), depth - 1, seen)
