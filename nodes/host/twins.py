"""The differentiable twin of a SAMPLER: the same code, without what cuts the gradient.

Sampling functions run under `torch.no_grad` and call others that do. Some also detach the steps that they remember: the
derivative of deis and ipndm_v as they are written is wrong by a third. A twin is a new function with the code of the
original, in which `detach` and `no_grad` are replaced (SWAPS). Its globals are a copy of the original's, in which the
other sampling functions, and the classes of a sampler that another pack brings, are twins too. The originals stay as
they are.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

SAMPLING_MODULES = ("comfy.k_diffusion.sampling", "comfy.k_diffusion.sa_solver", "comfy.extra_samplers", "comfy_extras")
HOST = ("comfy", "comfy_extras")
SWAPS = {"detach": "contiguous", "no_grad": "enable_grad"}  # what cuts the gradient: what does the same and does not


class Twins:
    """Builds twins; `replacements` maps a function or class, by identity, to what stands in for it."""

    def __init__(self, replacements: dict[Any, Any] | None = None) -> None:
        self._replacements = {id(old): new for old, new in (replacements or {}).items()}
        self._functions: dict[int, types.FunctionType] = {}
        self._classes: dict[int, type] = {}
        self._namespaces: dict[int, dict[str, Any]] = {}
        self._root = ""

    def sampler(self, sampler: Any) -> Any:
        """A copy of a SAMPLER object whose methods and sampling function are twins."""
        twin = copy.copy(sampler)
        if hasattr(sampler, "sampler_function"):
            twin.sampler_function = self.callable(sampler.sampler_function)
        else:
            self._root = _package(type(sampler).__module__)
            twin = self._object(sampler)
        return twin

    def callable(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The twin of a function, a method, a partial, or an object that can be called."""
        if isinstance(function, functools.partial):
            return functools.partial(self.callable(function.func), *function.args, **function.keywords)
        if isinstance(function, types.MethodType):
            method = self.callable(function.__func__)
            return types.MethodType(method, self._object(function.__self__))
        if not isinstance(function, types.FunctionType):
            call = inspect.unwrap(type(function).__call__)
            if not isinstance(call, types.FunctionType):
                return function
            call = self.callable(call)
            return types.MethodType(call, self._object(function))
        self._root = _package(inspect.unwrap(function).__module__)
        return self._function(function)

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        inner = inspect.unwrap(function)
        if not isinstance(inner, types.FunctionType):
            return function
        if id(inner) not in self._functions:
            self._functions[id(inner)] = inner
            cells = tuple(types.CellType() for _ in inner.__closure__ or ())
            twin = types.FunctionType(
                _swapped(inner.__code__), self._namespace(inner.__globals__), inner.__name__, inner.__defaults__, cells
            )
            twin.__kwdefaults__ = inner.__kwdefaults__
            twin.__module__, twin.__qualname__ = inner.__module__, inner.__qualname__
            self._functions[id(inner)] = twin
            for cell, original in zip(cells, inner.__closure__ or (), strict=True):
                cell.cell_contents = self._value(original.cell_contents)
        return self._functions[id(inner)]

    def _class(self, cls: type) -> type:
        """The twin of a class of the sampler's own package, beside it and not below; its bases are twins too."""
        if not self._own(cls) or type(cls) is not type or issubclass(cls, BaseException):
            return cls
        if any("__slots__" in vars(c) or "__init_subclass__" in vars(c) for c in cls.__mro__ if self._own(c)):
            return cls
        if id(cls) not in self._classes:
            twin = _Twin(cls.__name__, tuple(self._class(base) for base in cls.__bases__), {})
            self._classes[id(cls)], twin.twin_of = twin, cls
            for name, member in vars(cls).items():
                if name not in ("__dict__", "__weakref__"):
                    setattr(twin, name, self._member(member))
        return self._classes[id(cls)]

    def _object(self, thing: Any) -> Any:
        """A shallow copy with twins of its methods; a class, as the owner of a class method, by its twin."""
        if isinstance(thing, type):
            return self._class(thing)
        twin = copy.copy(thing)
        twin.__class__ = self._class(type(thing))
        return twin

    def _member(self, member: Any) -> Any:
        if isinstance(member, (staticmethod, classmethod)):
            return type(member)(self._member(member.__func__))
        if isinstance(member, property):
            return property(*(self._member(f) for f in (member.fget, member.fset, member.fdel)))
        return self._function(member) if isinstance(member, types.FunctionType) else member

    def _namespace(self, names: dict[str, Any]) -> dict[str, Any]:
        if id(names) not in self._namespaces:
            self._namespaces[id(names)] = namespace = dict(names)
            namespace.update({name: self._value(value) for name, value in names.items()})
        return self._namespaces[id(names)]

    def _value(self, value: Any) -> Any:
        if id(value) in self._replacements:
            return self._replacements[id(value)]
        if isinstance(value, types.ModuleType) and self._samples(value.__name__):
            return types.SimpleNamespace(**self._namespace(vars(value)))
        if isinstance(value, types.FunctionType) and self._samples(inspect.unwrap(value).__module__):
            return self._function(value)
        return self._class(value) if isinstance(value, type) else value

    def _own(self, cls: type) -> bool:
        return _package(cls.__module__) == self._root and self._root not in HOST

    def _samples(self, module: str | None) -> bool:
        package = _package(module or "")
        return (module or "").startswith(SAMPLING_MODULES) or (package == self._root and package != "comfy")


class _Twin(type):
    """The class of twins: an instance of the original counts as one of its twin's."""

    twin_of: type = type(None)

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or isinstance(instance, cls.twin_of)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return super().__subclasscheck__(subclass) or issubclass(subclass, cls.twin_of)


def _package(module: str) -> str:
    return module.split(".")[0]


def _swapped(code: types.CodeType) -> types.CodeType:
    return code.replace(
        co_names=tuple(SWAPS.get(name, name) for name in code.co_names),
        co_consts=tuple(_swapped(c) if isinstance(c, types.CodeType) else c for c in code.co_consts),
    )
