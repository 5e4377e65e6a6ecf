"""The facts that a class of objectives states about itself, each checked in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from .batch import LATENTS, PICTURES
from .kinds import KINDS


def name(owner: str, stated: object) -> str:
    """What its score is called; by default as its class."""
    if stated is None:
        return owner
    if not isinstance(stated, str):
        raise TypeError(f'{owner}: name is {stated!r}; write name = "..." in the class.')
    return stated


def kind(owner: str, stated: object) -> str:
    """A row of KINDS."""
    if not isinstance(stated, str) or stated not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise TypeError(f"{owner}: kind is {stated!r}; write kind = one of {known} in the class.")
    return stated


def needs(owner: str, stated: object) -> frozenset[str]:
    """What it looks at: "pictures" or "latents", or both in a tuple."""
    names = frozenset({stated} if isinstance(stated, str) else stated if isinstance(stated, Collection) else ())
    if not names or not names <= {LATENTS, PICTURES}:
        raise TypeError(
            f'{owner}: needs is {stated!r}; write needs = "{PICTURES}" or needs = "{LATENTS}" in the class.'
        )
    return names


def span(owner: str, stated: object) -> float:
    """How far usual pictures lie apart in this score, in its own units; by default 1, as for a probability."""
    if stated is None:
        return 1.0
    if not isinstance(stated, (int, float)) or not 0 < stated < math.inf:
        raise TypeError(f"{owner}: span is {stated!r}; write span = a finite number above 0 in the class.")
    return stated


FACTS: dict[str, Callable[[str, object], object]] = {"name": name, "kind": kind, "needs": needs, "span": span}
