"""Diverse Sampler keeps pictures by their numbers: bit for bit whatever the effort, and the others differ from them."""

from __future__ import annotations

from typing import Any

import comfy_extras.nodes_custom_sampler as custom
import nodes
import pytest
import tiny_models
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from noise_optimize.nodes import keeping
from noise_optimize.nodes.demo import DemoPrompt, LoadDemo
from noise_optimize.nodes.diverse_sampler import DiverseSampler
from noise_optimize.nodes.efforts import EFFORTS
from noise_optimize.nodes.latents import FixedNoise
from noise_optimize.objectives import Batch, Diversity, LatentFeatures

NODE = DiverseSampler.PREPARE_CLASS_CLONE(None)
PICTURES = 4
APART = Diversity(features=LatentFeatures())
WAYS = [{"variety": 0.0}, *({"effort": effort, "variety": 1.0} for effort in EFFORTS)]
NAMES = ["variety 0", *EFFORTS]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_models.model("sdxl")


@pytest.fixture
def wires(model: Any) -> dict[str, Any]:
    prompts = (tiny_models.conditioning("sdxl", seed) for seed in (0, 1))
    return tiny_models.ksampler(model, *prompts, torch.zeros(PICTURES, 4, 8, 8), seed=5, steps=2)


@torch.inference_mode()
def run(wires: dict[str, Any], **widgets: Any) -> tuple[Tensor, Any, dict[str, Any], str]:
    """Latents, NOISE, what the browser is told, and what the node says."""
    done = NODE.execute(**wires | widgets)
    latent, _, noise = done.args
    return latent["samples"], noise, done.ui["kept"][0], done.ui["text"][0]


@torch.inference_mode()
def ksampler(wires: dict[str, Any]) -> Tensor:
    return nodes.KSampler().sample(**wires)[0]["samples"]


@torch.inference_mode()
def sampled(wires: dict[str, Any], noise: Any, latent: dict[str, Any] | None = None) -> Tensor:
    """What SamplerCustomAdvanced makes of a NOISE."""
    model = wires["model"]
    return custom.SamplerCustomAdvanced.execute(
        noise,
        custom.CFGGuider.execute(model, wires["positive"], wires["negative"], wires["cfg"])[0],
        custom.KSamplerSelect.execute(wires["sampler_name"])[0],
        custom.BasicScheduler.execute(model, wires["scheduler"], wires["steps"], wires["denoise"])[0],
        latent or wires["latent_image"],
    )[0]["samples"]


def moved(latents: Tensor, before: Tensor) -> list[int]:
    return (latents != before).flatten(1).any(dim=1).nonzero().flatten().tolist()


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
@pytest.mark.parametrize("first", WAYS, ids=NAMES)
def test_a_picture_of_any_effort_stays_bit_for_bit_in_any_other(
    wires: dict[str, Any], first: dict[str, Any], sampler: str
) -> None:
    wires["sampler_name"] = sampler
    shown, _, told, _ = run(wires, **first)
    assert told["pictures"] == PICTURES and told["keep"] == [] and told["kept_from"] == ""
    for way in WAYS:
        latents, noise, again, said = run(wires, **way, seed=6, keep="2, 4", kept_from=told["file"])
        assert moved(latents, shown) == [0, 2] and said.startswith("Pictures kept: 2, 4.\n")
        assert (again["keep"], again["kept_from"]) == ([2, 4], told["file"]) and again["file"] != told["file"]
        assert latents.equal(sampled(wires, noise)), "and any sampler makes them of the noise handed out"
        onward, *_ = run(wires, **way, seed=7, keep="1, 2", kept_from=again["file"])
        assert moved(onward, latents) == [2, 3]


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
@pytest.mark.parametrize("index", [None, [1, 4, 6, 7]])
def test_without_a_file_the_numbers_mean_the_pictures_of_ksampler(
    wires: dict[str, Any], way: dict[str, Any], index: list[int] | None
) -> None:
    if index is not None:
        wires["latent_image"]["batch_index"] = index
    plain = ksampler(wires)
    latents, *_ = run(wires, **way, keep="3")
    assert moved(latents, plain) == ([0, 1, 3] if way["variety"] else [])


@pytest.mark.parametrize("effort", [name for name, effort in EFFORTS.items() if effort.looks])
def test_a_picture_of_a_later_batch_stays_too(wires: dict[str, Any], effort: str) -> None:
    settings = {"effort": effort, "variety": 1.0, "at_once": 2}
    shown, _, told, _ = run(wires, **settings)
    latents, *_ = run(wires, **settings, seed=6, keep="4", kept_from=told["file"])
    assert moved(latents, shown) == [0, 1, 2]


def test_at_variety_0_the_others_are_those_of_ksampler(wires: dict[str, Any]) -> None:
    file = run(wires, effort="quick")[2]["file"]
    latents, *_ = run(wires, variety=0.0, seed=9, keep="1", kept_from=file)
    assert moved(latents, ksampler(wires | {"seed": 9})) == [0]


def test_search_chooses_the_others_to_differ_most_from_what_is_kept(wires: dict[str, Any]) -> None:
    """Of two pictures one is kept, so the other is the farthest of all candidates for its place."""
    wires["latent_image"] = {"samples": torch.zeros(2, 4, 8, 8)}
    shown, _, told, _ = run(wires, effort="set")
    latents, noise, _, said = run(wires, effort="search", variety=1.0, seed=6, keep="2", kept_from=told["file"])
    many = {"samples": torch.zeros(6, 4, 8, 8)}
    drawn = FixedNoise(custom.Noise_RandomNoise(6).generate_noise(many))
    with torch.no_grad():
        candidates = torch.cat([shown[1:], sampled(wires, drawn, many)])
    far = APART.distances(Batch(latents=candidates))[0, 1:]
    far[1] = -1  # where the one that is kept is
    assert noise.samples[0].equal(drawn.samples[int(far.argmax())])
    assert noise.settings["chosen"] == [int(far.argmax()), 1] and noise.settings["candidates"] == 6
    assert f"Chose 2 of 6 candidates: {int(far.argmax()) + 1}, 2." in said


def test_where_places_matter_each_candidate_is_chosen_for_a_free_place(wires: dict[str, Any]) -> None:
    wires["sampler_name"] = "euler_ancestral"
    file = run(wires)[2]["file"]
    noise = run(wires, effort="search", variety=1.0, seed=6, keep="1, 3", kept_from=file)[1]
    places = [0, 1, 2, 3, *[1, 3] * 4]
    assert [places[candidate] for candidate in noise.settings["chosen"]] == [0, 1, 2, 3]
    assert noise.settings["candidates"] == len(places) and noise.settings["chosen"][::2] == [0, 2]


@pytest.mark.parametrize("effort", EFFORTS)
def test_where_all_are_kept_they_are_only_sampled_and_it_is_said(wires: dict[str, Any], effort: str) -> None:
    shown, _, told, _ = run(wires, effort=effort)
    latents, _, _, said = run(wires, effort=effort, seed=6, keep="1 2 3 4", kept_from=told["file"])
    assert latents.equal(shown) and "all of them are kept · costs 1 plain run of 4" in said


def test_the_others_move_away_from_what_is_kept(wires: dict[str, Any]) -> None:
    """On the demo's few-step model, whose plain pictures are alike."""
    prompt = DemoPrompt.execute("a house")[0]
    wires |= {"model": LoadDemo.execute("few-step (4 steps, cfg 1)")[0], "positive": prompt, "negative": prompt}
    wires |= {"latent_image": {"samples": torch.zeros(PICTURES, 16, 8, 8)}, "steps": 4}
    moving = {"seed": 6, "keep": "2", "kept_from": run(wires, variety=0.0)[2]["file"]}

    def apart(**widgets: Any) -> float:
        return float(APART.distances(Batch(latents=run(wires, **moving, **widgets)[0]))[1, [0, 2, 3]].mean())

    plain = apart(variety=0.0)
    for effort in ("search", "quick", "thorough"):
        assert apart(variety=1.0, effort=effort) > plain + 0.02


def test_the_numbers_are_those_of_the_pictures_that_are_made(wires: dict[str, Any]) -> None:
    """0 pictures of a batch of one are four, and one at variety 0."""
    wires["latent_image"] = {"samples": torch.zeros(1, 4, 8, 8)}
    shown, _, told, _ = run(wires)
    kept = {"keep": "4", "kept_from": told["file"]}
    assert moved(run(wires, **kept, seed=6)[0], shown) == [0, 1, 2]
    with pytest.raises(ValueError, match="keep is '4', and there is 1 picture: keep some of 1 to 1"):
        run(wires, **kept, variety=0.0)
    with pytest.raises(ValueError, match="keep is '4', and there are 2 pictures: keep some of 1 to 2"):
        run(wires, **kept, pictures=2)


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_noise_of_another_size_is_refused_in_a_sentence(wires: dict[str, Any], way: dict[str, Any]) -> None:
    file = run(wires, variety=0.0)[2]["file"]
    wires["latent_image"] = {"samples": torch.zeros(PICTURES, 4, 8, 10)}
    with pytest.raises(ValueError, match="set latent_image to the size of the kept pictures, or clear keep") as told:
        run(wires, **way, keep="1", kept_from=file)
    assert "\n" not in str(told.value)


def test_what_is_kept_is_never_rounded_to_the_latents(wires: dict[str, Any]) -> None:
    shown, noise, told, _ = run(wires, effort="quick")
    wires["latent_image"] = {"samples": torch.zeros(PICTURES, 4, 8, 8, dtype=torch.float16)}
    latents, again, _, _ = run(wires, effort="set", seed=6, keep="2", kept_from=told["file"])
    assert again.samples[1].equal(noise.samples[1]) and latents[1].equal(shown[1])


def test_a_video_with_sound_is_kept_as_a_whole() -> None:
    def latent(fill: float) -> Any:
        return NestedTensor([torch.full((2, 4, 8, 8), fill), torch.full((2, 4, 8), fill)])

    file = keeping.write(FixedNoise(latent(1.0), 3))
    started = keeping.Kept.of("2", file, 2).start(latent(0.0))
    assert [part.flatten(1).mean(dim=1).tolist() for part in started.unbind()] == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="for another size"):
        keeping.Kept.of("2", file, 2).start(torch.zeros(2, 4, 8, 8))


def test_the_widgets_come_last_and_are_optional() -> None:
    inputs = NODE.GET_SCHEMA().inputs[-2:]
    assert [each.id for each in inputs] == ["keep", "kept_from"]
    assert all(each.optional and each.default == "" for each in inputs) and inputs[-1].advanced
    assert inputs[-1].tooltip.endswith("Empty: the pictures of this seed in KSampler.")
