"""What is promised to whoever writes a new objective: its facts, its checks, and how it adds up with others."""

from dataclasses import dataclass, replace

import pytest
import torch
from pictures import natural

from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.base import Features
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.guards import DetailGuard
from noise_optimize.objectives.kinds import KINDS
from noise_optimize.objectives.objective import Objective, Score, Sum, combine, total_loss


@dataclass(frozen=True, kw_only=True)
class Brightness(Objective):
    name = "Brightness"
    kind = "quality"
    needs = "pictures"
    channel: int = 0

    def measure(self, batch):
        return batch.pictures[:, self.channel].mean(dim=(1, 2))


class Plain(Objective):
    """As little as there can be: no decorator, no name."""

    kind = "guard"
    needs = ("latents", "pictures")

    def measure(self, batch):
        return batch.latents.mean() + batch.pictures.mean()


PICTURES = Batch(pictures=natural(3, 8, 8))
BOTH = Batch(latents=natural(3, 4, 4, seed=1), pictures=natural(3, 8, 8))


def loss(objective, batch=PICTURES):
    return float(total_loss(objective(batch)))


def test_facts_written_as_plain_class_attributes_are_those_of_its_objects_and_scores():
    (score,) = Brightness(channel=2, weight=3, target=0.4)(PICTURES)
    assert (score.name, score.kind, score.weight, score.target) == ("Brightness", "quality", 3, 0.4)
    torch.testing.assert_close(score.values, PICTURES.pictures[:, 2].mean(dim=(1, 2)))
    assert Brightness().needs == {"pictures"} and Brightness().role is KINDS["quality"] is score.role
    with pytest.raises(ValueError, match="Brightness needs pictures, and this batch has none"):
        Brightness()(Batch(latents=torch.ones(3, 4, 4, 4)))


def test_a_class_without_a_name_is_called_as_it_is_and_one_may_need_both():
    (score,) = Plain(weight=2)(BOTH)
    assert score.name == "Plain" and score.weight == 2 and Plain().needs == {"latents", "pictures"}
    assert (Brightness() + Plain()).needs == {"latents", "pictures"}


@pytest.mark.parametrize(
    "facts, said",
    [
        ({"needs": "pictures"}, "kind is None; write kind = one of 'diversity', 'quality', 'guard' in the class"),
        ({"kind": "qualities", "needs": "pictures"}, "kind is 'qualities'"),
        ({"kind": "quality"}, 'needs is None; write needs = "pictures" or needs = "latents" in the class'),
        ({"kind": "quality", "needs": "picture"}, "needs is 'picture'"),
        ({"kind": "quality", "needs": ("pictures", "text")}, "needs is .'pictures', 'text'."),
        ({"kind": "quality", "needs": ()}, r"needs is \(\)"),
        ({"kind": "quality", "needs": "pictures", "span": 0}, "span is 0; write span = a finite number above 0"),
        ({"kind": "quality", "needs": "pictures", "name": 3}, 'name is 3; write name = "..." in the class'),
    ],
)
def test_a_class_whose_facts_are_wrong_is_refused_when_it_is_made(facts, said):
    with pytest.raises(TypeError, match=f"^Wrong: {said}"):
        type("Wrong", (Objective,), facts | {"measure": lambda self, batch: batch.pictures.mean()})


def test_a_fact_that_an_object_is_made_with_is_checked_when_it_is():
    @dataclass(frozen=True, kw_only=True)
    class Any(Plain):
        kind: str = "guard"
        span: float = 2.0

    (score,) = Any(kind="quality", span=0.1)(BOTH)
    assert score.role is KINDS["quality"] and score.span == 0.1
    with pytest.raises(TypeError, match="Any: kind is 'no kind'"):
        Any(kind="no kind")
    with pytest.raises(TypeError, match="Any: span is 0.0; write span = a finite number above 0"):
        Any(span=0.0)


def test_a_field_that_is_overwritten_without_a_type_is_not_ignored_in_silence():
    class Aimed(Brightness):
        target = 0.5

    with pytest.raises(TypeError, match=r"Aimed: target = 0.5 has no type .* write target: float \| None = 0.5"):
        Aimed()


@pytest.mark.parametrize("shape", [(3, 1), (2,), (1,), (3, 3)])
def test_a_score_of_another_shape_than_the_set_or_its_pictures_is_refused(shape):
    class Shaped(Objective):
        kind, needs = "quality", "pictures"

        def measure(self, batch):
            return torch.zeros(shape)

    with pytest.raises(ValueError, match=r"Shaped: measure gave .* return \(\) for the set or \(3,\) for each picture"):
        Shaped()(PICTURES)


def test_objectives_subtract_divide_turn_round_and_sum():
    a, b = Brightness(), Brightness(channel=1, weight=3)
    assert loss(-a) == -loss(a)
    assert loss(a - b / 2) == pytest.approx(loss(a) - loss(b) / 2)
    assert loss(2 * (a - b)) == pytest.approx(2 * loss(a) - 2 * loss(b))
    assert loss(-(a + b) / 4) == pytest.approx(-(loss(a) + loss(b)) / 4)
    assert loss(sum([a, b, a])) == pytest.approx(2 * loss(a) + loss(b))
    assert sum([a]) is a


@pytest.mark.parametrize("wrong", [lambda a: a + 1, lambda a: 1 + a, lambda a: a - 1, lambda a: a * a, lambda a: a / a])
@pytest.mark.parametrize("objective", [Brightness(), Brightness() + Brightness()], ids=["leaf", "sum"])
def test_what_has_no_meaning_is_a_type_error(objective, wrong):
    with pytest.raises(TypeError, match="unsupported operand"):
        wrong(objective)


def test_a_sum_has_no_weight_or_target_of_its_own_and_no_sums_in_it():
    a, b = Brightness(), Brightness(channel=1)
    with pytest.raises(TypeError, match="weight"):
        Sum(terms=(a, b), weight=2)
    with pytest.raises(ValueError, match="weight"):
        replace(a + b, weight=2)
    with pytest.raises(TypeError, match="target"):
        Sum(terms=(a, b), target=0.5)
    assert Sum(terms=(a + b, combine([b]))).leaves() == (a, b, b)
    assert loss(Sum(terms=(a + b, b))) == pytest.approx(loss(a) + 2 * loss(b))
    assert float((a + b).measure(PICTURES)) == pytest.approx(-loss(a + b))


@pytest.mark.parametrize("weight, values, loss", [(2, (0.2, 0.9), 0.3), (-2, (0.2, 0.9), 0.4), (-1, (0.2, 0.1), 0.0)])
def test_a_target_is_approached_from_the_side_that_the_sign_of_the_weight_says(weight, values, loss):
    score = Score("Brightness", "quality", torch.tensor(values), weight, target=0.5)
    assert float(score.loss) == pytest.approx(loss)
    assert score.reached == (loss == 0)


class Rows(Features):
    def encode(self, x):
        return x.mean(dim=1)


def test_features_are_called_as_their_class_and_look_at_pictures_unless_they_say_otherwise():
    assert (Rows().name, Rows.source) == ("Rows", "pictures")
    batch = Batch(latents=torch.ones(2, 4, 8, 8), pictures=natural(2, 8, 8))
    assert batch.features(Rows()).shape == (2, 8, 8)
    assert Diversity(features=Rows()).name == "Rows vendi"
    with pytest.raises(TypeError, match='Wrong: source is .picture.; write source = "pictures" or source = "latents"'):
        type("Wrong", (Features,), {"source": "picture", "encode": lambda self, x: x.flatten(2)})


@pytest.mark.parametrize("shape", [(2, 12), (2, 3, 2, 2), (1, 2, 12)])
def test_features_of_another_shape_than_places_and_channels_are_refused(shape):
    class Shaped(Features):
        def encode(self, x):
            return torch.ones(shape)

    with pytest.raises(ValueError, match=r"Shaped: encode gave .* return \(2, places, channels\)"):
        Shaped()(torch.ones(2, 3, 4, 4))


def test_the_table_has_a_row_for_every_kind_that_the_pack_uses():
    used = {leaf.kind for leaf in (Diversity(features=LatentFeatures()), Brightness(), DetailGuard())}
    assert used == set(KINDS)
