"""What other nodes have patched into a model: functions in its options, and what these remember.

A patch may keep something from call to call, in a variable around it or in an object that it is a method of: Adaptive
Projected Guidance its momentum, Self-Attention Guidance the last attention scores. The host resets none of it, so two
runs of the same noise could differ: here each run begins with what the patches remembered when they were wired.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

PACK = __name__.split(".nodes.")[0]
OPAQUE = (Tensor, nn.Module, type, types.ModuleType, str, bytes, int, float, torch.dtype, torch.device)
HOST = ("comfy", "comfy_api", "torch")  # packages whose objects are not a patch's own
DEPTH = 4  # how many objects deep a patch's memory is looked for


class Patches:
    """The functions that patch the model of a guider: in its options, around it, or in place of methods of its own.

    False if there are none.
    """

    def __init__(self, guider: Any) -> None:
        patcher = guider.model_patcher
        replaced = [value for name, value in patcher.object_patches.items() if name.startswith("diffusion_model")]
        every = functions_in([guider.model_options, patcher.wrappers, patcher.callbacks, replaced])
        self.functions = [f for f in every if not _module(f).startswith(PACK)]
        self._memory: list[Variable | Entries | Items] = []
        seen: set[int] = set()
        for function in self.functions:
            self._memory += memory_of(function, seen)

    def __bool__(self) -> bool:
        return bool(self.functions)

    @property
    def names(self) -> str:
        """The nodes or functions that the patches come from, for a message."""
        names = [getattr(f, "__qualname__", type(f).__qualname__) for f in map(_unwrapped, self.functions)]
        return ", ".join(dict.fromkeys(name.split(".")[0] for name in names))

    def rewind(self) -> None:
        """Has the patches remember what they did when this was made, and nothing else."""
        for place in self._memory:
            place.restore()

    @property
    def remember(self) -> bool:
        """Whether they remember anything else."""
        return any(place.changed() for place in self._memory)


def functions_in(options: Any) -> Iterator[Callable[..., Any]]:
    """All that can be called in a tree of dicts, lists and tuples."""
    if isinstance(options, (dict, list, tuple)):
        for value in options.values() if isinstance(options, dict) else options:
            yield from functions_in(value)
    elif callable(options) and not isinstance(options, OPAQUE):
        yield options


class Variable:
    """A variable around a function, and what it held."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell, self.content = cell, _content(cell)

    def changed(self) -> bool:
        return not _identical(_content(self.cell), self.content)

    def restore(self) -> None:
        if self.content:
            self.cell.cell_contents = self.content[0]
        elif _content(self.cell):
            del self.cell.cell_contents


class Entries:
    """A dict, such as the attributes of an object, and what it held."""

    def __init__(self, holder: dict[Any, Any]) -> None:
        self.holder, self.content = holder, dict(holder)

    def changed(self) -> bool:
        keys, values = list(self.holder), list(self.holder.values())
        return keys != list(self.content) or not _identical(values, list(self.content.values()))

    def restore(self) -> None:
        if self.changed():
            self.holder.clear()
            self.holder.update(self.content)


class Items:
    """A list, and what it held."""

    def __init__(self, holder: list[Any]) -> None:
        self.holder, self.content = holder, list(holder)

    def changed(self) -> bool:
        return not _identical(self.holder, self.content)

    def restore(self) -> None:
        self.holder[:] = self.content


def memory_of(thing: Any, seen: set[int], depth: int = DEPTH) -> Iterator[Variable | Entries | Items]:
    """The variables, attributes, dicts and lists by which thing may remember something."""
    if id(thing) in seen or depth < 0 or thing is None or isinstance(thing, OPAQUE):
        return
    seen.add(id(thing))
    inner: list[Any] = []
    if isinstance(thing, types.FunctionType):
        variables = [Variable(cell) for cell in thing.__closure__ or ()]
        yield from variables
        inner = [content for variable in variables for content in variable.content]
    elif isinstance(thing, types.MethodType):
        inner = [thing.__func__, thing.__self__]
    elif isinstance(thing, functools.partial):
        inner = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, dict):
        yield Entries(thing)
        inner = list(thing.values())
    elif isinstance(thing, list):
        yield Items(thing)
        inner = list(thing)
    elif hasattr(thing, "__dict__") and _module(thing).split(".")[0] not in HOST:
        inner = [vars(thing)]
    for part in inner:
        yield from memory_of(part, seen, depth - (not isinstance(thing, (dict, list))))


def _content(cell: types.CellType) -> list[Any]:
    """What a variable holds, if it has been assigned."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _identical(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _module(thing: Any) -> str:
    thing = _unwrapped(thing)
    return getattr(thing, "__module__", None) or type(thing).__module__


def _unwrapped(function: Any) -> Any:
    """The function within a partial; of a method its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function
