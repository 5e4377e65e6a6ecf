"""Selection against all subsets of small cases."""

import itertools

import pytest
import torch

from noise_optimize.noise.schedules import SCHEDULES, for_each_place, half_way, half_way_only, price, published
from noise_optimize.noise.search import broken, greedy, search, select, value


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


@pytest.mark.parametrize("n, places, each, weight", [(8, 2, 1, 1.5), (9, 3, 1, 0.5), (8, 2, 2, 3.0)])
def test_with_places_it_is_the_best_of_the_subsets_that_have_as_many_of_each(n, places, each, weight):
    place = torch.arange(n) % places
    subsets = [s for s in itertools.combinations(range(n), places * each) if (place[list(s)].bincount() == each).all()]
    for seed in range(8):
        quality, distance = case(seed, n)
        best = max(value(subset, quality, distance, weight) for subset in subsets)
        chosen = select(quality, distance, places * each, weight, place)
        assert place[chosen].bincount(minlength=places).tolist() == [each] * places
        assert value(chosen, quality, distance, weight) == pytest.approx(best)


@pytest.mark.parametrize("places", [None, torch.tensor([0, 1, 2, 0, 0, 2, 0, 2])])
def test_what_is_fixed_is_chosen_whatever_its_scores_and_the_rest_is_the_best_beside_it(places):
    fixed = [1, 5] if places is None else [1]
    for seed in range(8):
        quality, distance = case(seed, 8)
        quality[1] = -5.0
        subsets = (s for s in itertools.combinations(range(8), 3) if set(fixed) <= set(s))
        if places is not None:
            subsets = (
                s for s in subsets if places[list(s)].tolist() in (list(p) for p in itertools.permutations(range(3)))
            )
        best = max(value(subset, quality, distance, 1.5) for subset in subsets)
        chosen = select(quality, distance, 3, 1.5, places, fixed)
        assert set(fixed) <= set(chosen) and value(chosen, quality, distance, 1.5) == pytest.approx(best)
    assert select(quality, distance, 2, 1.5, fixed=[1, 7]) == [1, 7]


def test_what_is_fixed_stays_through_every_round():
    quality, distance = case(3, 9)
    worst = int(quality.argmin())

    def predict(left, until):
        return quality[left], distance[left][:, left]

    assert worst in search(predict, 9, [(1, 6), (2, 3)], 0.0, fixed=[worst])
    assert worst not in search(predict, 9, [(1, 6), (2, 3)], 0.0)


def test_a_place_with_too_few_candidates_is_told():
    with pytest.raises(ValueError, match="one of 2 places has only 1"):
        select(torch.zeros(4), torch.zeros(4, 4), 4, places=torch.tensor([0, 0, 0, 1]))


def test_the_published_weight_of_a_pair_is_2_25_of_means_for_4():
    quality, distance = case(1, 8)
    subset = [0, 2, 5, 7]
    summed = quality[subset].sum() + 1.5 * distance[subset][:, subset].triu(1).sum()
    assert 4 * value(subset, quality, distance, 2.25) == pytest.approx(float(summed))


def test_published_pruning_is_at_every_step():
    """arXiv 2508.15773, released defaults: FLUX.1 schnell drops 0.9 of 64 at each of 4 steps, dev half of 128 at each
    of 20, until 4 are left."""
    assert published(64, 4, 4) == [(1, 7), (2, 4)]
    assert published(128, 4, 20) == [(1, 64), (2, 32), (3, 16), (4, 8), (5, 4)]
    assert published(64, 4, 1) == [(1, 4)]
    assert published(128, 4, 9) == published(128, 4, 20)
    assert published(64, 1, 2) == [(1, 7), (2, 1)]


def test_half_way_never_prunes_after_the_first_step():
    assert half_way(64, 4, 4) == [(2, 16), (4, 4)]
    assert half_way(64, 4, 20) == [(10, 16), (20, 4)]
    assert half_way(64, 4, 3) == [(2, 16), (3, 4)]
    assert half_way(64, 4, 2) == [(2, 4)]
    assert half_way(64, 4, 1) == [(1, 4)]
    assert half_way(16, 4, 4) == [(4, 4)]


def test_half_way_only_keeps_what_is_wanted_after_half_of_the_steps():
    assert half_way_only(16, 4, 4) == half_way_only(64, 4, 4) == [(2, 4)]
    assert half_way_only(16, 4, 9) == [(5, 4)] and half_way_only(16, 4, 1) == [(1, 4)]
    assert half_way_only(4, 4, 4) == [] and price([(2, 4)], 16, resumed=True) == 32


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("candidates, keep, steps", [(64, 4, 4), (64, 4, 1), (5, 4, 7), (100, 1, 30), (7, 7, 4)])
def test_every_schedule_goes_forward_keeps_fewer_each_time_and_ends_with_what_is_wanted(name, candidates, keep, steps):
    rounds = SCHEDULES[name](candidates, keep, steps)
    steps_made, kept = zip((0, candidates), *rounds)
    assert all(now > before for before, now in itertools.pairwise(steps_made)) and steps_made[-1] <= steps
    assert all(now < before for before, now in itertools.pairwise(kept)) and kept[-1] == keep


def test_the_price_counts_the_steps_of_every_candidate():
    rounds = [(2, 16), (4, 4)]
    assert price(rounds, 64, resumed=True) == 64 * 2 + 16 * 2
    assert price(rounds, 64, resumed=False) == 64 * 2 + 16 * 4
    assert price([], 4, resumed=True) == 0


def test_as_many_are_kept_for_each_place():
    assert for_each_place([(1, 7), (2, 4)], 64, 4) == [(1, 8), (2, 4)]
    assert for_each_place([(2, 16), (4, 4)], 18, 4) == [(2, 16), (4, 4)]
    assert for_each_place([(2, 16), (4, 4)], 15, 4) == [(2, 12), (4, 4)]


def test_only_candidates_that_are_left_are_run_further():
    quality, asked = torch.arange(64.0), []

    def predict(left, steps):
        asked.append((steps, len(left)))
        return quality[left], torch.zeros(len(left), len(left))

    assert search(predict, 64, half_way(64, 4, 4)) == [60, 61, 62, 63]
    assert asked == [(2, 64), (4, 16)]
    assert search(predict, 64, half_way(64, 4, 4), places=torch.arange(64) // 16) == [15, 31, 47, 63]
    assert search(predict, 3, []) == [0, 1, 2]


@pytest.mark.parametrize("keep", [0, 4])
def test_keeping_more_than_there_are_is_refused(keep):
    with pytest.raises(ValueError, match="keep"):
        select(torch.zeros(3), torch.zeros(3, 3), keep)


NAN, INF = float("nan"), float("inf")


def test_a_candidate_whose_score_is_not_finite_counts_as_worst():
    quality, distance = case(0, 6)
    quality[1], quality[4] = NAN, INF
    distance[2] = distance[:, 2] = NAN
    assert broken(quality, distance).tolist() == [False, True, True, False, True, False]
    sound = [0, 3, 5]
    expected = select(quality[sound], distance[sound][:, sound], 2, 1.5)
    assert select(quality, distance, 2, 1.5) == [sound[i] for i in expected]
    assert set(sound) < set(select(quality, distance, 4, 1.5)), (
        "one that is broken fills the set where there is no other"
    )
    assert select(quality, distance, 2, 1.5, torch.tensor([0, 1, 1, 0, 1, 0]))[0] in sound


def test_a_distance_between_two_breaks_one_of_them_only():
    distance = torch.zeros(4, 4, dtype=torch.float64)
    distance[1, 2] = distance[2, 1] = NAN
    assert broken(torch.zeros(4), distance).sum() == 1


def test_nothing_is_chosen_where_all_are_broken():
    with pytest.raises(ValueError, match="All candidates"):
        select(torch.full((3,), NAN), torch.zeros(3, 3), 1)
