"""Objectives: each improves as it is climbed, shares what it sees, guards against cheating, and adds."""

import math

import pytest
import torch
import torch.nn.functional as F
from pictures import climb, natural

from noise_optimize.objectives.batch import Batch, BrokenSamples
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.base import Features
from noise_optimize.objectives.features.colour import ColourFeatures
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.guards import DetailGuard, detail
from noise_optimize.objectives.objective import Score, combine, total_loss
from noise_optimize.objectives.statistics import STATISTICS, kernel


class Pixels(Features):
    """Pictures as they are; counts how often it looks."""

    name = "Pixels"

    def __init__(self) -> None:
        self.looks = 0

    def encode(self, x):
        self.looks += 1
        return (x - 0.5).flatten(1)[:, None]


def alike(batch: int = 4) -> torch.Tensor:
    """Pictures of one scene that differ a little, as those of a collapsed model."""
    return (natural(1, 16, 16) + 0.02 * natural(batch, 16, 16, seed=1)).clamp(0, 1)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("features", [ColourFeatures(), ColourFeatures(space="rgb"), Pixels()], ids=lambda f: f.name)
def test_ten_gradient_steps_on_the_pixels_make_pictures_more_different(features, statistic):
    objective = Diversity(features=features, statistic=statistic)
    before, after = climb(lambda x: objective.measure(Batch(pictures=x)), alike())
    assert after > before + 0.02


@pytest.mark.parametrize("statistic", STATISTICS)
def test_ten_gradient_steps_on_latents_make_them_more_different(statistic):
    objective = Diversity(features=LatentFeatures(), statistic=statistic)
    before, after = climb(lambda x: objective.measure(Batch(latents=x)), alike())
    assert after > before + 0.02


def test_ten_gradient_steps_on_the_pixels_restore_detail():
    guard = DetailGuard().bind(Batch(pictures=natural(2, 32, 32)))
    blurred = F.avg_pool2d(F.pad(natural(2, 32, 32), (1, 1, 1, 1), mode="replicate"), 3, 1)
    before, after = climb(lambda x: guard.measure(Batch(pictures=x)), blurred)
    assert before < 0.6 and after > before + 0.1


def test_objectives_on_the_same_features_look_once_and_share_the_gradient():
    features = Pixels()
    objective = combine([Diversity(features=features, statistic=name) for name in STATISTICS])
    pictures = alike().requires_grad_()
    total_loss(objective(Batch(pictures=pictures))).backward()
    assert features.looks == 1

    with torch.no_grad():
        batch = Batch(pictures=pictures)
        objective(batch)
    total_loss(objective(batch)).backward()
    assert features.looks == 3, "what was seen without a gradient must not be taken for what has one"


def test_references_are_seen_once_and_join_the_set():
    features, pictures, references = Pixels(), alike(), natural(3, 16, 16, seed=5)
    bound = combine([Diversity(features=features, statistic=name) for name in ("dpp", "vendi")]).bind(
        references=Batch(pictures=references.requires_grad_())
    )
    scores = bound(Batch(pictures=pictures.requires_grad_()))
    assert features.looks == 2
    together = kernel(features(torch.cat([pictures, references])))
    for score, name in zip(scores, ("dpp", "vendi")):
        assert float(score.values.detach()) == pytest.approx(float(STATISTICS[name](together).detach()), abs=1e-5)
    total_loss(scores).backward()
    assert pictures.grad.abs().max() > 0 and references.grad is None


def test_one_picture_has_a_diversity_from_references_only():
    objective, picture = Diversity(features=Pixels()), Batch(pictures=natural(1, 16, 16))
    with pytest.raises(ValueError, match="only one: raise the batch size of the latent, or wire references"):
        objective(picture)
    (score,) = objective.bind(references=picture)(picture)
    assert float(score.values) == pytest.approx(0, abs=1e-5)


def test_distances_are_0_on_the_diagonal_and_1_between_unrelated_pictures():
    pictures = torch.zeros(2, 3, 4, 4) + 0.5
    pictures[0, 0], pictures[1, 1] = 1, 1
    expected = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    torch.testing.assert_close(Diversity(features=Pixels()).distances(Batch(pictures=pictures)), expected)


def blurred(x):
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)


def half_flat(x):
    return torch.where(torch.arange(x.shape[-1]) < x.shape[-1] // 2, x.mean((2, 3), keepdim=True), x)


def half_flat_and_noisy(x):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(torch.arange(x.shape[-1]) < x.shape[-1] // 2, half_flat(x), x + 0.03 * noise)


def grey(x):
    return torch.full_like(x, 0.5)


def faded(x):
    return 0.5 + 0.5 * (x - 0.5)


CHEATS = (blurred, half_flat, half_flat_and_noisy, grey, faded)


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_blurred_and_plain_pictures_are_punished(cheat):
    start = natural(3, 96, 128)
    (score,) = DetailGuard().bind(Batch(pictures=start))(Batch(pictures=cheat(start)))
    assert score.values.shape == (3,) and (score.values < 0.65).all() and score.loss > 0.35 and not score.reached


@pytest.mark.parametrize(
    "different",
    [lambda x: x.flip(-1), lambda x: 1 - x, lambda x: x.roll(1, 1), lambda x: natural(3, 96, 128, seed=9)],
    ids=["mirrored", "inverted", "recoloured", "of something else"],
)
def test_sharp_pictures_that_differ_are_not(different):
    start = natural(3, 96, 128)
    (score,) = DetailGuard().bind(Batch(pictures=start))(Batch(pictures=different(start)))
    assert (score.values > 0.8).all() and score.loss < 0.15


def test_the_starting_pictures_score_1_and_ask_for_nothing():
    start = torch.cat([natural(2, 32, 32), torch.full((1, 3, 32, 32), 0.5)])
    pictures = start.clone().requires_grad_()
    (score,) = DetailGuard().bind(Batch(pictures=start))(Batch(pictures=pictures))
    assert score.values.tolist() == [1, 1, 1] and score.loss.item() == 0 and score.reached
    score.loss.backward()
    assert pictures.grad.isfinite().all()


def test_the_gradient_of_detail_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(detail, natural(2, 5, 7).double().requires_grad_())


def test_an_objective_with_a_target_counts_its_shortfall_and_one_without_its_score():
    free, aimed = (Diversity(features=Pixels(), weight=2, target=target) for target in (None, 0.9))
    batch = Batch(pictures=alike())
    score, short = free(batch)[0], aimed(batch)[0]
    assert float(score.loss) == pytest.approx(-2 * float(score.values))
    assert float(short.loss) == pytest.approx(2 * (0.9 - float(short.values)))
    assert float(Diversity(features=Pixels(), target=0.0)(batch)[0].loss) == 0


def test_a_negative_weight_lowers_the_score_to_its_target_and_no_further():
    values = torch.tensor([0.2, 0.4, 0.9], requires_grad=True)
    score = Score("quality", "quality", values, weight=-2.0, target=0.5)
    torch.testing.assert_close(score.losses.detach(), torch.tensor([0.0, 0.0, 0.8]))
    score.loss.backward()
    assert values.grad.tolist() == pytest.approx([0, 0, 2 / 3]) and not score.reached
    assert Score("quality", "quality", torch.tensor([0.2, 0.5]), weight=-2.0, target=0.5).reached


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_a_score_is_lost_by_a_share_of_its_span_wherever_its_zero_is(weight):
    for zero in (0.0, 22.0, -3.0):
        start = Score("quality", "quality", torch.full((3,), zero), weight, span=0.1)
        now = Score("quality", "quality", zero + weight * torch.tensor([0.02, -0.009, -0.011]), weight, span=0.1)
        assert now.lost(start, 0.1).tolist() == [False, False, True]


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_a_value_at_its_target_is_not_lost(weight):
    start, now = (
        Score("quality", "quality", weight * torch.tensor([value, value]), weight, target=weight * 0.5)
        for value in (0.9, 0.5)
    )
    assert not now.lost(start, 0.0).any()


def test_objectives_add_and_scale():
    a, b = Diversity(features=Pixels()), Diversity(features=ColourFeatures(), statistic="vendi", weight=3)
    batch = Batch(pictures=alike())
    losses = [float(total_loss(x(batch))) for x in (a, b, a + b * 0.5, combine([a, b * 0.5]))]
    assert losses[2] == pytest.approx(losses[0] + losses[1] / 2, abs=1e-6) == losses[3]
    assert [leaf.name for leaf in combine([a + b, a]).leaves()] == [a.name, b.name, a.name]


def test_a_combination_needs_all_that_its_parts_need():
    mixed = combine([Diversity(features=LatentFeatures()), Diversity(features=ColourFeatures())])
    assert mixed.needs == {"latents", "pictures"}
    assert len(mixed(Batch(latents=torch.randn(2, 4, 8, 8), pictures=natural(2, 16, 16)))) == 2
    with pytest.raises(ValueError, match="Latent Features vendi needs latents"):
        mixed(Batch(pictures=natural(2, 16, 16)))


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: Diversity(features=Pixels(), target=1.5), "a diversity goes from 0 to 1"),
        (lambda: Diversity(features=Pixels(), weight=float("inf")), "set a finite number"),
        (lambda: Diversity(features=Pixels(), statistic="mean"), "choose one of pairwise, dpp, vendi, contrastive"),
        (lambda: combine([]), "wire at least one"),
        (lambda: combine([Diversity(features=Pixels(), weight=0)] * 2), "give at least one of them a weight"),
        (
            lambda: Diversity(features=LatentFeatures()).bind(references=Batch(pictures=natural(1, 8, 8))),
            "choose features of pictures, or take the references off",
        ),
        (
            lambda: (
                Diversity(features=Pixels())
                .bind(references=Batch(pictures=natural(1, 8, 8)))
                .measure(Batch(pictures=natural(2, 16, 16)))
            ),
            "give references of the size of the pictures",
        ),
        (lambda: DetailGuard()(Batch(pictures=natural(2, 8, 8))), "compares with the starting pictures"),
        (
            lambda: DetailGuard().bind(Batch(pictures=natural(2, 8, 8)))(Batch(pictures=natural(3, 8, 8))),
            "give as many before as after",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_remedy(build, said):
    with pytest.raises(ValueError, match=said):
        build()


@pytest.mark.parametrize("tensor", ["latents", "pictures"])
def test_broken_samples_are_found_and_replaced_without_their_gradient(tensor):
    x = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    parts = {"latents": x * 1, "pictures": x * 2}
    parts[tensor] = parts[tensor] * torch.tensor([1, math.nan, 1]).reshape(3, 1, 1, 1)
    batch, sound = Batch(**parts), Batch(latents=torch.ones(3, 3, 4, 4), pictures=torch.ones(3, 3, 4, 4))
    assert batch.broken().tolist() == [False, True, False]
    mended = batch.replaced(batch.broken(), sound)
    assert not mended.broken().any() and mended.pictures[1].eq(1).all() and mended.latents[1].eq(1).all()
    assert mended.pictures[2].equal(batch.pictures[2])
    (mended.pictures.sum() + mended.latents.sum()).backward()
    assert x.grad[::2].eq(3).all()


def test_features_say_which_samples_they_see_nothing_in():
    with pytest.raises(BrokenSamples, match="sample 2 are not finite") as found:
        Batch(pictures=alike(3) * torch.tensor([1, math.inf, 1]).reshape(3, 1, 1, 1)).features(Pixels())
    assert found.value.samples.tolist() == [False, True, False]
