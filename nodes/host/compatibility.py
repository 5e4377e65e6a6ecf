"""Whether this ComfyUI has all that the pack relies on, asked before that is first used."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

from .symbols import SYMBOLS, Symbol

GONE = object()
STILL = {"session": "Pink Noise, Noise Spectrum, Save Noise, Load Noise and Measure Images still work."}
OTHERS = "Nodes that do not need it still work."


def check(part: str) -> None:
    """Raises RuntimeError with one sentence where this ComfyUI lacks something that a part of SYMBOLS lists."""
    gone = [what for symbol in SYMBOLS.get(part, ()) for what in missing(symbol)]
    if gone:
        names = " and ".join(filter(None, (", ".join(gone[:-1]), gone[-1])))
        raise RuntimeError(
            f"Noise Optimize does not fit this ComfyUI: {names} {'is' if len(gone) == 1 else 'are'} gone; "
            f"update the pack. {STILL.get(part, OTHERS)}"
        )


def missing(symbol: Symbol) -> list[str]:
    """What this ComfyUI lacks of a symbol, in words."""
    if symbol.where and _found(symbol.where) is GONE:
        return []
    found = _found(symbol.name)
    if found is GONE:
        return [symbol.name]
    words = _words(found) if symbol.says else ()
    return [
        *(f"{symbol.name}.{name}" for name in symbol.has.split() if not (hasattr(found, name) or _sets(found, name))),
        *(f"the parameter {name} of {symbol.name}" for name in _not_taken(found, symbol.takes.split())),
        *(f"{name} in {symbol.name}" for name in symbol.says.split() if name not in words),
    ]


def _found(name: str) -> Any:
    try:
        return resolve_name(name)
    except (ImportError, AttributeError):
        return GONE


def _codes(thing: Any) -> Iterator[types.CodeType]:
    """The code of a function, of a class with its bases, or of all that a module defines, with all that is nested."""
    within: list[Any]
    if isinstance(thing, types.CodeType):
        yield thing
        within = [const for const in thing.co_consts if isinstance(const, types.CodeType)]
    elif isinstance(thing, types.ModuleType):
        within = [value for value in vars(thing).values() if getattr(value, "__module__", None) == thing.__name__]
    elif isinstance(thing, type):
        members = [value for base in thing.__mro__ for value in vars(base).values()]
        within = [member for member in members if not isinstance(member, type)]
    elif isinstance(thing, property):
        within = [thing.fget]
    elif isinstance(thing, (staticmethod, classmethod)):
        within = [thing.__func__]
    else:
        within = [getattr(inspect.unwrap(thing), "__code__", None)] if callable(thing) else []
    for each in within:
        yield from _codes(each)


def _sets(thing: Any, name: str) -> bool:
    """Whether its code sets an attribute of this name."""
    codes = (code for code in _codes(thing) if name in code.co_names)
    steps = (step for code in codes for step in dis.get_instructions(code) if step.argval == name)
    return any(step.opname == "STORE_ATTR" for step in steps)


def _words(thing: Any) -> set[str]:
    """The names and strings in its code; of a string, the string."""
    held = (part for code in _codes(thing) for part in (code.co_name, code.co_names, code.co_consts))
    return {each for part in (thing, *held) for each in _flat(part) if isinstance(each, str)}


def _flat(const: Any) -> Iterator[Any]:
    if isinstance(const, (tuple, frozenset)):
        for each in const:
            yield from _flat(each)
    else:
        yield const


def _not_taken(function: Any, wanted: list[str]) -> list[str]:
    """The parameters that are wanted and are not where they are wanted."""
    given = [name for name in inspect.signature(function).parameters if name != "self"] if wanted else []
    return [name for place, name in enumerate(wanted) if given[place : place + 1] != [name]]
