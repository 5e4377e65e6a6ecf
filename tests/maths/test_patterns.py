"""Noise sets: at strength 0 the fresh noise itself, at every strength noise like white noise, at any size."""

from itertools import permutations

import pytest
import torch

from noise_optimize.noise.basis import make_basis
from noise_optimize.noise.patterns import NoiseSet, apart, lowest


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


PATTERNS = NoiseSet(draw(8, 4, 3, 5, seed=9), order=(3, 1, 0, 2, 7, 6, 5, 4))
SHAPES = [(2, 4, 16, 16), (2, 4, 9, 14), (2, 4, 14, 9), (2, 4, 3, 8, 6), (2, 4, 20), (2, 4, 2, 3), (2, 4, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_at_strength_0_it_is_the_fresh_noise_bit_for_bit(shape):
    white = draw(*shape)
    assert PATTERNS.applied(white, [0, 1], 0.0).equal(white)


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_low_coefficients_are_mixed_with_the_pattern_and_all_others_stay(shape, strength):
    white = draw(*shape, dtype=torch.float64)
    mixed = PATTERNS.applied(white, [5, 2], strength)
    assert mixed.shape == white.shape
    basis, _ = lowest(white, (3, 5))
    after, whole = lowest(mixed, (3, 5))
    fresh, low = basis.analyse(basis.start), after.analyse(after.start)
    h, w = low.shape[-2:]
    pattern = PATTERNS.coefficients[[5, 2], :, :h, :w].double()
    torch.testing.assert_close(low, strength**0.5 * pattern + (1 - strength) ** 0.5 * fresh)
    moved = whole - lowest(white, (3, 5))[1]
    energy = (low - fresh).square().sum()
    torch.testing.assert_close(moved.square().sum(), energy)  # an orthonormal change: nothing else has moved


def test_the_coefficients_are_those_of_the_orthonormal_dct():
    import scipy.fft

    noise = PATTERNS.applied(draw(1, 4, 9, 14, dtype=torch.float64), [6])
    found = torch.from_numpy(scipy.fft.dctn(noise.numpy(), axes=(-2, -1), norm="ortho"))[..., :3, :5]
    torch.testing.assert_close(found, PATTERNS.coefficients[[6]].double())


def test_a_smaller_latent_takes_what_fits_of_the_pattern():
    white = draw(1, 4, 2, 3, dtype=torch.float64)
    every = make_basis("full", white, most=16)
    noise = PATTERNS.applied(white, [4])
    torch.testing.assert_close(every.analyse(noise), PATTERNS.coefficients[[4], :, :2, :3].double())


def test_a_video_of_one_frame_is_a_picture_and_in_a_longer_one_the_mean_over_time_has_the_pattern():
    white = draw(2, 4, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(PATTERNS.applied(white[:, :, None], [0, 3])[:, :, 0], PATTERNS.applied(white, [0, 3]))
    video = draw(1, 4, 5, 8, 6, dtype=torch.float64)
    mixed = PATTERNS.applied(video, [1])
    difference = mixed - video
    torch.testing.assert_close(difference, difference[:, :, :1].expand_as(difference))
    basis = make_basis("low frequency", mixed.sum(2) / 5**0.5, 1.0)
    torch.testing.assert_close(
        basis.analyse(basis.start)[..., :3, :5], PATTERNS.coefficients[[1]].double(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 6, 8, 8)])
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_over_many_seeds_and_patterns_it_has_the_statistics_of_white_noise(shape, strength):
    """Mean 0, variance 1 and no correlation of neighbours or frames, where the patterns are like white noise."""
    count = 4096
    many = NoiseSet(draw(512, 4, 3, 3, seed=1))
    noise = many.applied(draw(count, *shape, seed=2, dtype=torch.float64), [i % 512 for i in range(count)], strength)
    error = 1 / (512 * noise[0, 0].numel()) ** 0.5  # of a channel's mean, if all of it were the patterns
    assert noise.mean(dim=(0, *range(2, noise.ndim))).abs().max() < 4 * error
    assert (noise.std(dim=(0, *range(2, noise.ndim))) - 1).abs().max() < 4 * error
    for dim in range(2, noise.ndim):
        last = noise.shape[dim] - 1
        assert (noise.narrow(dim, 0, last) * noise.narrow(dim, 1, last)).mean().abs() < 4 * error
    flat = noise.flatten(1)
    assert (flat.square().mean(0) - 1).abs().mean() < 3 / 512**0.5


def test_pictures_and_seeds_in_a_row_take_the_patterns_in_order():
    order, K = list(PATTERNS.order), len(PATTERNS)
    assert PATTERNS.numbers(0, range(K)) == order
    assert [PATTERNS.numbers(seed, [0])[0] for seed in range(K)] == order
    assert PATTERNS.numbers(5, [2]) == PATTERNS.numbers(7, [0])
    assert PATTERNS.numbers(2**64 - 1, [0, 1]) == [order[(2**64 - 1) % K], order[0]]


def test_another_number_of_channels_is_refused_with_the_models_name():
    found = NoiseSet(PATTERNS.coefficients, model="SDXL", latent_format="SDXL")
    with pytest.raises(ValueError, match=r"4 channels of SDXL \(SDXL\), and this latent has 16; choose a set"):
        found.applied(draw(1, 16, 8, 8), [0])
    with pytest.raises(ValueError, match=r"strength is 1.5; set 0"):
        found.applied(draw(1, 4, 8, 8), [0], 1.5)


@pytest.mark.parametrize(
    "coefficients,order", [(draw(8, 4, 3), ()), (draw(0, 4, 3, 3), ()), (draw(3, 4, 3, 3), (0, 1, 1))]
)
def test_what_is_no_set_is_refused(coefficients, order):
    with pytest.raises(ValueError, match="give"):
        NoiseSet(coefficients, order)
    with pytest.raises(ValueError, match="not finite"):
        NoiseSet(torch.full((2, 4, 3, 3), torch.nan))


def test_the_order_of_a_few_is_as_good_as_any():
    """Against all orders of seven things, by the Vendi score of order 2 of each neighbourhood."""
    features = torch.nn.functional.normalize(draw(7, 3, seed=4, dtype=torch.float64), dim=1)
    likeness = features @ features.T

    def alike(order):
        windows = [[order[(i + j) % 7] for j in range(4)] for i in range(7)]
        return sum(float(likeness[w][:, w].square().sum()) for w in windows)

    best = min(alike((0, *rest)) for rest in permutations(range(1, 7)))
    assert alike(range(7)) > best + 0.1
    assert alike(apart(likeness)) == pytest.approx(best)


def test_neighbours_are_never_of_one_kind_where_there_are_enough_kinds():
    kinds = torch.arange(16) // 4
    likeness = (kinds[:, None] == kinds[None]).double()
    order = apart(likeness)
    assert sorted(order) == list(range(16)) and order == apart(likeness)
    assert all(len({int(kinds[order[(i + j) % 16]]) for j in range(4)}) == 4 for i in range(16))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_few_things_have_an_order(count):
    assert sorted(apart(torch.eye(count))) == list(range(count))
