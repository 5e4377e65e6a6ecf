"""Selection of K among N candidates by quality and diversity (after arXiv 2508.15773): greedy, then swaps.

    value(S) = mean_{i in S} q_i + lambda * mean_{i < j in S} d_ij

The published solver of this quadratic integer programme is a commercial one. Greedy picks are improved by the best
swap of one chosen for one not chosen until no swap helps, from every candidate as the first pick, so the value never
is less than greedy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Scores the candidates of these indices after so many steps of the sampler: quality (n,), distances (n, n).
Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]
SPARE = 1.75  # 7 of 64 candidates are kept for the last step, where 4 are wanted (FLUX.1 schnell, published schedule)


def value(chosen: Sequence[int], quality: Tensor, distance: Tensor, weight: float) -> float:
    """value(S) of the module's formula; quality (N,), distance (N, N) symmetric."""
    index = torch.as_tensor(list(chosen))
    k = len(index)
    pairs = distance[index][:, index].triu(1).sum() / max(k * (k - 1) / 2, 1)
    return float(quality[index].mean() + weight * pairs)


def greedy(quality: Tensor, distance: Tensor, keep: int, weight: float, first: int | None = None) -> list[int]:
    """Adds, one by one, the candidate that raises the value most; starts from `first`, or from the best quality."""
    unary, pair = _coefficients(quality, distance, keep, weight)
    chosen = [int(unary.argmax()) if first is None else first]
    while len(chosen) < keep:
        gain = unary + pair[:, chosen].sum(1)
        gain[chosen] = -math.inf
        chosen.append(int(gain.argmax()))
    return chosen


def swap(chosen: list[int], quality: Tensor, distance: Tensor, weight: float) -> list[int]:
    """Exchanges the pair of one chosen and one other that helps most, until none helps."""
    unary, pair = _coefficients(quality, distance, len(chosen), weight)
    chosen = list(chosen)
    while len(chosen) < len(unary):
        gain = unary + pair[:, chosen].sum(1)
        change = gain[None] - gain[chosen][:, None] - pair[chosen]  # (K, N): out with the row, in with the column
        change[:, chosen] = -math.inf
        best = int(change.argmax())
        if change.flatten()[best] <= 1e-12:
            break
        chosen[best // len(unary)] = best % len(unary)
    return chosen


def select(quality: Tensor, distance: Tensor, keep: int, weight: float = 1.0) -> list[int]:
    """The indices of `keep` candidates, ascending: the best of greedy with swaps over all first picks.

    Raises ValueError where `keep` is not within 1..N or a score is not finite.

    >>> quality = torch.tensor([0.9, 0.8, 0.7])
    >>> distance = torch.tensor([[0.0, 0.1, 0.6], [0.1, 0.0, 0.5], [0.6, 0.5, 0.0]])
    >>> select(quality, distance, keep=2)  # the second best looks like the best
    [0, 2]
    """
    count = len(quality)
    if not 1 <= keep <= count:
        raise ValueError(f"keep is {keep} of {count} candidates; set 1 to {count}.")
    if not (quality.isfinite().all() and distance.isfinite().all()):
        raise ValueError("A candidate has a score of NaN or infinity; look at the sampler and the objective.")
    quality, distance = quality.detach().double().cpu(), distance.detach().double().cpu()
    starts = (greedy(quality, distance, keep, weight, first) for first in (None, *range(count)))
    best = max(
        (swap(start, quality, distance, weight) for start in starts),
        key=lambda chosen: value(chosen, quality, distance, weight),
    )
    return sorted(best)


def schedule(candidates: int, keep: int, steps: int) -> list[tuple[int, int]]:
    """(steps of the sampler, candidates kept after them): after one step SPARE x keep remain, after all `keep` do.

    64 candidates, 4 wanted, 4 steps: 7 after the first, 4 after the last. Long schedules prune once more half-way.
    """
    spare = min(candidates, math.ceil(SPARE * keep))
    rounds = [(1, spare)] if steps > 1 and spare < candidates else []
    if steps > 7 and candidates > 4 * spare:
        rounds = [(1, 2 * spare), (steps // 2, spare)]
    return [*rounds, (steps, keep)]


def search(predict: Predict, candidates: int, keep: int, steps: int, weight: float = 1.0) -> list[int]:
    """The indices of the candidates that are left after every round of `schedule`, ascending."""
    left = torch.arange(candidates)
    for until, remain in schedule(candidates, keep, steps):
        left = left[select(*predict(left, until), remain, weight)]
    return left.tolist()


def _coefficients(quality: Tensor, distance: Tensor, keep: int, weight: float) -> tuple[Tensor, Tensor]:
    """What a candidate, and a pair of candidates, adds to the value of a set of `keep`."""
    pair = distance * (weight / max(keep * (keep - 1) / 2, 1))
    return quality / keep, pair - torch.diag(pair.diagonal())
