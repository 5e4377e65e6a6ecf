"""Diverse Sampler inside the host: KSampler at 0, and each effort what its own node makes of the same settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom
import folder_paths
import nodes
import pytest
import tiny_models
import torch
import video_models
from comfy.nested_tensor import NestedTensor
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_execution.graph_utils import ExecutionBlocker
from told import Told
from torch import Tensor

from noise_optimize.nodes import efforts, monitor
from noise_optimize.nodes.demo import DemoPrompt, LoadDemo
from noise_optimize.nodes.differing import DIFFER_IN
from noise_optimize.nodes.diverse_sampler import DiverseSampler
from noise_optimize.nodes.efforts import EFFORTS
from noise_optimize.nodes.host.models import layout
from noise_optimize.nodes.latents import of_size
from noise_optimize.nodes.noise_sets import NoiseSetNode
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.nodes.search import NoiseSearch
from noise_optimize.nodes.seeds import DiverseSeeds
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import save_set
from noise_optimize.objectives import Batch, ColourFeatures, DetailGuard, Diversity, LatentFeatures

NODE = DiverseSampler.PREPARE_CLASS_CLONE(None)
FILE, SEED = "diverse_sampler_of_tests.safetensors", 2**63 + 5
LOOKING = [name for name, effort in EFFORTS.items() if effort.looks]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_models.model("sdxl")


@pytest.fixture
def wires(model: Any) -> dict[str, Any]:
    prompts = (tiny_models.conditioning("sdxl", seed) for seed in (0, 1))
    return tiny_models.ksampler(model, *prompts, torch.zeros(2, 4, 8, 8), seed=SEED, steps=4)


@pytest.fixture
def file() -> Iterator[Path]:
    path = Path(folder_paths.get_input_directory(), FILE)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written into the node while it runs."""
    lines: list[str] = []
    for module in (efforts, monitor):
        monkeypatch.setattr(module, "write", lambda text, node: lines.append(text))
    return lines


@torch.inference_mode()
def diverse(wires: dict[str, Any], **widgets: Any) -> tuple[dict[str, Any], Any, Any]:
    """LATENT, IMAGE, NOISE"""
    return NODE.execute(**wires | widgets).args


@torch.inference_mode()
def ksampler(wires: dict[str, Any]) -> dict[str, Any]:
    return nodes.KSampler().sample(**wires)[0]


def parts_of(wires: dict[str, Any], count: int = 2) -> dict[str, Any]:
    """What SamplerCustomAdvanced is wired to for the same pictures."""
    guider = custom.CFGGuider.execute(wires["model"], wires["positive"], wires["negative"], wires["cfg"])[0]
    sigmas = custom.BasicScheduler.execute(wires["model"], wires["scheduler"], wires["steps"], wires["denoise"])[0]
    return {
        "noise": custom.Noise_RandomNoise(wires["seed"]),
        "guider": guider,
        "sampler": custom.KSamplerSelect.execute(wires["sampler_name"])[0],
        "sigmas": sigmas,
        "latent_image": {"samples": torch.zeros(count, *wires["latent_image"]["samples"].shape[1:])},
    }


@torch.inference_mode()
def advanced(wires: dict[str, Any], noise: Any, count: int = 2) -> Tensor:
    return custom.SamplerCustomAdvanced.execute(**parts_of(wires, count) | {"noise": noise})[0]["samples"]


def picture(batch: int = 2) -> Tensor:
    return torch.randn(batch, 4, 8, 8, generator=tiny_models.generator(4))


KSAMPLERS = {
    "euler": {},
    "ancestral": {"sampler_name": "euler_ancestral", "scheduler": "karras"},
    "a scheduler without its last step but one": {"sampler_name": "dpm_2", "scheduler": "normal"},
    "multistep": {"sampler_name": "dpmpp_2m", "scheduler": "sgm_uniform", "cfg": 4.0},
    "sde": {"sampler_name": "dpmpp_sde", "scheduler": "beta", "cfg": 2.0},
    "uni_pc": {"sampler_name": "uni_pc", "scheduler": "exponential"},
    "ddim": {"sampler_name": "ddim", "scheduler": "ddim_uniform"},
    "image to image": {"latent_image": {"samples": picture()}, "denoise": 0.5},
    "nothing sampled": {"latent_image": {"samples": picture()}, "denoise": 0.0},
    "a mask": {
        "latent_image": {"samples": picture(), "noise_mask": torch.ones(1, 1, 64, 64).tril()},
        "sampler_name": "euler_ancestral",
    },
    "some of a batch": {"latent_image": {"samples": torch.zeros(2, 4, 8, 8), "batch_index": [1, 4]}},
    "notes about the size": {"latent_image": {"samples": torch.zeros(2, 4, 8, 8), "downscale_ratio_spacial": 16}},
}


@pytest.mark.parametrize("widgets", KSAMPLERS.values(), ids=KSAMPLERS)
@pytest.mark.parametrize("effort", ["set", "thorough"])
def test_at_variety_0_it_is_ksampler_bit_for_bit(wires: dict[str, Any], widgets: dict[str, Any], effort: str) -> None:
    wanted = ksampler(wires | widgets)
    latent, image, noise = diverse(wires | widgets, variety=0.0, effort=effort)
    assert latent.keys() == wanted.keys()
    assert all(torch.equal(latent[name], wanted[name]) for name in latent if name != "batch_index")
    assert latent.get("batch_index") == wanted.get("batch_index")
    assert isinstance(image, ExecutionBlocker)
    given = noise.generate_noise((wires | widgets)["latent_image"])
    assert torch.equal(given, custom.Noise_RandomNoise(SEED).generate_noise((wires | widgets)["latent_image"]))


def test_one_picture_stays_one_at_variety_0_and_four_are_made_above(wires: dict[str, Any]) -> None:
    wires["latent_image"] = {"samples": torch.zeros(1, 4, 8, 8)}
    assert torch.equal(diverse(wires, variety=0.0)[0]["samples"], ksampler(wires)["samples"])
    for effort in EFFORTS:
        assert len(diverse(wires, effort=effort)[0]["samples"]) == 4
        assert len(diverse(wires, effort=effort, pictures=3)[0]["samples"]) == 3
    wires["latent_image"] = {"samples": torch.zeros(5, 4, 8, 8)}
    assert len(diverse(wires, effort="set")[0]["samples"]) == 5
    assert len(diverse(wires, effort="set", pictures=2)[0]["samples"]) == 2
    assert len(diverse(wires, variety=0.0, pictures=2)[0]["samples"]) == 2


def test_effort_set_is_noise_set_bit_for_bit(wires: dict[str, Any], file: Path, said: list[str]) -> None:
    coefficients = torch.randn(6, 4, 3, 3, generator=tiny_models.generator(3))
    save_set(file, NoiseSet(coefficients, settings={"layout": layout(wires["model"])}))
    wanted = advanced(wires, NoiseSetNode.execute(FILE, SEED, 0.7, "by seed")[0])
    latent, _, noise = diverse(wires, variety=0.7, effort="set")
    assert torch.equal(latent["samples"], wanted)
    assert torch.equal(advanced(wires, noise), wanted)
    assert said[0].startswith("6 patterns") and "costs 1 plain run of 2" in said[0]
    file.unlink()
    diverse(wires, variety=0.7, effort="set")
    assert said[-1].startswith("pink noise · no set for this model yet")


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_effort_search_is_noise_search(wires: dict[str, Any], sampler: str) -> None:
    wires["sampler_name"] = sampler
    objective = Diversity(features=LatentFeatures(), target=0.5)
    with torch.inference_mode():
        noise, wanted, _, report = (
            NoiseSearch.PREPARE_CLASS_CLONE(None)
            .execute(**parts_of(wires), objective=objective, candidates=6, keep=2, schedule="half way only")
            .args
        )
    latent, _, found = diverse(wires, variety=0.5, effort="search")
    assert torch.equal(latent["samples"], wanted["samples"]) and torch.equal(found.samples, noise.samples)
    assert torch.equal(advanced(wires, found), latent["samples"])


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    """The demo's few-step model, whose plain pictures are alike."""
    model, vae, _ = LoadDemo.execute("few-step (4 steps, cfg 1)").args
    prompt = DemoPrompt.execute("a house")[0]
    return tiny_models.ksampler(model, prompt, prompt, torch.zeros(1, 16, 8, 8), seed=3, steps=4) | {"vae": vae}


@pytest.mark.parametrize(("effort", "iterations"), [("quick", 2), ("thorough", 5)])
@pytest.mark.parametrize("keep_prompt", [True, False])
def test_the_others_are_noise_optimize(demo: dict[str, Any], effort: str, iterations: int, keep_prompt: bool) -> None:
    objective = Diversity(features=LatentFeatures(), target=0.5)
    if keep_prompt:
        objective = objective + DetailGuard()
    parts = parts_of(demo, 4)
    with torch.inference_mode():
        noise, wanted, images, *_ = NoiseOptimize.PREPARE_CLASS_CLONE(None).execute(
            **parts, objective=objective, vae=demo["vae"], iterations=iterations, learning_rate=0.35,
            optimizer="large steps",
        ).args  # fmt: skip
    latent, image, found = diverse(demo, variety=0.5, effort=effort, keep_prompt=keep_prompt)
    assert torch.equal(found.samples, noise.samples) and torch.equal(latent["samples"], wanted["samples"])
    assert torch.equal(image, images)
    assert torch.equal(advanced(demo, found, 4), latent["samples"])
    assert not torch.allclose(found.samples, parts["noise"].generate_noise(parts["latent_image"]), atol=0.1)


def variety(latent: dict[str, Any]) -> float:
    return float(Diversity(features=LatentFeatures()).measure(Batch(latents=latent["samples"])))


def words(wires: dict[str, Any], **widgets: Any) -> str:
    with torch.inference_mode():
        return NODE.execute(**wires | widgets).ui["text"][0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each prediction that a sampler asks a guider for costs: a call for each picture, with a gradient three."""
    asked: list[int] = []
    predict = comfy.samplers.CFGGuider.predict_noise

    def counting(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        asked.append(len(x) * (3 if torch.is_grad_enabled() and x.requires_grad else 1))
        return predict(self, x, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.CFGGuider, "predict_noise", counting)
    return asked


def test_every_effort_raises_variety_and_ends_when_it_is_there(demo: dict[str, Any]) -> None:
    plain = variety(diverse(demo, variety=0.0, pictures=4)[0])
    for effort in EFFORTS:
        assert variety(diverse(demo, effort=effort)[0]) > plain + 0.05
    told = words(demo, effort="thorough", variety=0.3)
    assert "stopped because the diversity target was reached" in told
    assert "all 5 iterations" in words(demo, effort="thorough", variety=1.0)


@pytest.mark.parametrize("keep", ["", "2"])
@pytest.mark.parametrize("effort", EFFORTS)
def test_it_says_its_price_before_and_after_and_that_is_what_was_counted(
    wires: dict[str, Any], said: list[str], calls: list[int], effort: str, keep: str
) -> None:
    settings = wires | {"effort": effort, "variety": 1.0, "keep": keep}
    words(settings)  # what a model is tried with once in a process is no part of its price
    calls.clear()
    said.clear()
    told = words(settings)
    price = r"(?:as much as|costs?) ([\d.]+) plain (?:sampling )?runs? of 2"
    before, after = (float(re.search(price, text)[1]) for text in (said[0], told))
    most = re.search(r"at most ([\d.]+)", said[0])
    assert after == pytest.approx(sum(calls) / (2 * wires["steps"]), abs=0.05)
    assert before <= after <= (float(most[1]) if most else before)


@pytest.mark.parametrize("effort", LOOKING)
@pytest.mark.parametrize("differ_in", ["layout and colors", "colors"])
def test_pictures_to_differ_from_are_differed_from(demo: dict[str, Any], effort: str, differ_in: str) -> None:
    features = DIFFER_IN[differ_in]()
    plain = diverse(demo, variety=0.0)

    def distance(made: tuple[dict[str, Any], Tensor, Any]) -> float:
        both = [torch.cat([a, b]) for a, b in ((plain[0]["samples"], made[0]["samples"]), (plain[1], made[1]))]
        batch = Batch(latents=both[0], pictures=both[1].movedim(-1, 1))
        return float(Diversity(features=features).distances(batch)[0, 1])

    settings = {"effort": effort, "differ_in": differ_in, "pictures": 1, "variety": 1.0, "differ_from": plain[1]}
    assert distance(diverse(demo, **settings)) > distance(plain) + 0.01


def test_pictures_to_differ_from_may_have_any_size(demo: dict[str, Any]) -> None:
    wide = torch.rand(3, 50, 130, 4, generator=tiny_models.generator())
    for differ_in in ("layout and colors", "colors"):
        latent, image, _ = diverse(demo, differ_from=wide, differ_in=differ_in)
        assert latent["samples"].isfinite().all() and len(image) == 4


def test_an_objective_takes_the_place_of_differ_in_and_variety_is_its_target(demo: dict[str, Any]) -> None:
    objective = Diversity(features=ColourFeatures(), statistic="vendi")
    told = words(demo, objective=objective, variety=0.2, effort="thorough")
    assert "Color Features (lab) vendi: " in told and "target was reached" in told
    own = words(demo, objective=Diversity(features=ColourFeatures(), target=0.99), variety=0.2, effort="quick")
    assert "all 2 iterations were made" in own


@pytest.mark.parametrize("effort", LOOKING)
def test_fewer_at_once_give_a_set_that_its_noise_gives_again(demo: dict[str, Any], effort: str) -> None:
    latent, image, noise = diverse(demo, effort=effort, at_once=2, keep_prompt=False)
    assert len(latent["samples"]) == len(image) == 4
    again = advanced(demo, noise, 4)
    torch.testing.assert_close(again, latent["samples"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("effort", EFFORTS)
def test_image_to_image_and_masks_stay_what_they_are(demo: dict[str, Any], effort: str) -> None:
    image = torch.rand(1, 64, 64, 3, generator=tiny_models.generator())
    with torch.inference_mode():
        begun = demo["vae"].encode(image)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    started = demo | {"latent_image": {"samples": begun, "noise_mask": mask}, "denoise": 0.6}
    latent, _, noise = diverse(started, effort=effort)
    assert latent["samples"].shape == (4, 16, 8, 8)
    torch.testing.assert_close(latent["samples"][..., :4], begun[..., :4].expand(4, -1, -1, -1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(latent["samples"][0, ..., 4:], latent["samples"][1, ..., 4:], atol=0.1)
    assert torch.equal(latent["noise_mask"], mask)


def test_the_pictures_are_those_of_vae_decode(demo: dict[str, Any]) -> None:
    for effort in EFFORTS:
        latent, image, _ = diverse(demo, effort=effort)
        with torch.inference_mode():
            assert torch.equal(image, nodes.VAEDecode().decode(demo["vae"], latent)[0])


WRONG = {
    "no VAE for pictures": ({"differ_in": "colors"}, "there is no VAE: wire one to vae"),
    "nothing to differ from": ({"pictures": 1}, "pictures is 1, which has nothing to differ from"),
    "references without a VAE": ({"differ_from": torch.rand(1, 8, 8, 3)}, "wire a VAE to vae"),
    "no sampling": ({"denoise": 0.0}, "denoise is 0"),
    "an empty mask": (
        {"latent_image": {"samples": torch.zeros(2, 4, 8, 8), "noise_mask": torch.zeros(1, 8, 8)}},
        "empty mask",
    ),
    "another family": ({"latent_image": {"samples": torch.ones(2, 16, 8, 8)}}, "16 channels and this model needs 4"),
    "unlike pictures in turns": ({"latent_image": {"samples": picture(4)}, "at_once": 2}, "set at_once to 0"),
    "guards alone": ({"objective": DetailGuard(), "effort": "search", "vae": 4}, "only guards"),
    "a VAE of another family": ({"vae": 16}, "vae is of another family"),
    "an unknown effort": ({"effort": "more"}, "choose one of set, search, quick, thorough"),
    "a sampler without a gradient": ({"sampler_name": "dpm_adaptive"}, "in Diverse Sampler set effort to search"),
}


@pytest.mark.parametrize(("widgets", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_the_model_is_called(
    wires: dict[str, Any], calls: list[int], widgets: dict[str, Any], sentence: str
) -> None:
    if "vae" in widgets:
        widgets = widgets | {"vae": tiny_models.vae(widgets["vae"])}
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        diverse(wires, **widgets)
    assert not calls and "\n" not in str(error.value)


def test_diverse_seeds_on_the_model_wire_is_refused_but_at_variety_0(wires: dict[str, Any]) -> None:
    wires["model"] = DiverseSeeds.PREPARE_CLASS_CLONE(None).execute(wires["model"], "pink noise", 1.0)[0]
    with pytest.raises(ValueError, match="take Diverse Seeds off the model wire"):
        diverse(wires)
    assert torch.equal(diverse(wires, variety=0.0)[0]["samples"], ksampler(wires)["samples"])


def test_a_ksampler_becomes_one_by_its_name_alone() -> None:
    """Its sockets and widgets come first, in its order; the rest has defaults."""
    schema = NODE.GET_SCHEMA()
    required = [each.id for each in schema.inputs if not each.optional]
    assert required == list(nodes.KSampler.INPUT_TYPES()["required"])
    assert [each.id for each in schema.inputs][: len(required)] == required
    for name, (kind, *options) in nodes.KSampler.INPUT_TYPES()["required"].items():
        (given,) = (each for each in schema.inputs if each.id == name)
        ours = given.as_dict()
        theirs = {key: value for key, value in (options[0] if options else {}).items() if key != "tooltip"}
        assert {key: ours.get(key) for key in theirs} == theirs
        assert not isinstance(kind, list) or ours["options"] == kind


def test_a_latent_grows_as_repeat_latent_batch_makes_it_grow() -> None:
    latent = {"samples": picture(2), "batch_index": [3, 5]}
    (wanted,) = nodes.RepeatLatentBatch().repeat(latent, 3)
    grown = of_size(latent, 6)
    assert torch.equal(grown["samples"], wanted["samples"]) and grown["batch_index"] == wanted["batch_index"]
    fewer = of_size(latent, 1)
    assert torch.equal(fewer["samples"], latent["samples"][:1]) and fewer["batch_index"] == [3]


@pytest.mark.parametrize("effort", EFFORTS)
def test_some_of_a_batch_start_from_their_own_noise_and_its_noise_gives_them_again(
    wires: dict[str, Any], effort: str
) -> None:
    wires["latent_image"] = {"samples": torch.zeros(2, 4, 8, 8), "batch_index": [1, 4]}
    latent, _, noise = diverse(wires, effort=effort)
    assert (latent.get("batch_index") == [1, 4]) == (effort != "search")
    empty = {**latent, "samples": torch.zeros_like(latent["samples"])}
    with torch.inference_mode():
        again = custom.SamplerCustomAdvanced.execute(**parts_of(wires) | {"noise": noise, "latent_image": empty})[0]
    assert torch.equal(again["samples"], latent["samples"])


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_lora_is_sampled_with_and_the_model_is_left_as_it_was(wires: dict[str, Any], effort: str) -> None:
    before = {name: weight.clone() for name, weight in wires["model"].model.state_dict().items()}
    lora = wires["model"].clone()
    name = next(name for name in before if name.endswith("to_q.weight"))
    lora.add_patches({name: ("diff", (torch.ones_like(before[name]),))})
    latent, _, noise = diverse(wires | {"model": lora}, effort=effort)
    assert torch.equal(advanced(wires | {"model": lora}, noise), latent["samples"])
    assert not torch.equal(advanced(wires, noise), latent["samples"])
    assert torch.equal(ksampler(wires)["samples"], diverse(wires, variety=0.0)[0]["samples"])


def test_each_of_several_latents_in_one_grows() -> None:
    latent = {"samples": NestedTensor([torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8)])}
    grown = of_size(latent, 4)["samples"]
    assert [len(part) for part in grown.unbind()] == [4, 4]


@pytest.mark.parametrize("effort", ["set", "search"])
def test_a_compiled_model_has_the_efforts_without_a_gradient(wires: dict[str, Any], effort: str) -> None:
    set_torch_compile_wrapper(compiled := wires["model"].clone(), backend="eager")
    latent, _, noise = diverse(wires | {"model": compiled}, effort=effort)
    assert torch.equal(advanced(wires | {"model": compiled}, noise), latent["samples"])
    with pytest.raises(ValueError, match="in Diverse Sampler set effort to search"):
        diverse(wires | {"model": compiled}, effort="quick")


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_video_latent_is_taken(wires: dict[str, Any], effort: str) -> None:
    row = tiny_models.Architecture("WAN21_T2V", video_models.WAN, video_models.VIDEO)
    prompt = tiny_models.conditioning(row)
    wires |= {"model": tiny_models.model(row), "positive": prompt, "negative": prompt}
    wires["latent_image"] = {"samples": torch.zeros(2, *row.latent)}
    assert torch.equal(diverse(wires, variety=0.0)[0]["samples"], ksampler(wires)["samples"])
    latent, _, noise = diverse(wires, effort=effort)
    assert torch.equal(advanced(wires, noise), latent["samples"])


def test_where_memory_is_too_small_it_names_its_own_widgets(wires: dict[str, Any]) -> None:
    def full(latents: Tensor, n: int) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    otherwise = "set at_once to fewer pictures, or lower the size of latent_image, or set effort to search."
    for memory, said in (
        ("auto", f"Out of memory with 2 pictures at once of latent size 8 x 8, even with memory low: {otherwise}"),
        ("fast", f"with memory fast: set memory to auto or low, or {otherwise}"),
    ):
        with pytest.raises(torch.OutOfMemoryError) as error:
            diverse(wires, objective=Told(by=full), memory=memory)
        assert str(error.value).endswith(said)
