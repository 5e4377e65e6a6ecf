"""The prior on noise against closed forms: its radius, its rings and its whiteness."""

import math

import pytest
import torch

from noise_optimize.noise.basis import make_basis, norms
from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.prior import REACH, Prior, Whiteness, rings, towards
from noise_optimize.noise.settings import Settings
from noise_optimize.noise.spectrum import radial_spectrum


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weight", [0.1, 4.0])
def test_a_step_towards_a_radius_is_the_proximal_map_of_the_negative_log_density_of_chi(weight):
    radius, n = torch.tensor([5.0, 16.0, 40.0], dtype=torch.float64), 256
    r = towards(radius, torch.tensor(math.sqrt(n - 1), dtype=torch.float64), weight)
    torch.testing.assert_close(r - radius + weight * (r - (n - 1) / r), torch.zeros(3, dtype=torch.float64))


SHAPES = [(2, 4, 16, 16), (2, 3, 9, 14), (1, 4, 3, 8, 6), (2, 5, 20), (1, 4, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["full", "low frequency"])
def test_rings_are_brought_to_where_they_started_and_the_radius_to_the_likeliest(name, shape):
    start = white(*shape).double()
    basis = make_basis(name, start)
    prior = Prior(basis, 1e6, REACH)
    change = prior(white(*basis.analyse(start).shape, seed=1).double())
    begun, ended = (prior.ring_norms(prior.spectrum(x)) for x in (prior.start, prior.start + change))
    torch.testing.assert_close(ended / ended.norm(dim=1, keepdim=True), begun / begun.norm(dim=1, keepdim=True))
    d = start[0].numel()
    likeliest = [math.sqrt(d - 1)] * shape[0] if name == "full" else norms(prior.start).tolist()
    assert norms(prior.start + change).tolist() == pytest.approx(likeliest)


def test_the_rings_of_a_dct_are_half_a_cycle_wide_and_the_first_is_the_mean():
    ring = rings((3, 3), (8, 16))  # a step along the shorter side is two half cycles of the longer one
    assert ring.tolist() == [[0, 1, 2], [2, 2, 3], [4, 4, 4]]


def test_noise_that_has_not_moved_stays_and_a_weight_of_0_moves_nothing():
    start = white(2, 4, 8, 8)
    start *= math.sqrt(255) / norms(start)[:, None, None, None]
    still, change = torch.zeros_like(start), white(2, 4, 8, 8, seed=1)
    basis = make_basis("full", start)
    torch.testing.assert_close(Prior(basis, 4.0, REACH)(still), still, rtol=0, atol=1e-6)
    assert Prior(basis, 0.0, REACH)(change) is change


@pytest.mark.parametrize("reach", [0.01, 0.04, 0.6, 10.0])
@pytest.mark.parametrize("direction", ["out", "in", "across", "into the mean"])
def test_at_the_default_weight_the_radius_stays_within_1_percent_however_long_the_step(reach, direction):
    start = white(3, 4, 32, 32)
    start *= math.sqrt(4095) / norms(start)[:, None, None, None]
    along = {
        "out": start,
        "in": -start,
        "across": white(3, 4, 32, 32, seed=1),
        "into the mean": torch.ones_like(start),
    }[direction]
    basis, step = make_basis("full", start), reach * math.sqrt(4096) * along / norms(along)[:, None, None, None]
    change = Prior(basis, Settings().prior_weight, reach)(step)
    assert (basis.radius(start + change) - 1).abs().max() < 0.01


def test_pink_noise_keeps_its_rings_and_its_missing_mean():
    start = colour(white(2, 4, 32, 32), Spectrum(alpha=0.5))
    change = Prior(make_basis("full", start), 4.0, REACH)(0.5 * white(2, 4, 32, 32, seed=1) + 0.1)
    begun, ended = (radial_spectrum(x)[1] for x in (start, start + change))
    assert (ended / begun - 1)[:, 1:8].abs().max() < 0.25
    assert (start + change).mean(dim=(2, 3)).abs().max() < 0.2 * 0.1 + 0.02


@pytest.mark.parametrize("name", ["full", "low frequency"])
def test_under_a_mask_what_is_free_is_held_and_the_rest_stays(name):
    start, free = white(2, 4, 32, 32), torch.zeros(1, 1, 32, 32)
    free[..., :12, :] = 1
    basis = make_basis(name, start, free=free)
    prior, change = Prior(basis, 4.0, REACH), torch.zeros_like(basis.analyse(start))
    push = basis.analyse(torch.ones_like(start))
    for _ in range(30):
        change = prior(change + 0.04 * basis.d.sqrt()[0] * push / norms(push)[:, None, None, None])
    noise = basis.noise(change)
    assert noise[..., 12:, :].equal(start[..., 12:, :])
    begun, ended = (z[..., :12, :].std(dim=(1, 2, 3)) for z in (start, noise))
    torch.testing.assert_close(ended, begun, rtol=0.05, atol=0)
    power = 12 * 32 * noise[..., :12, :].mean(dim=(2, 3)).square().mean()
    assert power < 0.02 * 12 * 32, "held by its radius alone, nearly all of the noise ends up in its mean"


def test_white_noise_is_white():
    start, other = white(4, 4, 32, 32), white(4, 4, 32, 32, seed=1)
    assert Whiteness.of(start)(start).max() < 1 and Whiteness.of(start)(other).max() < 1


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z + 0.3,
        lambda z: torch.nn.functional.avg_pool2d(z, 3, 1, 1) * 3,
        lambda z: torch.cat([z[..., :16], z[..., :16]], dim=-1),
        lambda z: z.mul(1.5),
    ],
    ids=["a mean", "smooth", "repeated", "too large"],
)
def test_noise_that_is_no_longer_white_is_punished(change):
    z = white(4, 4, 32, 32)
    whiteness = Whiteness.of(z)
    assert (whiteness(change(z)) > 2 * whiteness(z)).all()


def test_noise_that_started_pink_may_stay_pink():
    z = white(4, 16, 32, 32)
    pink = colour(z, Spectrum(alpha=0.5))
    from_pink, from_white = Whiteness.of(pink), Whiteness.of(z)
    assert (from_pink(pink) < 1).all() and (from_white(pink) > 2 * from_pink(pink)).all()


@pytest.mark.parametrize("shape", [(2, 4, 10), (2, 4, 3, 6, 6), (2, 3, 7, 5)])
def test_every_latent_has_a_whiteness(shape):
    penalty = Whiteness.of(white(*shape))(white(*shape))
    assert penalty.shape == (2,) and penalty.isfinite().all()


def test_the_gradient_of_whiteness_is_that_of_finite_differences():
    z = white(2, 2, 4, 4).double()
    assert torch.autograd.gradcheck(Whiteness.of(z), (z.clone() * 2).requires_grad_())
