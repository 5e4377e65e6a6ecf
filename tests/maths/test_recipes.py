"""The published recipes: converted so that a step is the published step, and compared with what is wired."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from recipe_page import page
from torch import Tensor

from noise_optimize.noise.optimize import optimize
from noise_optimize.noise.recipes import (
    CLIP_B32,
    DPP,
    PATCHES,
    RECIPES,
    VENDI,
    Recipe,
    Term,
    called,
    facts_of,
    of_dpp,
    of_vendi,
)
from noise_optimize.noise.settings import Settings
from noise_optimize.objectives import Batch, DetailGuard, Diversity, LatentFeatures, Objective, combine
from noise_optimize.objectives.statistics import STATISTICS, kernel

SHAPE = (2, 4, 4)


@dataclass(frozen=True, kw_only=True)
class Named(Objective):
    """A score by its name alone."""

    kind = "quality"
    needs = "latents"
    name: str = "named"

    def measure(self, batch: Batch) -> Tensor:
        return batch.latents.mean(dim=(1, 2, 3))


def published_dpp(K: Tensor) -> Tensor:
    return torch.logdet(torch.eye(len(K), dtype=K.dtype) + K) / (len(K) * math.log(2))


def published_vendi(K: Tensor) -> Tensor:
    share = torch.linalg.eigvalsh(K) / len(K)
    return torch.exp(-(share * share.log()).sum())


def features(seed: int, n: int) -> Tensor:
    seen = torch.randn(n, 1, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(seen, dim=-1)


@pytest.mark.parametrize("n", [2, 4, 16])
@pytest.mark.parametrize(
    ("statistic", "published", "slope"), [("dpp", published_dpp, of_dpp), ("vendi", published_vendi, of_vendi)]
)
def test_a_slope_is_the_ratio_of_our_score_to_the_published_one(statistic: str, published, slope, n: int) -> None:
    one, other = kernel(features(0, n)), kernel(features(1, n))
    ours = STATISTICS[statistic](one) - STATISTICS[statistic](other)
    assert float(ours / (published(one) - published(other))) == pytest.approx(slope(n))
    assert slope(n) == pytest.approx({"dpp": {4: 2.384}, "vendi": {4: 1 / 3}}[statistic].get(n, slope(n)), abs=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov"])
@pytest.mark.parametrize(("lr", "clip_norm"), [(1.0, 0.1), (2e-3, 1e6)], ids=["clipped", "not clipped"])
@pytest.mark.parametrize("weight", [1.0, 7.0])
def test_steps_are_the_published_steps(optimizer: str, lr: float, clip_norm: float, weight: float) -> None:
    """Those of torch's SGD on the published DPP, with one clip for the batch. Of two samples of the same length, both
    have the same gradient norm, so that it makes no difference whether they are clipped together."""
    recipe = Recipe(lr, clip_norm, 3, (Term("", 5000.0, of_dpp),), SHAPE, 2, 2, "", optimizer=optimizer)
    start = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = start / start.flatten(1).norm(dim=1)[:, None, None, None] * math.sqrt(math.prod(SHAPE) - 1)
    seen = LatentFeatures(grid=4)

    z = torch.nn.Parameter(start.clone())
    sgd = torch.optim.SGD([z], lr=lr, momentum=0.9, nesterov=optimizer == "nesterov")
    for _ in range(recipe.iterations):
        sgd.zero_grad()
        (-5000.0 * published_dpp(kernel(seen(z)))).backward()
        torch.nn.utils.clip_grad_norm_([z], clip_norm)
        sgd.step()

    objective = Diversity(features=seen, statistic="dpp", weight=weight)
    settings = replace(Settings(**recipe.settings(objective, 2)), prior_weight=0.0)
    found = []
    optimize(lambda noise: found.append(noise.detach()) or Batch(latents=noise), objective, start, settings)
    moved = z.detach() - start
    assert moved.norm() > 0.01
    assert (found[3] - start - moved).norm() < 1e-5 * moved.norm()


def test_the_presets_are_the_published_numbers() -> None:
    """arXiv 2601.00090's released settings, for 4 x 64 x 64 and 16 x 64 x 64 latents."""
    sdxl, white = RECIPES["SDXL-Turbo"], RECIPES["FLUX.1 schnell, white noise"]
    weights = {term.score: term.weight_here(4) for term in (*sdxl.lead, *sdxl.others)}
    assert weights == pytest.approx({DPP: 20.97, VENDI: 150, PATCHES: 50, CLIP_B32: 10}, rel=1e-3)
    assert sdxl.learning_rate / (1 - sdxl.momentum) == pytest.approx(0.039, abs=5e-4)
    assert white.learning_rate / (1 - white.momentum) == pytest.approx(0.012, abs=5e-4)
    assert sdxl.clip(wired("SDXL-Turbo"), 4) == pytest.approx(0.1 * math.sqrt(4 * 64 * 64 / 4))
    assert {name: recipe.iterations for name, recipe in RECIPES.items()} == {
        "SDXL-Turbo": 50,
        "SDXL-Turbo, DPP with HPSv2.1": 150,
        "FLUX.1 schnell, white noise": 80,
        "FLUX.1 schnell, pink noise": 80,
        "FLUX.1 schnell, one at a time": 25,
        "FLUX.2 klein, one at a time": 70,
        "ReNO, one picture": 50,
    }
    assert all(Settings(**recipe.settings(wired(name), 16)) for name, recipe in RECIPES.items())


def wired(name: str, times: float = 1.0) -> Objective:
    """What a recipe asks for, with all weights so many times as large."""
    recipe = RECIPES[name]
    n = max(recipe.total, 2)
    terms = (recipe.lead[0], *recipe.others)
    return combine([Named(name=t.score, weight=times * t.weight_here(n), target=t.target) for t in terms])


def facts(recipe: Recipe) -> dict[str, str]:
    return facts_of(recipe.alpha, recipe.steps, recipe.batch, recipe.total, recipe.latent)


@pytest.mark.parametrize("times", [1.0, 0.1])
@pytest.mark.parametrize("name", RECIPES)
def test_a_graph_that_is_the_recipe_differs_in_nothing_but_what_is_told_of_it(name: str, times: float) -> None:
    recipe, n = RECIPES[name], max(RECIPES[name].total, 2)
    assert recipe.differences(wired(name, times), n, facts(recipe)) == list(recipe.differs)
    assert recipe.clip(wired(name, times), n) == pytest.approx(times * recipe.clip(wired(name), n))


def test_each_thing_that_is_otherwise_is_one_line() -> None:
    recipe = RECIPES["FLUX.1 schnell, pink noise"]
    dpp = Named(name=DPP, weight=1.0)
    objective = combine([dpp, Named(name="HPSv2.1", weight=1.0, target=0.3), DetailGuard()])
    lines = recipe.differences(objective, 4, facts_of("white", 4, 4, 8, (16, 64, 64)))
    assert lines[: -len(recipe.differs)] == [
        "starting noise: pink, alpha 0.2 in the recipe, white here",
        "steps: 1 in the recipe, 4 here",
        "pictures in all: 4 in the recipe, 8 here",
        "HPSv2.1: weight 2.38 in the recipe, 1 here",
        "HPSv2.1: target none in the recipe, 0.3 here",
        "Detail Guard: not in the recipe, weight 1 here",
    ]
    assert recipe.differences(dpp, 4, {})[0] == "HPSv2.1: weight 2.38 in the recipe, not wired here"


def test_any_of_the_diversities_that_a_recipe_leads_with_will_do() -> None:
    recipe = RECIPES["SDXL-Turbo"]
    for score, weight in ((VENDI, 150.0), (PATCHES, 50.0)):
        objective = combine([Named(name=score, weight=weight), Named(name=CLIP_B32, weight=10.0)])
        assert recipe.differences(objective, 4, {}) == list(recipe.differs)


def test_another_diversity_is_converted_by_its_own_statistic() -> None:
    recipe = RECIPES["SDXL-Turbo"]
    plain = recipe.clip(wired("SDXL-Turbo"), 4)
    for statistic, slope in (("dpp", of_dpp(4)), ("vendi", of_vendi(4)), ("pairwise", 1.0)):
        objective = Diversity(features=LatentFeatures(), statistic=statistic, weight=50.0)
        assert recipe.clip(objective, 4) == pytest.approx(plain * slope)


def test_a_clip_score_is_called_with_its_model() -> None:
    @dataclass
    class Clip:
        title: str

    score = Named(name="CLIP Score as published")
    object.__setattr__(score, "clip", Clip("CLIP ViT-B-32/openai"))
    assert called(score) == CLIP_B32


def test_the_page_of_the_recipes_is_made_from_them() -> None:
    written = Path(__file__).parents[2] / "docs" / "recipes.md"
    assert written.read_text(encoding="utf-8") == page(), "python tests/support/recipe_page.py > docs/recipes.md"
