"""Finding a noise set on toy models whose prompts share what the noise does."""

import pytest
import torch

from noise_optimize.noise.find_set import Finding, Prompt, Search, find_set, held, without_guards
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.objectives import Batch, DetailGuard, Diversity, LatentFeatures
from noise_optimize.objectives.objective import Objective, combine

SHAPE = (4, 8, 8)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


START = NoiseSet(draw(8, 4, 2, 2, seed=5), size=(8, 8), model="toy")


class Toy:
    """Pictures of a prompt: its own mean with a little of the noise's low part in it; counts and sees what is drawn."""

    def __init__(self, prompt, after=None):
        self.mean, self.after, self.batches = draw(1, *SHAPE, seed=100 + prompt), after, []

    def __call__(self, count, body):
        return body(self.generate)

    def generate(self, noise):
        self.batches.append(noise.detach())
        low = torch.nn.functional.adaptive_avg_pool2d(noise, 2)
        latents = self.mean + torch.nn.functional.interpolate(torch.tanh(3 * low - 1), size=SHAPE[1:])
        return Batch(latents=latents if self.after is None else self.after(latents, len(self.batches)))


def prompts(numbers, objective=None, **more):
    objective = objective or Diversity(features=LatentFeatures(grid=4), statistic="vendi")
    return [Prompt(str(number), objective, Toy(number, **more)) for number in numbers]


def found(seen=None, unseen=None, **settings):
    settings = {"iterations": 10, "at_once": 8} | settings
    return find_set(seen or prompts(range(3)), unseen or prompts([7, 8]), START, SHAPE, Finding(**settings))


def diversity(look):
    return float(look.scores[0].values)


def test_prompts_that_were_never_seen_differ_more_and_the_set_says_where_it_comes_from():
    made = found()
    assert diversity(made.now) > 1.15 * diversity(made.plain)
    assert made.noise_set.coefficients.shape == START.coefficients.shape and made.noise_set.model == "toy"
    assert sorted(made.noise_set.order) == list(range(8))
    assert list(made.history) == [0, 5, 10]
    best = max(made.history, key=lambda iteration: made.history[iteration]["Latent Features vendi"])
    assert made.best == best and made.history[best]["Latent Features vendi"] == pytest.approx(diversity(made.now))


def test_the_same_search_finds_the_same_set_and_another_seed_another():
    one, again, other = found(), found(), found(seed=1)
    assert one.noise_set.coefficients.equal(again.noise_set.coefficients)
    assert one.noise_set.order == again.noise_set.order
    assert not one.noise_set.coefficients.equal(other.noise_set.coefficients)


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 3, 6, 5)])
@pytest.mark.parametrize("strength,at_once", [(1.0, 3), (0.5, 2)])
def test_the_slope_is_that_of_finite_differences(shape, strength, at_once):
    """Over two prompts, in groups, through the patterns' place in pictures and videos."""
    losses = []

    class Wave(Objective):
        kind = "diversity"
        needs = "latents"

        def measure(self, batch):
            value = (batch.latents * draw(*shape, seed=6, dtype=torch.float64)).flatten(1).sum(1).sin().sum()
            losses.append(-float(value.detach()))
            return value

    scaled = (lambda noise, k=k: Batch(latents=k * noise) for k in (0.5, 1.0))
    toys = [Prompt("", Wave(), lambda count, body, generate=generate: body(generate)) for generate in scaled]
    start = NoiseSet(draw(3, 4, 2, 2, seed=5, dtype=torch.float64))

    def searched(c):
        losses.clear()
        slope = Search(start, shape, Finding(strength=strength, at_once=at_once)).slope(toys, c)
        return slope, sum(losses) / len(toys)

    c, direction = start.coefficients, draw(3, 4, 2, 2, seed=8, dtype=torch.float64)
    slope, _ = searched(c)
    (_, above), (_, below) = (searched(c + step * direction) for step in (1e-5, -1e-5))
    assert float((slope * direction).sum()) == pytest.approx((above - below) / 2e-5, rel=1e-6)


def test_a_group_holds_at_most_as_many_pictures_as_are_drawn_together():
    seen, unseen = prompts([1]), prompts([2])
    made = found(seen, unseen, at_once=3, iterations=2)
    sizes = [len(batch) for prompt in (*seen, *unseen) for batch in prompt.draw.batches]
    assert set(sizes) == {2, 3} and sum(len(batch) for batch in seen[0].draw.batches) == 2 * 8 == made.slopes * 8
    assert sum(len(batch) for batch in unseen[0].draw.batches) == made.looks * 8


def test_noise_around_the_patterns_is_new_at_each_iteration_and_the_same_at_each_look():
    seen, unseen = prompts([1]), prompts([2])
    found(seen, unseen, iterations=2, learning_rate=0.0, check_every=1)
    first, second = seen[0].draw.batches
    assert not first.equal(second)
    looks = unseen[0].draw.batches
    each = len(looks) // 4  # without a set, and with it at three iterations
    torch.testing.assert_close(looks[each], looks[2 * each])
    assert not looks[0].equal(looks[each])
    assert not looks[each].equal(looks[each + 1])


def test_the_best_iteration_is_the_most_diverse_of_those_that_keep_the_quality():
    """Quality falls as diversity rises: with no loss allowed, the start is kept."""

    class Calm(Objective):
        kind = "quality"
        needs = "latents"

        def measure(self, batch):
            return -10 * batch.latents.flatten(1).std(0).mean().expand(len(batch))

    objective = combine([Diversity(features=LatentFeatures(grid=4), statistic="vendi"), Calm(weight=0)])
    both = (prompts(range(3), objective), prompts([7, 8], objective))
    careful, careless = (found(*both, loss=loss) for loss in (0.0, 100.0))
    falls = [careless.history[i]["Calm"] for i in (0, 10)]
    assert falls[1] < falls[0] - 0.1
    assert careless.best > 0 and careful.best == 0


def test_a_draft_has_the_gradient_and_the_whole_run_the_looks():
    seen, unseen = prompts([1]), prompts([2])
    drafts = [Toy(1), Toy(2)]
    found(
        [Prompt("", p.objective, p.draw, draft) for p, draft in zip(seen, drafts[:1])],
        [Prompt("", p.objective, p.draw, draft) for p, draft in zip(unseen, drafts[1:])],
        iterations=2,
    )
    assert len(drafts[0].batches) == 2 and not seen[0].draw.batches
    assert unseen[0].draw.batches and not drafts[1].batches


def test_a_search_that_is_ended_has_handed_out_the_best_so_far():
    last = []

    def cancel(progress):
        last[:] = [progress]
        if progress.iteration == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_set(prompts(range(3)), prompts([7, 8]), START, SHAPE, Finding(10, at_once=8), cancel)
    assert last[0].best in (0, 5) and list(last[0].history) == [0, 5]
    assert len(last[0].noise_set) == 8


def test_it_goes_on_from_a_set_that_was_found():
    made = found()
    more = find_set(prompts(range(3)), prompts([7, 8]), made.noise_set, SHAPE, Finding(0, at_once=8))
    torch.testing.assert_close(more.noise_set.coefficients, made.noise_set.coefficients, rtol=0, atol=1e-4)
    assert diversity(more.now) == pytest.approx(diversity(made.now), rel=1e-4)


def test_broken_pictures_are_passed_over_and_counted():
    def breaks(latents, count):
        return latents * torch.nan if count == 2 else latents

    made = found(prompts(range(3), after=breaks))
    assert made.broken == 3 and made.noise_set.coefficients.isfinite().all()
    assert diversity(made.now) > 1.15 * diversity(made.plain)
    with pytest.raises(ValueError, match="All pictures hold NaN or infinity: change the sampler"):
        found(unseen=prompts([7], after=lambda latents, count: latents * torch.nan))


@pytest.mark.parametrize("count", [8, 16, 32])
def test_patterns_are_held_to_what_white_noise_is(count):
    c = held(2 * draw(count, 4, 3, 3) + 1)
    torch.testing.assert_close(torch.linalg.vector_norm(c.flatten(1), dim=1), torch.full((count,), 6.0))
    assert c.mean(0).abs().max() < 1e-5 and (c.square().mean(0) - 1).abs().max() < 1e-5
    torch.testing.assert_close(held(c), c)


def test_of_a_few_patterns_only_the_norms_are_held():
    c = held(2 * draw(4, 4, 3, 3) + 1)
    torch.testing.assert_close(torch.linalg.vector_norm(c.flatten(1), dim=1), torch.full((4,), 6.0))
    assert c.mean(0).abs().max() > 0.1


def test_guards_take_no_part_and_something_must_differ():
    diversity = Diversity(features=LatentFeatures(), statistic="vendi")
    assert without_guards(diversity + DetailGuard()).leaves() == (diversity,)
    with pytest.raises(ValueError, match="objective has nothing by which pictures differ: add Diversity"):
        without_guards(combine([DetailGuard()]))
    with pytest.raises(ValueError, match="takes no gradient; choose sgd, nesterov or adam"):
        found(optimizer="cma")
