"""When a search looks at its candidates, and how many it keeps each time: rows of a table.

A schedule maps (candidates, keep, steps of the sampler) to its rounds, each (steps made by then, candidates kept).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

Rounds = list[tuple[int, int]]
SPARE = 4  # times what is wanted in the end goes on past half-way
FEW_STEPS = 8  # up to so many, the published schedule is that of a few-step model
PRUNED_FEW, PRUNED_MANY = 0.9, 0.5  # share dropped at each step with FLUX.1 schnell (4 steps) and dev (20 steps)


def half_way(candidates: int, keep: int, steps: int) -> Rounds:
    """After half of the steps, but never after the first, SPARE x keep remain; after all of them keep.

    It finds what `to_the_end` finds, at three fifths of the price; after the first step a prediction tells too little.
    See tests/benchmarks/search_schedules.py.
    """
    half = max(2, -(-steps // 2))
    rounds = [(half, SPARE * keep), (steps, keep)] if half < steps else [(steps, keep)]
    return [each for each in rounds if each[1] < candidates]


def half_way_only(candidates: int, keep: int, steps: int) -> Rounds:
    """After half of the steps, keep remain: as good as `half_way` where few are drawn, at half of what those cost."""
    return [(max(2, -(-steps // 2)) if steps > 1 else 1, keep)] if keep < candidates else []


def to_the_end(candidates: int, keep: int, steps: int) -> Rounds:
    """All candidates are sampled to the end."""
    return [(steps, keep)] if keep < candidates else []


def published(candidates: int, keep: int, steps: int) -> Rounds:
    """Every step prunes to a fixed share (arXiv 2508.15773): 64 to 7 to 4 in two of four steps, 128 to 64, 32, 16, 8, 4
    in five of twenty."""
    share = 1 - (PRUNED_FEW if steps <= FEW_STEPS else PRUNED_MANY)
    rounds: Rounds = []
    for step in range(1, steps + 1):
        if candidates > keep:
            candidates = keep if step == steps else max(keep, math.ceil(candidates * share))
            rounds.append((step, candidates))
    return rounds


SCHEDULES: dict[str, Callable[[int, int, int], Rounds]] = {
    "half way": half_way,
    "to the end": to_the_end,
    "published": published,
    "half way only": half_way_only,
}


def price(rounds: Iterable[tuple[int, int]], candidates: int, resumed: bool) -> int:
    """Steps of single candidates that these rounds take; resumed: each goes on from where the one before it stopped."""
    total = done = 0
    for until, kept in rounds:
        total += candidates * (until - done)
        candidates, done = kept, until if resumed else 0
    return total


def for_each_place(rounds: Iterable[tuple[int, int]], candidates: int, places: int) -> Rounds:
    """The same rounds where equally many are kept for each of these places, to which candidates are dealt in turn."""
    return [(until, places * min(-(-kept // places), candidates // places)) for until, kept in rounds]
