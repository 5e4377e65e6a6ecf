"""Noise Search inside the host: what it shows is what its noise gives, whatever the sampler draws beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy_extras.nodes_custom_sampler as samplers
import pytest
import tiny_models
import torch
from torch import Tensor

from noise_optimize.nodes.search import NoiseSearch
from noise_optimize.noise.schedules import SCHEDULES
from noise_optimize.objectives import Batch, DetailGuard, Diversity, LatentFeatures, Objective
from noise_optimize.objectives.batch import BrokenSamples

NODE = NoiseSearch.PREPARE_CLASS_CLONE(None)
CANDIDATES, KEEP, STEPS = 7, 2, 4


@dataclass(frozen=True, kw_only=True)
class Told(Objective):
    """A score of each picture, by a function of the latents."""

    kind = "quality"
    needs = "latents"
    by: Callable[[Tensor], Tensor] = lambda latents: latents[:, 0].mean(dim=(1, 2))

    def measure(self, batch: Batch) -> Tensor:
        return self.by(batch.latents)


@pytest.fixture
def wires() -> dict[str, Any]:
    return wired("euler")


def wired(sampler: str) -> dict[str, Any]:
    with torch.inference_mode():
        model = tiny_models.model("sdxl")
        return {
            "noise": samplers.RandomNoise.execute(1).args[0],
            "guider": samplers.BasicGuider.execute(model, tiny_models.conditioning("sdxl")).args[0],
            "sampler": samplers.KSamplerSelect.execute(sampler).args[0],
            "sigmas": samplers.BasicScheduler.execute(model, "simple", STEPS, 1.0).args[0],
            "latent_image": tiny_models.latent("sdxl", 4, 4, 3),
        }


@torch.inference_mode()
def search(wires: dict[str, Any], objective: Objective, **widgets: Any) -> tuple[Any, ...]:
    """noise, latents, images, report"""
    widgets = {"candidates": CANDIDATES, "keep": KEEP} | widgets
    noise, latent, images, report = NODE.execute(**wires, objective=objective, **widgets).args
    return noise, latent["samples"], images, report


@torch.inference_mode()
def sampled(wires: dict[str, Any], noise: Any = None, count: int = KEEP) -> Tensor:
    """What SamplerCustomAdvanced makes of a noise, or of the candidates where there is none."""
    latent = {"samples": wires["latent_image"]["samples"][:1].repeat(count, 1, 1, 1)}
    wires = wires | {"latent_image": latent} | ({} if noise is None else {"noise": noise})
    return samplers.SamplerCustomAdvanced.execute(**wires).args[0]["samples"]


def drawn(wires: dict[str, Any]) -> Tensor:
    return wires["noise"].generate_noise({"samples": wires["latent_image"]["samples"][:1].repeat(CANDIDATES, 1, 1, 1)})


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [(sampler, "half way") for sampler in ("heun", "lcm", "dpmpp_2m_sde", "dpmpp_sde")]
    + [(sampler, schedule) for sampler in ("euler", "euler_ancestral") for schedule in SCHEDULES],
)
def test_what_it_shows_is_what_its_noise_gives_bit_for_bit_and_so_are_its_scores(sampler: str, schedule: str) -> None:
    wires, features = wired(sampler), LatentFeatures(grid=2)
    objective = Diversity(features=features) + Told()
    noise, latents, _, report = search(wires, objective, schedule=schedule)
    assert latents.equal(sampled(wires, noise))
    for score in objective(Batch(latents)):
        assert f"{score.name} {float(score.mean):.3f}" in report
    rows = noise.settings["chosen"]
    assert noise.samples.equal(drawn(wires)[rows])


@pytest.mark.parametrize("sampler", ["euler_ancestral", "lcm", "dpmpp_2m_sde"])
def test_with_injected_noise_a_candidate_is_chosen_for_the_place_at_which_it_is_handed_out(sampler: str) -> None:
    wires, told = wired(sampler), Told()
    found, latents, _, _ = search(wires, told, schedule="to the end")
    scores: dict[int, float] = {}
    for candidate in range(CANDIDATES):
        rows = [candidate, candidate]  # the noise that is injected differs between the two places
        noise = type(found)(drawn(wires)[rows], found.seed)
        scores[candidate] = float(told.by(sampled(wires, noise))[candidate % KEEP])
    best = [max(range(place, CANDIDATES, KEEP), key=scores.get) for place in range(KEEP)]
    assert found.settings["chosen"] == best
    assert told.by(latents).tolist() == pytest.approx([scores[candidate] for candidate in best], rel=1e-4)


def test_without_injected_noise_the_best_are_kept_wherever_they_are(wires: dict[str, Any]) -> None:
    told, every = Told(), sampled(wires, count=CANDIDATES)
    best = sorted(told.by(every).topk(KEEP).indices.tolist())
    assert search(wires, told, schedule="to the end")[0].settings["chosen"] == best


def test_it_says_what_it_cost_and_that_is_what_was_sampled(wires: dict[str, Any]) -> None:
    seen = []
    network = wires["guider"].model_patcher.model.diffusion_model
    network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    for schedule in SCHEDULES:
        seen.clear()
        report = search(wires, Told(), schedule=schedule, candidates=12)[3]
        runs = float(re.search(r"as much as ([\d.]+) plain sampling runs of 2 pictures", report)[1])
        assert runs == pytest.approx(sum(seen) / (KEEP * STEPS), abs=0.05)


def test_broken_candidates_are_passed_over_and_told(wires: dict[str, Any]) -> None:
    order = Told().by(sampled(wires, count=CANDIDATES))
    best = float(order.max())

    def all_but_the_best(latents: Tensor) -> Tensor:
        values = Told().by(latents)
        return values.masked_fill(values > best - 1e-4, torch.nan)

    noise, _, _, report = search(wires, Told(by=all_but_the_best), schedule="to the end")
    assert noise.settings["chosen"] == sorted(order.topk(KEEP + 1).indices[1:].tolist())
    assert "Candidates with NaN or infinity: 1; none of them was kept." in report
    with pytest.raises(ValueError, match="All candidates have scores of NaN"):
        search(wires, Told(by=lambda latents: torch.full((len(latents),), torch.nan)))


def test_a_broken_candidate_is_kept_where_there_is_no_other_and_nothing_is_lost(wires: dict[str, Any]) -> None:
    second = float(Told().by(sampled(wires, count=CANDIDATES)).topk(2).values[1])

    def all_but_the_best_two(latents: Tensor) -> Tensor:
        values = Told().by(latents)
        if (blind := values > second - 1e-4).any():
            raise BrokenSamples("nothing there", blind)  # as features do
        return values

    told = Told(by=all_but_the_best_two)
    noise, latents, _, report = search(wires, told, keep=CANDIDATES - 1, schedule="to the end")
    assert "Candidates with NaN or infinity: 2; 1 of them had to be kept: raise candidates." in report
    assert latents.equal(sampled(wires, noise, CANDIDATES - 1))


def test_what_cannot_choose_is_refused_in_a_sentence(wires: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only guards"):
        search(wires, DetailGuard())
    with pytest.raises(ValueError, match="raise candidates or lower keep"):
        search(wires, Told(), keep=8)


def test_all_candidates_are_kept_where_as_many_are_wanted(wires: dict[str, Any]) -> None:
    noise, latents, _, report = search(wires, Told(), keep=CANDIDATES)
    assert noise.samples.equal(drawn(wires)) and "as much as 1.0 plain" in report
    assert latents.equal(sampled(wires, count=CANDIDATES))
