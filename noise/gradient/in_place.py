"""Networks that write in place into tensors that autograd saved."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass
class Writes:
    """Lets a function write in place into tensors that autograd saved, at the price of one copy of each.

    writes(function, *tensors) is function(*tensors) with a correct graph. The first call finds out which of the saved
    tensors the function later writes into; if there are any, it runs again and has autograd save copies of these. They
    are remembered for further calls: `copied` holds their numbers in the order of saving. (torch's own
    allow_mutation_on_saved_tensors watches every operation instead, which takes several times as long as a small
    network itself.)
    """

    copied: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, network: nn.Module, *way: Hashable) -> Writes:
        """Those of a function of this network, for as long as it lives; way: what else its graph depends on.

        A number that does not fit any more costs a copy, or the run that finds out which one does, and no correctness.
        """
        return _known.setdefault(network, {}).setdefault(way, cls())

    def __call__(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        while True:
            saved: list[tuple[Tensor, int]] = []

            def save(t: Tensor, saved: list[tuple[Tensor, int]] = saved) -> tuple[Tensor, int]:
                t = t.detach()  # its own object: a tensor written into later would hold the graph that holds it
                t = t.clone() if len(saved) in self.copied else t
                saved.append((t, t._version))
                return saved[-1]

            with torch.autograd.graph.saved_tensors_hooks(save, unchanged):
                output = function(*tensors)
            written = {place for place, (t, version) in enumerate(saved) if t._version != version}
            if not written:
                return output
            del output
            self.copied |= written


_known: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Hashable, ...], Writes]] = weakref.WeakKeyDictionary()


def unchanged(saved: tuple[Tensor, int]) -> Tensor:
    tensor, version = saved
    if tensor._version != version:
        raise RuntimeError("A tensor needed for the gradient was changed in place after the function had returned.")
    return tensor


class OutAsWrite(TorchFunctionMode):
    """Within it, `function(..., out=tensor)` is a write in place, which autograd follows; as it stands it is refused.

    tensor: of the shape of the result.
    """

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if not isinstance(kwargs.get("out"), Tensor):
            return function(*args, **kwargs)
        return kwargs.pop("out").copy_(function(*args, **kwargs))
