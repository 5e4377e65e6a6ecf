"""Optimising low frequencies: what is outside the band stays, to the bit where that can be."""

import pytest
import torch

from noise_optimize.noise.basis import dct_rows, make_basis, norms


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


SHAPES = [(2, 4, 16, 16), (1, 3, 9, 14), (2, 4, 3, 8, 6), (2, 5, 20), (1, 4, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["full", "low frequency"])
def test_without_a_change_the_noise_is_the_start_bit_for_bit(name, shape):
    start = draw(*shape)
    basis = make_basis(name, start)
    assert basis.noise(torch.zeros_like(basis.analyse(start))).equal(start)


def test_the_band_is_an_orthonormal_dct():
    import scipy.fft

    x = draw(1, 1, 9, 14, dtype=torch.float64)
    expected = torch.from_numpy(scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho"))[..., :3, :5]
    torch.testing.assert_close(make_basis("low frequency", x).analyse(x), expected)
    rows = dct_rows(14, 14, x)
    torch.testing.assert_close(rows @ rows.T, torch.eye(14, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_analysis_is_the_adjoint_of_synthesis(shape):
    x = draw(*shape, dtype=torch.float64)
    basis = make_basis("low frequency", x)
    c = draw(*basis.analyse(x).shape, seed=1, dtype=torch.float64)
    torch.testing.assert_close((basis.analyse(x) * c).sum(), (x * basis.synthesise(c)).sum())


def test_a_hundred_steps_leave_the_rest_of_the_spectrum_as_one_step_does():
    start = draw(2, 4, 24, 24)
    kept = start.clone()
    basis = make_basis("low frequency", start)
    change = torch.zeros_like(basis.analyse(start))
    for seed in range(100):
        change = change + 0.1 * draw(*change.shape, seed=seed)
    noise = basis.noise(change)
    assert start.equal(kept)
    every = make_basis("low frequency", start.double(), band=1.0)
    moved = every.analyse(noise.double() - start.double())
    outside = moved.clone()
    outside[..., : change.shape[-2], : change.shape[-1]] = 0
    assert outside.abs().max() < 2e-6
    torch.testing.assert_close(moved[..., :8, :8], change.double(), rtol=0, atol=2e-6)


def test_cma_has_at_most_so_many_frequencies_a_side():
    start = draw(1, 4, 16, 12)
    assert make_basis("full", start, most=8).analyse(start).shape == (1, 4, 8, 8)
    assert make_basis("low frequency", draw(1, 4, 12, 12), most=8).analyse(draw(1, 4, 12, 12)).shape == (1, 4, 4, 4)


@pytest.mark.parametrize("shape", SHAPES[:4])
@pytest.mark.parametrize("name", ["full", "low frequency"])
def test_only_what_is_free_moves_and_is_counted(name, shape):
    start, free = draw(*shape, dtype=torch.float64), torch.zeros(1, 1, *shape[2:])
    free[..., : shape[-1] // 2] = 0.3  # a soft mask frees what it does not hold wholly
    basis = make_basis(name, start, free=free)
    moved = basis.noise(draw(*basis.analyse(start).shape, seed=1, dtype=torch.float64)) - start
    assert moved[..., shape[-1] // 2 :].eq(0).all() and moved[..., : shape[-1] // 2].ne(0).all()
    assert basis.d.tolist() == [start[0, ..., : shape[-1] // 2].numel()] * shape[0]
    part = start[..., : shape[-1] // 2]
    torch.testing.assert_close(basis.radius(start), norms(part) / (part[0].numel() - 1) ** 0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_analysis_under_a_mask_is_the_adjoint_of_synthesis_under_it(shape):
    x, free = draw(*shape, dtype=torch.float64), draw(*shape, seed=2) > 0
    basis = make_basis("low frequency", x, free=free)
    c = draw(*basis.analyse(x).shape, seed=1, dtype=torch.float64)
    torch.testing.assert_close((basis.analyse(x) * c).sum(), (x * basis.synthesise(c)).sum())


@pytest.mark.parametrize("name, band, wrong", [("wavelet", 0.3, "basis"), ("low frequency", 0.0, "band")])
def test_a_basis_that_is_none_is_refused(name, band, wrong):
    with pytest.raises(ValueError, match=wrong):
        make_basis(name, draw(1, 1, 4, 4), band)
