"""A step is a share of the noise radius of each sample, whatever the size, the batch or the optimiser."""

import math

import numpy as np
import pytest
import torch

from noise_optimize.noise.basis import norms
from noise_optimize.noise.evolution import Evolution
from noise_optimize.noise.optimizers import OPTIMIZERS, adam, clipped, forget, sgd
from noise_optimize.noise.recipes import RECIPES
from noise_optimize.noise.settings import FEWEST


def of_each(shape):
    return torch.full((shape[0],), float(math.prod(shape[1:])))


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (4, 16, 32, 32), (2, 3, 5, 4, 4)])
def test_a_clipped_gradient_is_one_long_for_every_sample_of_every_size(shape):
    scales = torch.logspace(0, 6, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    torch.testing.assert_close(norms(clipped(draw(*shape) * scales, of_each(shape), clip=0.1)), torch.ones(shape[0]))


def test_below_the_clip_a_step_is_in_proportion_to_the_gradient():
    gradient = draw(1, 4, 8, 8)
    gradient *= 0.05 / (math.sqrt(256) * norms(gradient))
    torch.testing.assert_close(norms(clipped(gradient, of_each(gradient.shape), clip=0.1)), torch.tensor([0.5]))


def test_a_gradient_of_zero_gives_no_step_even_without_a_clip():
    assert not clipped(torch.zeros(1, 4, 2, 2), torch.tensor([16.0]), clip=0.0).any()


@pytest.mark.parametrize("name, longest", [("sgd", 10.0), ("nesterov", 10.0), ("adam", 1.0)])
def test_under_a_constant_gradient_the_steps_reach_the_length_the_optimiser_is_known_for(name, longest):
    u, state = clipped(draw(2, 4, 8, 8), torch.tensor([256.0, 256.0]), clip=0.1), {}
    for _ in range(200):
        step = OPTIMIZERS[name].update(state, u, 0.9)
    assert norms(step).tolist() == pytest.approx([longest, longest], rel=0.01)


def test_heavy_ball_and_nesterov_follow_their_recurrences():
    a, b = torch.tensor([[1.0]]), torch.tensor([[-0.5]])
    for name, expected in (("sgd", [1.0, 0.4]), ("nesterov", [1.9, -0.5 + 0.9 * 0.4])):
        state = {}
        steps = [OPTIMIZERS[name].update(state, u, 0.9).item() for u in (a, b)]
        assert steps == pytest.approx(expected)


def test_adam_agrees_with_torch():
    z = torch.nn.Parameter(torch.zeros(1, 3, 2, 2, dtype=torch.float64))
    reference, state, ours = torch.optim.Adam([z], lr=1.0, eps=1e-8 / math.sqrt(12)), {}, torch.zeros_like(z)
    for _ in range(5):
        z.grad = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        reference.step()
        ours = ours - adam(state, z.grad, 0.9) * math.sqrt(12)
    torch.testing.assert_close(ours, z.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("update", [sgd, adam])
def test_a_forgotten_sample_starts_anew_and_the_others_go_on(update):
    u, state, untouched = draw(2, 3, 2, 2), {}, {}
    for memory in (state, untouched):
        update(memory, u, 0.9)
    forget(state, torch.tensor([True, False]))
    step = update(state, u, 0.9)
    torch.testing.assert_close(step[:1], update({}, u[:1], 0.9))
    assert step[1].equal(update(untouched, u, 0.9)[1])


def test_evolution_finds_the_bottom_of_a_bowl_and_leaves_the_global_generator_alone():
    like, goal = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.7, -1.0]]).double()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    evolution = Evolution(like.shape, sigma=0.3, population=10, seed=3)
    for _ in range(150):
        candidates = evolution.ask(like)
        losses = [float(((x - goal) ** 2).sum()) for x in candidates]
        evolution.tell(losses)
    assert min(losses) < 1e-3
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_evolution_halves_its_spread_when_no_candidate_was_finite():
    evolution = Evolution(torch.Size([1, 2]), sigma=0.4, population=4, seed=0)
    before = evolution.ask(torch.zeros(1, 2))
    evolution.tell([math.inf] * 4)
    assert evolution.strategy.sigma == pytest.approx(0.2)
    torch.testing.assert_close(torch.stack(evolution.ask(torch.zeros(1, 2))), torch.stack(before) / 2)


@pytest.mark.parametrize("population", [FEWEST, 8])
@pytest.mark.parametrize("size", [2, 2000], ids=["few numbers", "many numbers"])  # where cma adapts its step otherwise
def test_evolution_goes_on_after_generations_without_a_finite_candidate(size, population):
    like, steps = torch.zeros(1, size, dtype=torch.float64), 60
    evolution, losses = Evolution(like.shape, sigma=0.3, population=population, seed=1), []
    for step in range(steps):
        losses.append([float((x - 1).square().mean()) for x in evolution.ask(like)])
        evolution.tell([math.inf] * population if step % 5 == 4 else losses[-1])
    assert min(losses[-2]) < min(losses[0]) < 1.2


def test_the_published_recipes_have_the_published_reach_as_a_share_of_the_radius():
    reach = {name: recipe.learning_rate / (1 - recipe.momentum) for name, recipe in RECIPES.items()}
    assert reach["SDXL-Turbo"] == pytest.approx(0.039, abs=5e-4)
    assert reach["ReNO, one picture"] == pytest.approx(0.039, abs=5e-4)
    assert reach["FLUX.1 schnell, white noise"] == pytest.approx(0.012, abs=5e-4)
    assert reach["FLUX.2 klein, one at a time"] == pytest.approx(0.012, abs=5e-4)
    assert all(recipe.source and recipe.optimizer in OPTIMIZERS for recipe in RECIPES.values())
