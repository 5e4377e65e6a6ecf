"""The prior on noise against closed forms: its radius and its whiteness."""

import math

import pytest
import torch

from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.prior import Whiteness, radius_penalty


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_radius_penalty_is_the_chi_density_above_its_mode():
    z = white(3, 4, 8, 8).double() * torch.tensor([0.5, 1, 2])[:, None, None, None]
    radius, d = z.flatten(1).norm(dim=1), 256

    def density(r):
        return r**2 / 2 - (d - 1) * math.log(r)

    expected = [density(float(r)) - density(math.sqrt(d - 1)) for r in radius]
    assert radius_penalty(z).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_radius_is_of_each_sample_and_best_at_the_root_of_d_minus_1():
    z = white(3, 16, 64, 64).half()
    d = z[0].numel()
    unit = z.float() / z.float().flatten(1).norm(dim=1)[:, None, None, None]
    at_best = (unit * math.sqrt(d - 1)).requires_grad_()
    penalty = radius_penalty(at_best)
    assert penalty.shape == (3,) and penalty.abs().max() < 0.05
    penalty.sum().backward()
    assert at_best.grad.abs().max() < 1e-3
    assert radius_penalty(z).dtype == torch.float32
    longer, shorter = (radius_penalty(unit * math.sqrt(d - 1) * factor) for factor in (1.01, 0.99))
    assert (longer > 5).all() and (shorter > 5).all()


def test_noise_of_one_value_or_of_none_has_a_defined_radius_penalty():
    assert radius_penalty(torch.tensor([[[[2.0]]]])).tolist() == [2]
    z = torch.zeros(1, 4, 8, 8, requires_grad=True)
    radius_penalty(z).sum().backward()
    assert z.grad.isfinite().all()


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


def test_the_gradients_of_the_prior_are_those_of_finite_differences():
    z = white(2, 2, 4, 4).double()
    assert torch.autograd.gradcheck(radius_penalty, z.clone().requires_grad_())
    assert torch.autograd.gradcheck(Whiteness.of(z), (z.clone() * 2).requires_grad_())
