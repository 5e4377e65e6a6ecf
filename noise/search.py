"""Selection of K among N candidates by quality and diversity (after arXiv 2508.15773): greedy, then swaps.

    value(S) = mean_{i in S} q_i + lambda * mean_{i < j in S} d_ij

The published value has sums in place of the means, so its weight of a pair, mu = 1.5, is lambda = mu (K - 1) / 2 here:
2.25 for K = 4. Means keep the balance whatever the number kept.

The published solver of this quadratic integer programme is a commercial one. Greedy picks are improved by the best
swap of one chosen for one not chosen until no swap helps, from every candidate as the first pick, so the value never
is less than greedy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

# Scores the candidates of these indices after so many steps of the sampler: quality (n,), distances (n, n).
Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def value(chosen: Sequence[int], quality: Tensor, distance: Tensor, weight: float) -> float:
    """value(S) of the module's formula; quality (N,), distance (N, N) symmetric."""
    index = torch.as_tensor(list(chosen))
    k = len(index)
    pairs = distance[index][:, index].triu(1).sum() / max(k * (k - 1) / 2, 1)
    return float(quality[index].mean() + weight * pairs)


def greedy(
    quality: Tensor,
    distance: Tensor,
    keep: int,
    weight: float,
    first: int | None = None,
    places: Tensor | None = None,
    fixed: Sequence[int] = (),
) -> list[int]:
    """Adds, one by one, the candidate that raises the value most; starts from `first`, or from the best quality.

    places, fixed: see `select`; the fixed ones come before the first.
    """
    unary, pair = _coefficients(quality, distance, keep, weight)
    places = torch.zeros(len(unary), dtype=torch.long) if places is None else places
    free = torch.full((int(places.max()) + 1,), -(-keep // (int(places.max()) + 1)))
    chosen: list[int] = []
    gain = unary.clone()
    while len(chosen) < keep:
        if len(chosen) < len(fixed):
            best = fixed[len(chosen)]
        elif len(chosen) == len(fixed) and first is not None and gain[first] > -math.inf:
            best = first
        else:
            best = int(gain.argmax())
        chosen.append(best)
        free[places[best]] -= 1
        gain = (unary + pair[:, chosen].sum(1)).masked_fill(free[places] == 0, -math.inf)
        gain[chosen] = -math.inf
    return chosen


def swap(
    chosen: list[int],
    quality: Tensor,
    distance: Tensor,
    weight: float,
    places: Tensor | None = None,
    fixed: Sequence[int] = (),
) -> list[int]:
    """Exchanges the pair of one chosen and one other, of the same place, that helps most, until none helps; never one
    that is fixed."""
    unary, pair = _coefficients(quality, distance, len(chosen), weight)
    chosen = list(chosen)
    while len(chosen) < len(unary):
        gain = unary + pair[:, chosen].sum(1)
        change = gain[None] - gain[chosen][:, None] - pair[chosen]  # (K, N): out with the row, in with the column
        change[:, chosen] = -math.inf
        change[[candidate in fixed for candidate in chosen]] = -math.inf
        if places is not None:
            change.masked_fill_(places[chosen][:, None] != places, -math.inf)
        best = int(change.argmax())
        if change.flatten()[best] <= 1e-12:
            break
        chosen[best // len(unary)] = best % len(unary)
    return chosen


def select(
    quality: Tensor,
    distance: Tensor,
    keep: int,
    weight: float = 1.0,
    places: Tensor | None = None,
    fixed: Sequence[int] = (),
) -> list[int]:
    """The indices of `keep` candidates, ascending: the best of greedy with swaps over all first picks.

    A candidate with a score that is not finite is taken only where there is no other.
    places: (N,) which of the places 0 .. P-1 each candidate is for; the same number is chosen for each, and keep is a
        multiple of P. None: it does not matter.
    fixed: candidates that are chosen whatever their scores are.
    Raises ValueError where `keep` is not within 1..N, a place has too few candidates, or all of them are broken.

    >>> select(torch.tensor([0.1, 0.9, 0.5, 0.8]), torch.zeros(4, 4), keep=2)
    [1, 3]
    """
    count = len(quality)
    if not 1 <= keep <= count:
        raise ValueError(f"keep is {keep} of {count} candidates; set 1 to {count}.")
    if places is not None and keep > (fewest := int(places.bincount().min())) * (kinds := int(places.max()) + 1):
        raise ValueError(f"keep is {keep}, and one of {kinds} places has only {fewest} candidates; raise candidates.")
    quality, distance = (scores.detach().double().cpu() for scores in (quality, distance))
    quality, distance = _worst_where_broken(quality, distance, weight)
    starts = (greedy(quality, distance, keep, weight, first, places, fixed) for first in (None, *range(count)))
    best = max(
        (swap(start, quality, distance, weight, places, fixed) for start in starts),
        key=lambda chosen: value(chosen, quality, distance, weight),
    )
    return sorted(best)


def search(
    predict: Predict,
    candidates: int,
    rounds: Iterable[tuple[int, int]],
    weight: float = 1.0,
    places: Tensor | None = None,
    fixed: Sequence[int] = (),
) -> list[int]:
    """The indices of the candidates that are left after every round, ascending; rounds: see noise/schedules.py, places
    and fixed: `select`."""
    left = torch.arange(candidates)
    for until, remain in rounds:
        quality, distance = predict(left, until)
        held = [place for place, candidate in enumerate(left.tolist()) if candidate in fixed]
        left = left[select(quality, distance, remain, weight, None if places is None else places[left], held)]
    return left.tolist()


def broken(quality: Tensor, distance: Tensor) -> Tensor:
    """(N,) which candidates have a score of NaN or infinity, of their own or beside one that is not broken itself."""
    bad, lost = ~quality.isfinite(), ~distance.isfinite()
    while (count := (lost & ~bad & ~bad[:, None]).sum(dim=1)).any():
        bad[count.argmax()] = True
    return bad


def _worst_where_broken(quality: Tensor, distance: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """The same scores with those of broken candidates so low that every other set has a higher value."""
    bad = broken(quality, distance)
    if bad.all():
        raise ValueError(
            "All candidates have scores of NaN or infinity: look at the sampler, the VAE and the objective."
        )
    distance = distance.masked_fill(bad | bad[:, None], 0.0)
    span = quality[~bad].max() - quality[~bad].min() + 2 * abs(weight) * distance.abs().max()
    return quality.masked_fill(bad, float(quality[~bad].min() - len(quality) * (span + 1))), distance


def _coefficients(quality: Tensor, distance: Tensor, keep: int, weight: float) -> tuple[Tensor, Tensor]:
    """What a candidate, and a pair of candidates, adds to the value of a set of `keep`."""
    pair = distance * (weight / max(keep * (keep - 1) / 2, 1))
    return quality / keep, pair - torch.diag(pair.diagonal())
