"""Large steps: each promise of the loop holds at the length of step that needs few of them."""

import math

import pytest
import torch
from known_problem import GOAL, START, D, Measured, cosine, draw, identity, towards

from noise_optimize.noise.basis import norms
from noise_optimize.noise.optimize import optimize
from noise_optimize.noise.settings import Settings
from noise_optimize.noise.settling import HALVINGS, NOTHING, TRIES, Settling
from noise_optimize.objectives.batch import Batch

LARGE = {"optimizer": "large steps", "learning_rate": 0.35}


def large(iterations, **settings):
    return Settings(iterations, **LARGE | settings)


def test_the_first_step_is_as_long_as_any_and_a_few_get_far():
    seen = []
    result = optimize(identity, towards(), START, large(5, prior_weight=0), lambda p: seen.append(p.batch.latents))
    first, second = (norms(seen[i + 1] - seen[i]) for i in (0, 1))
    torch.testing.assert_close(first, torch.full((3,), 0.35 * math.sqrt(D)), rtol=1e-4, atol=0)
    torch.testing.assert_close(second, first, rtol=1e-4, atol=0)
    assert cosine(result.noise).min() > 0.8 > 0.2 > cosine(START).max()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("rate", [0.35, 1.0])
def test_the_radius_stays_within_a_hundredth(sign, scale, rate):
    away, radii = Measured(name="away", by=lambda z: sign * scale * norms(z)), []
    optimize(
        identity,
        away,
        draw(2, 4, 32, 32),
        large(20, learning_rate=rate),
        lambda p: radii.append(norms(p.batch.latents)),
    )
    for radius in radii[1:]:
        torch.testing.assert_close(radius, torch.full((2,), math.sqrt(4095)), rtol=0.01, atol=0)


def test_a_run_ends_by_itself_near_the_optimum_and_keeps_its_best():
    result = optimize(identity, towards(), START, large(200, prior_weight=0))
    losses = [step.loss for step in result.history]
    assert result.stopped == NOTHING and len(losses) < 60
    assert losses[result.best] == min(losses) and cosine(result.noise).min() > 0.95


def test_after_steps_without_a_gain_it_goes_back_to_its_best_and_on_by_half():
    places = [(torch.full((1,), float(i)), torch.full((1,), -float(i))) for i in range(20)]
    settling = Settling(places[0])
    backs = [settling.enter(loss, *places[i]) for i, loss in enumerate((0.0, -1.0, -0.5, -0.9))]
    assert backs == [False, False, False, True] and settling.place == places[1] and not settling.done
    assert not settling.enter(-2.0, *places[4]), "a gain begins the count anew"
    assert not settling.enter(-2.001, *places[5]), "one of a two-thousandth counts as none"
    assert settling.enter(-2.002, *places[6]) and settling.place == places[6], "but the lowest is the best"
    for i in range(TRIES * (HALVINGS - 1)):
        assert not settling.done
        settling.enter(0.0, *places[7 + i])
    assert settling.done


@pytest.mark.parametrize("learning_rate", [0.1, 0.35])
def test_it_never_returns_worse_than_the_start(learning_rate):
    at_start = Measured(name="stay", by=lambda z: -(z - START).flatten(1).norm(dim=1) - 0.1 * z.mean())
    result = optimize(identity, at_start, START, large(10, learning_rate=learning_rate, prior_weight=0))
    assert result.best == 0 and result.noise.equal(START)


def falling(bound):
    """A quality that is lost by the middle sample alone, once it comes nearer to the goal than `bound`."""

    def by(z):
        return torch.where((torch.arange(3) == 1) & (cosine(z.detach()) > bound), 0.5, 1.0) + 0 * cosine(z)

    return Measured(name="quality", kind="quality", by=by) * 1e-6


def test_a_picture_whose_quality_fell_is_put_back_at_once_and_the_others_keep_their_step():
    shown = []
    result = optimize(identity, towards() + falling(0.3), START, large(4, rollback=0.1), shown.append)
    back = [progress.step.iteration for progress in shown if progress.step.put_back]
    assert back and all(progress.step.put_back in ((), (1,)) for progress in shown)
    seen = [progress.batch.latents for progress in shown]
    for i in back:
        assert seen[i][1].equal(seen[i - 1][1]), "what is scored is the set without the fall"
        assert norms(seen[i] - seen[i - 1])[[0, 2]].min() > 1
    undisturbed = optimize(identity, towards(), START, large(4))
    for other in (0, 2):
        assert result.noise[other].equal(undisturbed.noise[other])
    assert cosine(START)[1] < cosine(result.noise)[1] <= 0.3, "and it moved by shorter steps"
    assert result.best == 4 and result.batch.latents.equal(result.noise)


def test_the_retry_of_a_picture_that_fell_is_half_as_long():
    tried = []

    def generate(z):
        tried.append(z.detach().clone())
        return identity(z)

    def quality(z):
        return torch.tensor([1.0, 0.5 if len(tried) == 2 else 1.0, 1.0]) + 0 * cosine(z)

    told = Measured(name="quality", kind="quality", by=quality) * 1e-6
    optimize(generate, towards() + told, START, large(2, rollback=0.1, prior_weight=0))
    full, half = (norms(tried[i] - START)[1] for i in (1, 2))
    torch.testing.assert_close(half, full / 2, rtol=1e-4, atol=0)


def test_where_all_fall_nothing_is_lost_and_the_start_may_be_the_best():
    def quality(z):
        return torch.where((z.detach() - START).flatten(1).norm(dim=1) > 0.01, 0.0, 1.0) + 0 * cosine(z)

    told = Measured(name="quality", kind="quality", by=quality) * 1e-6
    result = optimize(identity, towards() + told, START, large(3, rollback=0.1))
    assert result.noise.equal(START) and result.history[-1].put_back == (0, 1, 2)


def test_one_sample_that_breaks_goes_back_and_the_others_go_on():
    def generate(z):
        broken = (torch.arange(3) == 1) & (cosine(z.detach()) > 0.4)
        return Batch(latents=z * torch.where(broken, math.nan, 1.0).reshape(3, 1, 1, 1))

    result = optimize(generate, towards(), START, large(5))
    undisturbed = optimize(identity, towards(), START, large(5))
    assert any(step.failed for step in result.history) and all(step.failed in ((), (1,)) for step in result.history)
    for other in (0, 2):
        assert result.noise[other].equal(undisturbed.noise[other])
    assert result.noise.isfinite().all() and cosine(START)[1] < cosine(result.noise)[1] <= 0.4


def test_three_failures_in_a_row_end_the_run_with_the_best_before():
    asked = []
    broken = Measured(by=lambda z: asked.append(0) or z.mean() * (math.nan if len(asked) > 1 else 1))
    result = optimize(identity, broken, START, large(50))
    assert "3 times" in result.stopped and result.noise.equal(START)


def test_under_a_mask_only_what_is_free_moves_and_its_radius_is_held():
    free = torch.zeros(1, 1, 8, 8)
    free[..., :4, :] = 1
    result = optimize(identity, towards(), START, large(5), free=free)
    held, moved = (1 - free).bool().expand_as(START), free.bool().expand_as(START)
    assert result.noise[held].equal(START[held]) and cosine(result.noise, GOAL * free).min() > 0.5
    radius = result.noise[moved].unflatten(0, (3, -1)).norm(dim=1)
    torch.testing.assert_close(radius, torch.full((3,), math.sqrt(D / 2 - 1)), rtol=0.01, atol=0)
