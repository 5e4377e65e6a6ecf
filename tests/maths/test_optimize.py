"""The loop on problems whose answer is known."""

import math
from dataclasses import dataclass

import pytest
import torch
from known_problem import COARSE, GOAL, START, D, Measured, cosine, draw, identity, likely, towards

from noise_optimize.noise import prior
from noise_optimize.noise.basis import make_basis, norms
from noise_optimize.noise.optimize import optimize
from noise_optimize.noise.settings import Settings
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.latent import LatentFeatures


def likeliest(goal, basis):
    """(B, ...) the coefficients nearest in direction to the goal's that the prior allows: each ring as long as at the
    start, and along the goal's."""
    held = prior.Prior(basis, 1.0, prior.REACH)
    spectrum = held.spectrum(basis.analyse(goal))
    return spectrum * (held.norms / held.ring_norms(spectrum))[:, held.ring][:, None].to(spectrum)


@pytest.mark.parametrize(
    "optimizer, rate, share",
    [("sgd", 0.004, 0.995), ("nesterov", 0.004, 0.995), ("adam", 0.03, 0.98)],  # Adam's steps are along no gradient
)
def test_it_finds_the_known_optimum_of_what_the_prior_allows(optimizer, rate, share):
    result = optimize(identity, towards(), START, Settings(150, rate, optimizer))
    dct = make_basis("low frequency", START, band=1.0).analyse
    most = cosine(likeliest(GOAL, make_basis("full", START)), dct(GOAL))
    assert (cosine(result.noise) / most).min() > share and most.min() > 0.9
    torch.testing.assert_close(norms(result.noise), torch.full((3,), math.sqrt(D - 1)), rtol=0.01, atol=0)


def test_without_a_prior_it_finds_any_direction():
    assert cosine(optimize(identity, towards(), START, Settings(150, prior_weight=0)).noise).min() > 0.995


def test_low_frequencies_reach_what_is_coarse_and_leave_the_rest():
    result = optimize(identity, towards(COARSE), START, Settings(80, basis="low frequency"))
    basis = make_basis("low frequency", START)
    coarse = basis.analyse(COARSE)
    most = cosine(likeliest(COARSE, basis), coarse)
    assert (cosine(basis.analyse(result.noise), coarse) / most).min() > 0.95 and most.min() > 0.25
    assert result.history[-1].change[0] > 0.75


def test_evolution_needs_no_gradient():
    def blind(noise):
        return identity(noise.detach())

    settings = Settings(40, optimizer="cma", population=10)
    result = optimize(blind, towards(COARSE), START[:1], settings)
    assert cosine(result.noise, COARSE).item() > cosine(START[:1], COARSE).item() + 0.1
    assert result.noise.equal(optimize(blind, towards(COARSE), START[:1], settings).noise)
    with pytest.raises(RuntimeError, match="optimizer to cma"):
        optimize(blind, towards(COARSE), START, Settings(1))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_the_default_prior_holds_the_radius_against_a_diverging_objective(sign, optimizer, scale):
    away = Measured(name="away", by=lambda z: sign * scale * norms(z))
    radii = []
    optimize(
        identity, away, draw(2, 4, 32, 32), Settings(60, optimizer=optimizer), lambda p: radii.append(p.step.radius)
    )
    assert all(abs(radius - 1) < 0.01 for radius in radii[1:])


@pytest.mark.parametrize("rate, momentum", [(0.06, 0.0), (0.06, 0.9), (0.3, 0.5)])
def test_the_default_prior_holds_the_radius_for_long_steps_too(rate, momentum):
    away, radii = Measured(by=norms), []
    settings = Settings(20, rate, momentum=momentum)
    optimize(identity, away, draw(2, 4, 32, 32), settings, lambda p: radii.append(p.step.radius))
    assert all(abs(radius - 1) < 0.01 for radius in radii[1:])


def test_the_prior_keeps_the_mean_of_the_channels_from_growing():
    start = draw(4, 4, 32, 32)
    bright = Measured(by=lambda z: z.mean(dim=(1, 2, 3)))

    def power(noise):
        return float(1024 * noise.mean(dim=(2, 3)).square().mean())

    result = optimize(identity, bright, start, Settings(30))
    assert power(result.noise) < 1.5 * power(start)
    free = optimize(identity, bright, start, Settings(30, prior_weight=0))
    assert power(free.noise) > 20 * power(start) and bright.by(result.noise).min() > bright.by(start).max()


def test_under_a_mask_step_radius_and_prior_are_of_what_may_move():
    """Else the free eighth takes steps that are too long for it, and swells while the rest of the noise shrinks."""
    free = torch.zeros(1, 1, 32, 32)
    free[..., :4, :] = 1
    start = likely(2, 4, 32, 32)
    away = Measured(by=lambda z: norms(z[:, :, :4]) / 100)
    shown = []
    settings = Settings(30, momentum=0.5)
    result = optimize(identity, away, start, settings, lambda p: shown.append((p.step, p.batch.latents)), free)
    assert result.noise[:, :, 4:].equal(start[:, :, 4:])
    d = 4 * 4 * 32
    for step, noise in shown[1:]:
        radius = norms(noise[:, :, :4]) / math.sqrt(d - 1)
        assert (radius - 1).abs().max() < 0.01 and step.radius == pytest.approx(float(radius.mean()))
    across = Measured(by=lambda z: (z[:, :, :4] * GOAL.tile(1, 1, 1, 4)[:, :, :4]).mean(dim=(1, 2, 3)))
    settings = Settings(1, momentum=0.0, prior_weight=0, clip=0)
    moved = norms(optimize(identity, across, start, settings, None, free).noise - start)
    torch.testing.assert_close(moved, torch.full((2,), settings.learning_rate * math.sqrt(d)))


def test_without_a_prior_nothing_holds_it():
    result = optimize(identity, Measured(name="away", by=norms), START, Settings(60, prior_weight=0))
    assert result.history[-1].radius > 2


def test_the_same_inputs_give_the_same_bits_and_a_batch_splits_where_samples_are_independent():
    first, second = (optimize(identity, towards(), START, Settings(10)) for _ in range(2))
    assert first.noise.equal(second.noise)
    assert [step.scores for step in first.history] == [step.scores for step in second.history]
    alone = optimize(identity, towards(), START[1:2], Settings(10))
    torch.testing.assert_close(alone.noise[0], first.noise[1])


def test_one_setting_moves_every_latent_size_by_the_same_share_of_its_radius():
    shares = []
    for side in (8, 16, 32):
        start, goal = likely(2, 4, side, side), draw(1, 4, side, side, seed=1)
        noise = optimize(identity, towards(goal), start, Settings(5)).noise
        shares.append(float((norms(noise - start) / norms(start)).mean()))
    assert shares == pytest.approx([shares[0]] * 3, rel=0.1)


def test_no_iterations_give_the_start_measured_once():
    calls = []
    result = optimize(lambda z: calls.append(z) or identity(z), towards(), START, Settings(0))
    assert result.noise.equal(START) and len(calls) == len(result.history) == 1
    assert not calls[0].requires_grad


def test_the_history_has_every_iteration_and_the_best_is_the_best_of_it():
    wave = Measured(name="wave", by=lambda z: torch.sin(40 * cosine(z)).mean())
    shown = []
    result = optimize(identity, wave, START, Settings(25), shown.append)
    losses = [step.loss for step in result.history]
    assert len(losses) == 26 and losses[result.best] == min(losses)
    assert [progress.step for progress in shown] == list(result.history)
    torch.testing.assert_close(wave.measure(result.batch), wave.measure(identity(result.noise)))
    assert -losses[result.best] == pytest.approx(float(wave.measure(result.batch)))
    assert "25 iterations" in result.stopped


def test_it_never_returns_worse_than_the_start():
    best_at_start = Measured(name="stay", by=lambda z: -(z - START).flatten(1).norm(dim=1) - 0.1 * z.mean())
    result = optimize(identity, best_at_start, START, Settings(10, 0.05, prior_weight=0))
    assert result.history[result.best].loss <= result.history[0].loss


def test_a_diversity_target_stops_the_run_at_the_batch_that_reached_it():
    result = optimize(identity, towards(target=0.3), START, Settings(200))
    assert cosine(result.noise).min() >= 0.3 and len(result.history) < 100
    assert result.best == len(result.history) - 1 and "target" in result.stopped


def test_only_the_sample_whose_quality_fell_is_put_back_and_its_momentum_is_gone():
    def quality(z):
        loss = torch.stack([0 * cosine(z)[0], (z[1] - START[1]).norm() / 16, 0 * cosine(z)[2]])
        return 1 - loss

    shown = []
    objective = towards() + Measured(name="quality", kind="quality", by=quality) * 1e-6
    result = optimize(identity, objective, START, Settings(12, rollback=0.1), shown.append)
    back = [progress.step.iteration for progress in shown if progress.step.put_back]
    assert back and all(progress.step.put_back in ((), (1,)) for progress in shown)
    assert quality(result.noise).min() >= 0.9
    seen = [progress.batch.latents for progress in shown]
    first = back[0]
    assert seen[first + 1][1].equal(seen[first - 1][1])
    restart, begin = (norms(seen[i + 1][1:2] - seen[i][1:2]).item() for i in (first + 1, 0))
    assert restart == pytest.approx(begin, rel=0.1) and begin < 0.1
    for other in (0, 2):
        assert norms(seen[first + 1][other : other + 1] - seen[first][other : other + 1]) > 0.1
    assert all(shown[i].result.best != i for i in back)


@pytest.mark.parametrize("span, zero, put_back", [(0.1, 0.3, True), (10.0, 22.0, False), (1.0, 0.0, False)])
def test_what_a_picture_may_lose_is_a_share_of_the_span_of_the_score(span, zero, put_back):
    """A loss of 0.05 is far too much for HPSv2.1 and nothing for PickScore, and a score may start at 0."""
    asked = []

    def quality(z):
        asked.append(len(z))
        return torch.full((3,), zero - 0.05 * (len(asked) > 1))

    told = Measured(name="quality", kind="quality", by=quality, span=span)
    result = optimize(identity, towards() + told * 1e-6, START, Settings(3))
    assert any(step.put_back for step in result.history) == put_back


def test_a_target_of_diversity_does_not_stop_the_run_while_one_of_quality_is_unmet():
    other = draw(1, 4, 8, 8, seed=7)
    quality = Measured(name="quality", kind="quality", by=lambda z: cosine(z, other), target=0.3, weight=0.1, span=1e6)
    result = optimize(identity, towards(target=0.3) + quality, START, Settings(300))
    assert cosine(result.noise).min() >= 0.3 and cosine(result.noise, other).min() >= 0.3
    assert result.stopped == "the targets were reached"
    alone = optimize(identity, towards(target=0.3), START, Settings(300))
    assert len(result.history) > len(alone.history)


def test_a_score_of_weight_0_is_not_waited_for():
    seen = Measured(name="seen", by=lambda z: 0 * cosine(z), target=0.5, weight=0.0)
    assert "target" in optimize(identity, towards(target=0.3) + seen, START, Settings(200)).stopped
    assert "target" not in optimize(identity, towards() + seen * 0, START, Settings(2)).stopped


def test_a_picture_at_its_target_is_not_put_back():
    falling = Measured(name="quality", kind="quality", by=lambda z: 1 - cosine(z), target=0.5)
    result = optimize(identity, towards() + falling * 1e-6, START, Settings(8, rollback=0.0))
    assert not any(step.put_back for step in result.history)


@pytest.mark.parametrize("where", ["model", "score", "gradient"])
def test_a_step_into_nan_is_dropped_and_retried_with_half_the_rate(where):
    """The map breaks where a latent comes too close to the goal: the best before it is kept."""

    def generate(z):
        broken = bool((cosine(z) > 0.4).any())
        return Batch(latents=z * math.nan if broken and where == "model" else z)

    def score(z):
        broken = bool((cosine(z.detach()) > 0.4).any())
        if broken and where == "gradient":
            return cosine(z) + (z - z.detach()).abs().sqrt().sum()
        return cosine(z) * (math.nan if broken and where == "score" else 1.0)

    shown = []
    result = optimize(generate, Measured(name="towards", by=score), START, Settings(80), shown.append)
    notes = [step.note for step in result.history]
    assert any("halved" in note for note in notes)
    assert result.noise.isfinite().all() and result.history[result.best].loss < result.history[0].loss
    failed = next(i for i, note in enumerate(notes) if note)
    assert notes[failed + 1] == "" and "halved" in notes[failed]


def test_three_failures_in_a_row_end_the_run_with_the_best_before():
    for optimizer in ("sgd", "cma"):
        asked = []
        broken = Measured(by=lambda z, asked=asked: asked.append(0) or z.mean() * (math.nan if len(asked) > 1 else 1))
        result = optimize(identity, broken, START, Settings(50, optimizer=optimizer))
        assert len(result.history) == 4 and "3 times" in result.stopped and result.noise.equal(START)


def test_one_sample_that_breaks_goes_back_and_the_others_go_on():
    """Sample 2 breaks where it comes too close to the goal; the others get there as they would alone."""

    def generate(z):
        broken = (torch.arange(3) == 1) & (cosine(z.detach()) > 0.4)
        return Batch(latents=z * torch.where(broken, math.nan, 1.0).reshape(3, 1, 1, 1))

    shown = []
    result = optimize(generate, towards(), START, Settings(80), shown.append)
    undisturbed = optimize(identity, towards(), START, Settings(80))
    for other in (0, 2):
        assert result.noise[other].equal(undisturbed.noise[other])
    failed = [step.iteration for step in result.history if step.failed]
    assert failed and all(step.failed in ((), (1,)) for step in result.history)
    assert all("halved" in result.history[i].note for i in failed)
    seen = [progress.batch.latents[1] for progress in shown]
    assert seen[failed[0]].equal(seen[failed[0] - 1]) and all(latent.isfinite().all() for latent in seen)
    assert 0.25 < cosine(result.noise)[1] <= 0.4
    assert cosine(result.noise)[[0, 2]].min() > 0.9
    torch.testing.assert_close(result.batch.latents, result.noise)


def test_the_retry_of_a_sample_that_broke_is_half_as_long():
    tried = []

    def generate(z):
        tried.append(z.detach().clone())
        return Batch(latents=z * (math.nan if len(tried) == 3 else 1.0))

    optimize(generate, towards(), START, Settings(4, momentum=0.0, prior_weight=0))
    full, half = (norms(tried[i] - tried[1]) for i in (2, 3))
    torch.testing.assert_close(half, full / 2, rtol=1e-4, atol=0)


def test_features_that_break_in_one_sample_do_not_end_the_run():
    @dataclass(frozen=True)
    class Fragile(LatentFeatures):
        def encode(self, x):
            return super().encode(x) * torch.where(cosine(x.detach()) > 0.4, math.inf, 1.0).reshape(-1, 1, 1)

    objective = towards() + Diversity(features=Fragile(grid=2)) * 0.01
    result = optimize(identity, objective, START, Settings(40))
    assert any(step.failed for step in result.history) and len(result.history) == 41
    assert result.noise.isfinite().all() and result.history[result.best].loss < result.history[0].loss


def test_a_candidate_of_evolution_that_breaks_counts_as_the_worst():
    def generate(z):
        return Batch(latents=z * torch.where(cosine(z) > 0.15, math.nan, 1.0).reshape(-1, 1, 1, 1))

    result = optimize(generate, towards(), START[:1], Settings(40, 0.02, "cma", population=10))
    assert len(result.history) == 41 and cosine(START[:1]) < cosine(result.noise) <= 0.15


def test_what_does_not_break_in_a_batch_is_put_back_as_without_it():
    """A picture at its last sound noise is not put back for what broke since."""

    def generate(z):
        return Batch(latents=torch.where((cosine(z.detach()) > 0.4).reshape(-1, 1, 1, 1), math.nan * z, z))

    quality = Measured(name="quality", kind="quality", by=lambda z: 1 + 0 * cosine(z), weight=0.1)
    result = optimize(generate, towards() + quality, START, Settings(40))
    assert any(step.failed for step in result.history) and not any(step.put_back for step in result.history)


@pytest.mark.parametrize("optimizer", ["sgd", "cma"])
@pytest.mark.parametrize("iterations", [0, 5])
def test_a_start_that_is_broken_gets_a_sentence(optimizer, iterations):
    settings = Settings(iterations, optimizer=optimizer)
    second = torch.tensor([1, math.nan, 1]).reshape(3, 1, 1, 1)
    with pytest.raises(ValueError, match="Sample 2 of the batch .* change the seed of noise"):
        optimize(lambda z: Batch(latents=z * second), towards(), START, settings)
    with pytest.raises(ValueError, match="broken is nan before"):
        optimize(identity, Measured(name="broken", by=lambda z: z.mean() * math.nan), START, settings)


def test_a_budget_of_seconds_is_kept_and_a_zero_gradient_ends_the_run():
    assert len(optimize(identity, towards(), START, Settings(10**6, seconds=0.2)).history) < 10**5
    assert len(optimize(identity, towards(), START, Settings(50, seconds=0)).history) == 1
    flat = Measured(name="flat", by=lambda z: 0 * z.mean())
    result = optimize(identity, flat, START, Settings(50))
    assert len(result.history) == 1 and "zero" in result.stopped


def test_what_on_step_raises_ends_the_run_and_the_result_so_far_is_there():
    class Cancelled(BaseException):
        pass

    last = []

    def on_step(progress):
        last[:] = [progress]
        if progress.step.iteration == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        optimize(identity, towards(), START, Settings(50), on_step)
    assert len(last[0].result.history) == 5
    assert cosine(last[0].result.noise).mean() > cosine(START).mean()


def test_guards_are_bound_to_the_starting_batch_once():
    objective = towards()
    optimize(identity, objective, START, Settings(3))
    (start,) = objective.bound
    assert start.latents.equal(START) and not start.latents.requires_grad


def test_scores_of_the_same_name_are_told_apart():
    result = optimize(identity, towards() + towards(COARSE), START, Settings(1))
    assert list(result.history[0].scores) == ["towards", "towards 2"]


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "lbfgs"}, {"learning_rate": -1}, {"momentum": 1.0}, {"clip": math.nan}, {"population": 2}]
)
def test_settings_that_cannot_work_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)


def test_noise_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NOISE"):
        optimize(identity, towards(), START * math.inf, Settings(1))


def test_a_batch_that_was_sampled_without_a_gradient_is_known_as_such():
    last, start = optimize(identity, towards(), START, Settings(3)), optimize(identity, towards(), START, Settings(0))
    turned = optimize(identity, towards(weight=-1.0, target=-1.0), START, Settings(1, learning_rate=0.0))
    assert last.best == 3 and last.plain and start.plain
    assert turned.best == 0 and not turned.plain
