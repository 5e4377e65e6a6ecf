"""Radial spectra and shares of bands, against closed forms and the published figures."""

import pytest
import torch

from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.spectrum import band_change, band_shares, frequencies, multiplicity, power, radial_spectrum

WHITE = Spectrum(alpha=0.0)


def wave(ky, kx, size=(24, 24), phase=0.3):
    """(1, 1, *size) a plane wave of (ky, kx) cycles per side."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in size), indexing="ij")
    return torch.cos(2 * torch.pi * (ky * y + kx * x) + phase)[None, None]


def expected_low_share(amplitude):
    """Share of the lowest third that an amplitude over `frequencies` gives to noise, without sampling any."""
    size = (64, 64)
    radius, energy = frequencies(size), amplitude.square() * multiplicity(size)
    return float(energy[radius < radius.max() / 3].sum() / energy.sum())


@pytest.mark.parametrize(
    "spectrum,share", [(Spectrum("paper", 0.2), 0.241), (Spectrum("power law", 0.2), 0.208), (WHITE, 0.175)]
)
def test_the_lowest_third_holds_the_published_share(spectrum, share):
    weight = torch.ones(64, 33) if spectrum.is_white else spectrum.amplitude((64, 64))
    assert expected_low_share(weight) == pytest.approx(share, abs=5e-4)
    noise = colour(torch.randn(8, 16, 64, 64, generator=torch.Generator().manual_seed(0)), spectrum)
    assert float(band_shares(noise)[:, 0].mean()) == pytest.approx(share, abs=3e-3)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (6, 9), (1, 4), (11,), (1, 1)])
def test_the_power_of_all_bins_is_the_power_of_the_noise(size):
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = noise.square().flatten(2).sum(2).mean(1)
    torch.testing.assert_close(power(noise).flatten(1).sum(1), expected)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (11,)])
def test_each_bin_has_the_frequency_of_its_wave(size):
    for index in [(0,) * (len(size) - 1) + (1,), (1,) * len(size), (2,) + (1,) * (len(size) - 1)]:
        spread = torch.zeros(*size[:-1], size[-1] // 2 + 1, dtype=torch.complex64)
        spread[index] = 1
        noise = torch.fft.irfftn(spread, s=size)[None, None]
        assert frequencies(size).flatten()[power(noise).argmax()] == pytest.approx(
            sum((k / n) ** 2 for k, n in zip(index, size)) ** 0.5
        )


@pytest.mark.parametrize("k,band", [((1, 0), 0), ((0, 5), 0), ((7, 0), 1), ((7, 8), 1), ((12, 0), 2), ((9, 10), 2)])
def test_a_wave_lies_wholly_in_the_third_of_its_frequency(k, band):
    """Highest frequency of 24 x 24: 12 sqrt(2) = 17 cycles, so the thirds part at 5.7 and 11.3."""
    torch.testing.assert_close(band_shares(wave(*k))[0], torch.eye(3)[band], atol=1e-6, rtol=0)


def test_white_noise_is_flat_at_one():
    noise = torch.randn(16, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    frequency, spectrum = radial_spectrum(noise)
    assert spectrum.shape == (16, len(frequency)) and frequency[0] == 0 and frequency[-1] <= 0.5**0.5 + 1e-6
    torch.testing.assert_close(spectrum.mean(0)[1:], torch.ones(len(frequency) - 1), atol=0.15, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 12), (2, 3, 6, 9), (2, 3, 4, 5, 5), (1, 1, 1, 1)])
def test_shares_sum_to_one_for_every_kind_of_latent(shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(band_shares(noise).sum(1), torch.ones(shape[0]))


def test_the_shares_of_no_noise_are_zero():
    assert band_shares(torch.zeros(2, 4, 8, 8)).equal(torch.zeros(2, 3))


def test_the_change_per_band_is_that_of_the_difference():
    before = torch.randn(1, 1, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    after = before + 3 * wave(1, 1) + wave(12, 0, phase=0)
    torch.testing.assert_close(band_change(before, after)[0], torch.tensor([9 / 11, 0, 2 / 11]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(8, 8), (1, 4, 0, 8)])
def test_what_is_no_latent_has_no_spectrum(shape):
    with pytest.raises(ValueError, match="has no spectrum: it must be"):
        band_shares(torch.zeros(shape))
