"""A model whose runs start from other noise: in every core sampler node, and only where a run starts from noise."""

from __future__ import annotations

from typing import Any

import comfy.utils
import comfy_extras.nodes_custom_sampler as custom
import comfy_extras.nodes_model_advanced
import nodes
import pytest
import tiny_models
import tiny_quantised
import torch
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from torch import Tensor

from noise_optimize.nodes.host.starts import remade, starting_from, starts_elsewhere

SEED, STEPS, BATCH = 11, 4, 2
MODELS = ("sdxl", "flux_schnell")


def remake(noise: Tensor, seed: int, part: int) -> Tensor:
    """Far from what came in, and another for each seed and part."""
    return noise.flip(-1) + seed / 100 + part


class Given:
    """NOISE: what comes out of `remake` for a seed's noise, as one would wire it without the model's help."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        return remake(custom.Noise_RandomNoise(self.seed).generate_noise(latent), self.seed, 0)


class Wires:
    """The wires of a graph with a tiny model."""

    def __init__(self, name: str) -> None:
        self.model = tiny_models.model(name)
        self.prompt, self.other = (tiny_models.conditioning(name, seed) for seed in (1, 2))
        empty = torch.zeros(BATCH, *tiny_models.ARCHITECTURES[name].latent)
        self.empty = {"samples": empty}
        self.picture = {"samples": torch.randn(empty.shape, generator=tiny_models.generator())}

    def ksampler(self, model: Any, latent: dict[str, Any], **changed: Any) -> Tensor:
        settings = {"scheduler": "simple", "denoise": 1.0, "steps": STEPS, **changed}
        (out,) = nodes.KSampler().sample(
            model, SEED, settings["steps"], 1.0, "euler", settings["scheduler"], self.prompt, self.other, latent,
            settings["denoise"],
        )  # fmt: skip
        return out["samples"]

    def advanced(
        self, model: Any, latent: dict[str, Any], add: str = "enable", start: int = 0, end: int = 99
    ) -> Tensor:
        (out,) = nodes.KSamplerAdvanced().sample(
            model, add, SEED, STEPS, 1.0, "euler", "simple", self.prompt, self.other, latent, start, end, "enable"
        )
        return out["samples"]

    def sampler_custom(self, model: Any, latent: dict[str, Any], sigmas: Tensor) -> Tensor:
        euler = custom.KSamplerSelect.execute("euler")[0]
        return custom.SamplerCustom.execute(
            model, True, SEED, 1.0, self.prompt, self.other, euler, sigmas, latent
        )[0]["samples"]  # fmt: skip

    def sampler_custom_advanced(self, model: Any, latent: dict[str, Any], sigmas: Tensor, noise: Any) -> Tensor:
        guider = custom.BasicGuider.execute(model, self.prompt)[0]
        euler = custom.KSamplerSelect.execute("euler")[0]
        return custom.SamplerCustomAdvanced.execute(noise, guider, euler, sigmas, latent)[0]["samples"]

    def sigmas(self, denoise: float = 1.0) -> Tensor:
        return custom.BasicScheduler.execute(self.model, "simple", STEPS, denoise)[0]


@pytest.fixture(params=MODELS)
def wires(request: pytest.FixtureRequest) -> Wires:
    return Wires(request.param)


def test_every_core_sampler_starts_from_the_noise_that_is_made(wires: Wires) -> None:
    model, sigmas = starting_from(wires.model, remake), wires.sigmas()
    wanted = wires.sampler_custom_advanced(wires.model, wires.empty, sigmas, Given(SEED))
    plain = wires.sampler_custom_advanced(wires.model, wires.empty, sigmas, custom.Noise_RandomNoise(SEED))
    assert not torch.allclose(wanted, plain, atol=0.1)
    for found in (
        wires.ksampler(model, wires.empty),
        wires.advanced(model, wires.empty),
        wires.sampler_custom(model, wires.empty, sigmas),
        wires.sampler_custom_advanced(model, wires.empty, sigmas, custom.Noise_RandomNoise(SEED)),
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("scheduler", ["karras", "sgm_uniform", "ddim_uniform", "beta", "normal"])
def test_every_scheduler_of_a_whole_run_counts_as_full_noise(wires: Wires, scheduler: str) -> None:
    model = starting_from(wires.model, remake)
    plain, other = (wires.ksampler(each, wires.empty, scheduler=scheduler) for each in (wires.model, model))
    assert not torch.allclose(plain, other, atol=0.1)


@pytest.mark.parametrize("case", ["denoise", "mask", "later half", "no noise"])
def test_a_run_that_goes_on_with_a_picture_is_the_hosts_bit_for_bit(wires: Wires, case: str) -> None:
    def run(model: Any) -> Tensor:
        if case == "denoise":
            return wires.ksampler(model, wires.picture, denoise=0.5)
        if case == "mask":
            mask = torch.zeros(1, *wires.picture["samples"].shape[-2:])
            mask[..., :4] = 1.0
            return wires.ksampler(model, {**wires.picture, "noise_mask": mask})
        if case == "later half":
            return wires.advanced(model, wires.picture, start=2)
        return wires.advanced(model, wires.picture, add="disable")

    assert torch.equal(run(starting_from(wires.model, remake)), run(wires.model))


def test_the_later_half_goes_on_from_a_first_half_that_was_made(wires: Wires) -> None:
    model = starting_from(wires.model, remake)
    first = wires.advanced(model, wires.empty, end=2)
    whole = wires.advanced(model, {"samples": first}, add="disable", start=2)
    assert not torch.allclose(first, wires.advanced(wires.model, wires.empty, end=2), atol=0.1)
    assert torch.equal(whole, wires.advanced(wires.model, {"samples": first}, add="disable", start=2))


def test_it_stands_in_a_chain_with_other_patches_in_any_order(wires: Wires) -> None:
    sampling = comfy_extras.nodes_model_advanced.ModelSamplingAuraFlow if "flux" in repr(wires.model.model) else None

    def other(model: Any) -> Any:
        if sampling is not None:
            (model,) = sampling().patch_aura(model, 3.0)
        model = model.clone()
        model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.9)
        model.add_wrapper_with_key(
            WrappersMP.OUTER_SAMPLE, "other", lambda run, noise, *rest, **named: run(noise, *rest, **named)
        )
        return model

    before, after = other(starting_from(wires.model, remake)), starting_from(other(wires.model), remake)
    wanted = wires.ksampler(other(wires.model), wires.empty)
    assert torch.equal(wires.ksampler(before, wires.empty), wires.ksampler(after, wires.empty))
    assert not torch.allclose(wires.ksampler(before, wires.empty), wanted, atol=0.1)


def test_the_last_one_in_a_chain_counts_and_the_model_wired_in_stays_as_it_was(wires: Wires) -> None:
    twice = starting_from(starting_from(wires.model, lambda noise, seed, part: noise * 0.5), remake)
    assert torch.equal(
        wires.ksampler(twice, wires.empty), wires.ksampler(starting_from(wires.model, remake), wires.empty)
    )
    assert starts_elsewhere(twice) and not starts_elsewhere(wires.model)


class LoaderOfAnotherPack(ModelPatcher):
    """MODEL of a class that a pack made for its own files, as GGUF's is."""


def stored_small(kind: str) -> ModelPatcher:
    """A tiny FLUX as people load it to save memory or time."""
    if kind in tiny_quantised.FORMATS:
        return tiny_quantised.model("flux_schnell", kind)
    whole = tiny_models.model("flux_schnell")
    if kind == "compiled":
        set_torch_compile_wrapper(whole := whole.clone(), backend="eager")
        return whole
    return LoaderOfAnotherPack(whole.model, whole.load_device, whole.offload_device)


@pytest.mark.parametrize("kind", [*tiny_quantised.FORMATS, "compiled", "another pack's"])
@torch.inference_mode()
def test_models_that_are_quantised_compiled_or_of_another_pack_start_there_too(kind: str) -> None:
    wires = Wires("flux_schnell")
    wires.model = stored_small(kind)
    model = starting_from(wires.model, remake)
    assert type(model) is type(wires.model)
    wanted = wires.sampler_custom_advanced(wires.model, wires.empty, wires.sigmas(), Given(SEED))
    assert torch.equal(wires.ksampler(model, wires.empty), wanted)
    assert not torch.allclose(wires.ksampler(wires.model, wires.empty), wanted, atol=0.1)


def test_each_part_of_a_video_with_sound_is_made_by_itself() -> None:
    picture, sound = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 7)
    packed = NestedTensor((picture, sound))
    flat, shapes = comfy.utils.pack_latents(packed.unbind())
    made = comfy.utils.unpack_latents(remade(flat, remake, 3, shapes), shapes)
    assert torch.equal(made[0], remake(picture, 3, 0)) and torch.equal(made[1], remake(sound, 3, 1))
