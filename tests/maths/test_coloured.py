"""Coloured noise has the spectrum it is asked for, zero mean and unit deviation, and white noise stays untouched."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_optimize.noise.coloured import SPECTRA, Spectrum, colour
from noise_optimize.noise.spectrum import frequencies, power, radial_spectrum


def white(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slope(noise, x=torch.log):
    """Least-squares slope of log power over x(frequency), without the mean."""
    frequency, spectrum = radial_spectrum(noise)
    x, y = x(frequency[1:]), spectrum.mean(0)[1:].log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


@pytest.mark.parametrize("kind", ["paper", "power law"])
@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (1, 3, 1, 1), (1, 2, 5, 7, 3), (2, 8, 11)])
def test_alpha_0_is_the_white_noise_itself(kind, shape):
    noise = white(*shape)
    assert colour(noise, Spectrum(kind, alpha=0.0)).equal(noise)


def test_a_band_of_everything_at_alpha_0_is_the_white_noise_itself():
    noise = white(2, 4, 8, 8)
    assert colour(noise, Spectrum("band", alpha=0.0, low=0.0, high=1.0)).equal(noise)


@pytest.mark.parametrize("spectrum", [Spectrum(), Spectrum("power law", -1.0), Spectrum("band"), Spectrum(time=True)])
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 1)])
def test_a_single_pixel_has_no_frequency_to_weight_and_stays_white(spectrum, shape):
    noise = white(*shape)
    assert colour(noise, spectrum).equal(noise)


@given(
    height=st.integers(1, 9),
    width=st.integers(2, 9),
    frames=st.sampled_from([None, 1, 2, 5]),
    kind=st.sampled_from(["paper", "power law"]),
    alpha=st.floats(-2, 2),
    time=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_sample_and_channel_has_zero_mean_and_unit_deviation(height, width, frames, kind, alpha, time):
    shape = (2, 3, height, width) if frames is None else (2, 3, frames, height, width)
    noise = colour(white(*shape, dtype=torch.float64), Spectrum(kind, alpha or 0.2, time=time)).flatten(2)
    torch.testing.assert_close(noise.mean(2), torch.zeros(2, 3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(noise.std(2), torch.ones(2, 3, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 6), (9,)])
@pytest.mark.parametrize("kind", SPECTRA)
def test_colouring_is_a_real_symmetric_filter_of_the_closed_form(kind, size):
    """Against the same filter over the full FFT, with the formula written out."""
    spectrum = Spectrum(kind, alpha=0.7, low=0.3, high=0.9)
    grids = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in size), indexing="ij")
    cycles = sum((g * n) ** 2 for g, n in zip(grids, size)).sqrt()
    radius = sum(g**2 for g in grids).sqrt()
    inside = (radius >= 0.3 * radius.max()) & (radius <= 0.9 * radius.max())
    gain = {
        "paper": (1 + cycles) ** -0.7,
        "power law": radius.clamp(min=1e-9) ** -0.35,
        "band": (1 + cycles) ** -0.7 * inside,
    }[kind]
    gain[(0,) * len(size)] = 0
    noise = white(2, 3, *size, dtype=torch.float64)
    axes = tuple(range(-len(size), 0))
    expected = torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) * gain, dim=axes)
    assert expected.imag.abs().max() < 1e-12
    expected = expected.real / expected.real.std(dim=axes, keepdim=True)
    torch.testing.assert_close(colour(noise, spectrum), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 1.5])
def test_the_power_law_falls_as_one_over_f_to_the_alpha(alpha):
    noise = colour(white(8, 8, 64, 64), Spectrum("power law", alpha))
    assert slope(noise) == pytest.approx(-alpha, abs=0.05)


@pytest.mark.parametrize("alpha", [-0.2, 0.2, 0.5])
def test_the_papers_power_falls_as_one_plus_f_to_the_twice_alpha(alpha):
    noise = colour(white(8, 8, 64, 64), Spectrum("paper", alpha))
    assert slope(noise, x=lambda f: (1 + 64 * f).log()) == pytest.approx(-2 * alpha, abs=0.05)


def test_a_band_holds_nothing_outside_its_edges_and_is_flat_inside():
    noise = colour(white(8, 8, 32, 32), Spectrum("band", alpha=0.0, low=0.25, high=0.5))
    radius = frequencies((32, 32))
    inside = (radius >= 0.25 * radius.max()) & (radius <= 0.5 * radius.max())
    spread = power(noise).mean(0)
    assert spread[~inside].max() < 1e-10
    frequency, spectrum = radial_spectrum(noise)
    within = spectrum.mean(0)[(frequency > 0.27 * radius.max()) & (frequency < 0.48 * radius.max())]
    assert within.std() / within.mean() < 0.1


def test_frames_are_filtered_one_by_one_unless_time_is_asked_for():
    noise = white(1, 2, 16, 8, 8)
    still = colour(noise, Spectrum("power law", 1.5))
    moving = colour(noise, Spectrum("power law", 1.5, time=True))
    neighbours = [(x[:, :, 1:] * x[:, :, :-1]).mean() for x in (still, moving)]
    assert abs(neighbours[0]) < 0.1 and neighbours[1] > 0.2
    frame = colour(noise[:, :, 3], Spectrum("power law", 1.5))
    ratio = still[:, :, 3] / frame
    torch.testing.assert_close(ratio, ratio.mean((-2, -1), keepdim=True).expand_as(ratio), rtol=1e-4, atol=0)


def test_samples_are_coloured_independently_of_their_batch():
    noise = white(3, 4, 8, 8)
    batch = colour(noise, Spectrum())
    assert not batch[0].equal(batch[1])
    assert torch.cat([colour(noise[i : i + 1], Spectrum()) for i in range(3)]).equal(batch)


def test_colouring_is_deterministic_and_leaves_its_input_and_the_global_generator_alone():
    noise, state = white(2, 4, 16, 16), torch.random.get_rng_state()
    kept = noise.clone()
    assert colour(noise, Spectrum()).equal(colour(noise, Spectrum()))
    assert noise.equal(kept) and torch.random.get_rng_state().equal(state)


def test_the_gradient_of_colouring_is_exact():
    noise = white(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: colour(z, Spectrum("power law", 0.8)), noise)


@pytest.mark.parametrize("alpha", [math.nan, math.inf, 2.1, -3.0])
def test_an_alpha_that_is_not_a_number_from_minus_2_to_2_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha is .* set a number from -2 to 2"):
        Spectrum(alpha=alpha)


@pytest.mark.parametrize("low,high", [(0.5, 0.5), (0.6, 0.2), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5), (0, math.nan)])
def test_edges_that_hold_no_band_are_refused(low, high):
    with pytest.raises(ValueError, match="set 0 <= low < high <= 1"):
        Spectrum("band", low=low, high=high)


def test_an_unknown_spectrum_and_a_band_between_the_frequencies_are_refused():
    with pytest.raises(ValueError, match="choose one of paper, power law, band"):
        Spectrum("brown")
    with pytest.raises(ValueError, match="no frequency of a 4 x 4 latent.*widen the band"):
        colour(white(1, 1, 4, 4), Spectrum("band", low=0.01, high=0.02))


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 8, 8), (1, 4, 0, 8), (1, 1, 1, 1, 2, 2)])
def test_noise_without_a_spectrum_is_refused(shape):
    with pytest.raises(ValueError, match="has no spectrum"):
        colour(torch.zeros(shape), Spectrum())
