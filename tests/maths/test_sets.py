"""Sets made one batch after another."""

from dataclasses import dataclass, field

import torch

from noise_optimize.noise import Settings, optimize
from noise_optimize.noise.sets import alone, together, turns
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.guards import DetailGuard


@dataclass(frozen=True)
class Counted(LatentFeatures):
    """Latent features that remember how many samples they were asked for without gradient."""

    asked: list = field(default_factory=list, compare=False)

    def encode(self, x):
        if not torch.is_grad_enabled():
            self.asked.append(len(x))
        return super().encode(x)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_batch_is_made_different_from_all_before_and_references_are_seen_once():
    features = Counted(grid=2)
    objective, noise = Diversity(features=features, statistic="pairwise"), draw(5, 2, 4, 4) * 0.1 + 1
    given = Batch(latents=draw(2, 2, 4, 4, seed=1) * 0.1 + 1)
    made, others = [], [given]
    for places in turns(5, 2):
        bound = objective.bind(references=together(others))
        result = optimize(lambda z: Batch(latents=z), bound, noise[places], Settings(6, 0.02))
        made, others = [*made, result.noise], [*others, result.batch]
    made = torch.cat(made)
    assert [len(batch) for batch in others] == [2, 2, 2, 1]
    assert sum(features.asked) == 2 + (2 + 2 + 1)  # references, and the end of each, which is kept for those after it
    whole = together([given, Batch(latents=made)])
    assert objective.measure(whole) > objective.measure(Batch(latents=torch.cat([given.latents, noise])))


def test_turns_cover_a_set_in_order():
    assert list(turns(5, 2)) == [[0, 1], [2, 3], [4]] and list(turns(2, 2)) == [[0, 1]]


def test_batches_together_are_seen_as_their_parts_are():
    a, b = Batch(latents=draw(2, 2, 4, 4)), Batch(latents=draw(3, 2, 4, 4, seed=1))
    whole, features = together([a, b]), LatentFeatures(grid=2)
    assert len(whole) == 5 and whole.pictures is None
    assert whole.features(features).equal(features(torch.cat([a.latents, b.latents])))


def test_a_lone_picture_keeps_its_quality_and_its_guards():
    both = Diversity(features=LatentFeatures()) + DetailGuard()
    assert [leaf.kind for leaf in alone(both).leaves()] == ["guard"]
    assert not alone(Diversity(features=LatentFeatures())).leaves()
