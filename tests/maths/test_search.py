"""Selection against all subsets of small cases."""

import itertools

import pytest
import torch

from noise_optimize.noise.search import greedy, schedule, search, select, value


def case(seed, n):
    source = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 2, generator=source, dtype=torch.float64)
    noise = torch.rand(n, n, generator=source, dtype=torch.float64)
    distance = torch.cdist(points, points) if seed % 2 else (noise + noise.T) / 2
    return torch.rand(n, generator=source, dtype=torch.float64), distance.fill_diagonal_(0)


@pytest.mark.parametrize("n, keep, weight", [(6, 2, 1.5), (8, 3, 1.5), (9, 4, 0.5), (10, 5, 10.0), (7, 1, 1.0)])
def test_selection_is_the_best_of_all_subsets(n, keep, weight):
    subsets = torch.tensor(list(itertools.combinations(range(n), keep)))
    for seed in range(8):
        quality, distance = case(seed, n)
        pairs = distance[subsets[:, :, None], subsets[:, None]].sum((1, 2)) / max(keep * (keep - 1), 1)
        best = float((quality[subsets].mean(1) + weight * pairs).max())
        assert value(select(quality, distance, keep, weight), quality, distance, weight) == pytest.approx(best)


def test_selection_is_never_less_than_greedy_and_takes_each_candidate_once():
    for seed in range(3):
        quality, distance = case(seed, 24)
        chosen = select(quality, distance, 6, 1.5)
        assert len(set(chosen)) == 6
        least = value(greedy(quality, distance, 6, 1.5), quality, distance, 1.5)
        assert value(chosen, quality, distance, 1.5) >= least - 1e-12


def test_without_diversity_the_best_qualities_are_taken_and_with_it_alone_the_far_ones():
    quality, distance = torch.tensor([0.1, 0.9, 0.5, 0.8]), torch.ones(4, 4).fill_diagonal_(0)
    assert select(quality, distance, 2, 1.0) == [1, 3]
    line = torch.tensor([0.0, 0.4, 0.5, 1.0])
    assert select(torch.zeros(4), (line[:, None] - line).abs(), 2, 1.0) == [0, 3]


def test_the_schedule_prunes_as_published():
    assert schedule(64, 4, 4) == [(1, 7), (4, 4)]
    assert schedule(64, 4, 1) == [(1, 4)]
    assert schedule(64, 4, 20) == [(1, 14), (10, 7), (20, 4)]
    assert schedule(5, 4, 4) == [(4, 4)]


def test_only_candidates_that_are_left_are_run_further():
    quality, asked = torch.arange(64.0), []

    def predict(left, steps):
        asked.append((steps, len(left)))
        return quality[left], torch.zeros(len(left), len(left))

    assert search(predict, 64, 4, 4) == [60, 61, 62, 63]
    assert asked == [(1, 64), (4, 7)]


@pytest.mark.parametrize("keep", [0, 4])
def test_keeping_more_than_there_are_is_refused(keep):
    with pytest.raises(ValueError, match="keep"):
        select(torch.zeros(3), torch.zeros(3, 3), keep)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        select(torch.tensor([0.0, float("nan")]), torch.zeros(2, 2), 1)
