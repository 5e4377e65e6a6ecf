"""Candidates of a search: scored by the objectives' own weights and targets, broken ones told from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from noise_optimize.noise.candidates import joined, scored
from noise_optimize.objectives import Batch, Diversity, LatentFeatures, Objective
from noise_optimize.objectives.batch import BrokenSamples

FEATURES = LatentFeatures(grid=2)


@dataclass(frozen=True, kw_only=True)
class Mean(Objective):
    kind = "quality"
    needs = "latents"

    def measure(self, batch: Batch) -> Tensor:
        return batch.latents.flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class Blind(Mean):
    """Sees nothing in candidates whose first value is above 2."""

    def measure(self, batch: Batch) -> Tensor:
        blind = batch.latents.flatten(1)[:, 0] > 2
        if blind.any():
            raise BrokenSamples("nothing there", blind)
        return super().measure(batch)


def batch(count: int = 5, seed: int = 0) -> Batch:
    return Batch(torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1))


def test_quality_is_weighted_and_no_better_than_its_target() -> None:
    means, some = batch().latents.mean(dim=(1, 2, 3)).double(), batch()
    torch.testing.assert_close(scored([Mean(weight=3)], some).quality, 3 * means)
    target = float(means.median())
    capped = scored([Mean(weight=3, target=target)], some).quality
    torch.testing.assert_close(capped, 3 * means.clamp(max=target) - 3 * target)
    lowered = scored([Mean(weight=-3, target=target)], some).quality
    torch.testing.assert_close(lowered, 3 * target - 3 * means.clamp(min=target))


def test_distances_are_weighted_and_add_up() -> None:
    first, other = Diversity(features=FEATURES), Diversity(features=LatentFeatures(grid=4), weight=0.5)
    some = batch()
    _, together = joined([first, 2 * first, other], [scored([first, other], some)])
    expected = 3 * first.distances(some) + 0.5 * other.distances(some)
    torch.testing.assert_close(together, expected)


def test_parts_give_what_the_whole_gives() -> None:
    objectives = [Diversity(features=FEATURES), Mean()]
    whole = Batch(torch.cat([batch(3).latents, batch(2, seed=1).latents]))
    parts = [scored(objectives, Batch(part)) for part in whole.latents.split([3, 2])]
    for mine, expected in zip(joined(objectives, parts), joined(objectives, [scored(objectives, whole)]), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_candidates_are_left_out_and_the_others_are_as_without_them(value: float) -> None:
    objectives, latents = [Diversity(features=FEATURES), Mean()], batch().latents
    sound = [0, 2, 4]
    expected = joined(objectives, [scored(objectives, Batch(latents[sound]))])
    latents[1, 0, 0, 0] = value
    latents[3] = 0  # no direction: features are all zero
    quality, distance = joined(objectives, [scored(objectives, Batch(part)) for part in latents.split(2)])
    assert quality.isnan().tolist() == [False, True, False, True, False]
    torch.testing.assert_close(quality[sound], expected[0])
    torch.testing.assert_close(distance[sound][:, sound], expected[1])


def test_what_a_score_cannot_see_is_broken_and_so_may_be_all_of_a_part() -> None:
    latents = batch().latents
    latents[:2, 0, 0, 0] = 3
    quality, distance = joined([Blind()], [scored([Blind()], Batch(part)) for part in latents.split(2)])
    assert quality.isnan().tolist() == [True, True, False, False, False]
    assert not distance.any()


def test_what_is_far_from_pictures_to_differ_from_is_better_by_the_weighted_mean_distance() -> None:
    latents = torch.zeros(3, 2, 1, 1, dtype=torch.float64)
    latents[0, 0], latents[1, 1], latents[2] = 1, 1, 0.5**0.5
    unbound = Diversity(features=LatentFeatures(grid=1), weight=3)
    assert scored([unbound], Batch(latents)).quality.tolist() == [0, 0, 0]
    same, none = Batch(latents[:1]), Batch(latents[1:2])
    apart = scored([unbound.bind(references=same)], Batch(latents)).quality
    torch.testing.assert_close(apart, 3 * torch.tensor([0, 1, 1 - 0.5**0.5], dtype=torch.float64))
    both = Batch(torch.cat([same.latents, none.latents]))
    apart = scored([unbound.bind(references=both)], Batch(latents)).quality
    torch.testing.assert_close(apart, 3 * torch.tensor([0.5, 0.5, 1 - 0.5**0.5], dtype=torch.float64))
