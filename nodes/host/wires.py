"""What a session takes: SAMPLERs with settings for their gradient, and the checks of wires and latents."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import comfy.k_diffusion.deis
import comfy.model_base
import comfy.model_patcher
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import Guider_Basic
from torch import Tensor

from .latents import fitted
from .memory import MEMORY
from .starts import starts_elsewhere

REFUSED = {
    "sample_dpm_adaptive": "dpm_adaptive chooses its steps by looking at the picture",
    "sample_ar_video": "ar_video keeps a cache from step to step",
}
GRADIENT_FREE = (
    "or use what needs no gradient: in Noise Optimize set optimizer to cma, in Diverse Sampler set effort to search."
)


def guider_of(model: Any, positive: Any, negative: Any = None, cfg: float = 1.0) -> Any:
    """What a CFG Guider gives for these wires; without a negative, what a Basic Guider gives."""
    if negative is None:
        guider = Guider_Basic(model)
        guider.set_conds(positive)
    else:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
    return guider


def refuse_wires(guider: Any, sigmas: Tensor) -> None:
    if getattr(guider, "model_patcher", None) is None or not hasattr(guider, "original_conds"):
        raise ValueError(f"guider: a {type(guider).__name__} cannot be used; wire a Basic, CFG or Dual CFG Guider.")
    if starts_elsewhere(guider.model_patcher):
        raise ValueError(
            "guider: its model carries Diverse Seeds, which would put other noise in place of what is found: take "
            "Diverse Seeds off the model wire and wire Noise Set to noise."
        )
    if len(sigmas) < 2:
        raise ValueError("sigmas holds no step to take: raise steps, or denoise above 0, in the scheduler.")
    if not sigmas[0] > 0:
        raise ValueError(f"sigmas begins at {float(sigmas[0]):g}, where no noise goes in: wire a scheduler as it is.")


def refuse_gradient(guider: Any, sampler: Any) -> None:
    patcher = guider.model_patcher
    if cache := guider.model_options.get("transformer_options", {}).get("easycache"):
        raise ValueError(
            f"{cache.name} leaves out steps by looking at the picture, so the model has no exact gradient: take "
            f"{cache.name} off the model wire here (the noise that is found works with it, too), {GRADIENT_FREE}"
        )
    if patcher.get_additional_models_with_key("multigpu"):
        raise ValueError(f"The model is spread over several GPUs: remove MultiGPU Work Units, {GRADIENT_FREE}")
    compiled = patcher.get_wrappers(WrappersMP.APPLY_MODEL, "torch.compile")
    if compiled or any(hasattr(m, "_orig_mod") for m in patcher.model.modules()):
        raise ValueError(
            f"The model is compiled, so it has no exact gradient: remove TorchCompileModel, {GRADIENT_FREE}"
        )
    if getattr(sampler, "extra_options", {}).get("upscale_method") == "bislerp":
        raise ValueError(
            "sampler enlarges by bislerp, whose derivative is not finite: set its upscale_method to bilinear, "
            f"{GRADIENT_FREE}"
        )
    if reason := REFUSED.get(sampler_name(sampler)):
        raise ValueError(f"{reason}, so it has no exact gradient: wire another sampler, {GRADIENT_FREE}")
    if not starts_from_noise(patcher.get_model_object("model_sampling")):
        raise ValueError("The model starts from latent_image and never sees the noise: wire another model.")


def starts_from_noise(model_sampling: Any) -> bool:
    """Whether a model mixes noise into what it starts from; one that segments a video does not."""
    with torch.enable_grad():
        noise = torch.ones(1, 1, 1, 1, requires_grad=True)
        return model_sampling.noise_scaling(torch.ones(1), noise, torch.zeros(1, 1, 1, 1), True).requires_grad


def refuse_parts(guider: Any) -> None:
    if one_video(guider.model_patcher.model):
        raise ValueError(
            "The model makes one video of the batch of latent_image, so that no picture of it can be made apart: raise "
            "the batch to the whole set, or wire another model."
        )


def one_video(model: Any) -> bool:
    """Whether the host's model takes the batch for the frames of one video, as Stable Video and SV3D do."""
    return isinstance(model, comfy.model_base.SVD_img2vid)


def latent_image(guider: Any, latent: dict[str, Any]) -> Tensor:
    samples = latent["samples"]
    if samples.is_nested:
        raise ValueError("latent_image holds several latents in one (picture and sound); wire a latent of pictures.")
    samples = fitted(guider.model_patcher, latent)
    wanted = guider.model_patcher.get_model_object("latent_format")
    if samples.ndim - 2 != wanted.latent_dimensions:
        raise ValueError(
            f"latent_image has {samples.ndim - 2} dimensions and this model needs {wanted.latent_dimensions} "
            "(1: sound, 2: pictures, 3: video); wire a latent of its kind."
        )
    channels = wanted.latent_channels
    if samples.shape[1] != channels:
        raise ValueError(
            f"latent_image has {samples.shape[1]} channels and this model needs {channels}: "
            "encode it with the VAE of this model, or wire an empty latent."
        )
    return samples


def refuse_vae(vae: Any, samples: Tensor) -> None:
    """A VAE of another family than the latents (B, C, ...), as far as channels and dimensions tell."""
    channels, dimensions = getattr(vae, "latent_channels", samples.shape[1]), getattr(vae, "latent_dim", 2)
    if channels != samples.shape[1] or dimensions > samples.ndim - 2:
        raise ValueError(
            f"vae is of another family than the model: it decodes latents of {channels} channels in {dimensions} "
            f"dimensions, and these have {samples.shape[1]} in {samples.ndim - 2}; wire the VAE of this model."
        )


def resident(patcher: Any) -> Any:
    """The patcher, or its twin that loads weights as ordinary tensors where the host would page them in and out."""
    return patcher.get_non_dynamic_delegate() if patcher.is_dynamic() else patcher


def patchers_of(guider: Any) -> dict[str, Any]:
    """The ModelPatchers of a guider, by the names of its attributes: one, or more for guidance by another model."""
    return {name: value for name, value in vars(guider).items() if isinstance(value, comfy.model_patcher.ModelPatcher)}


def deis_coefficients(*args: Any, **kwargs: Any) -> Any:
    """Coefficients from sigmas alone; the host computes them by a derivative of its own, whose graph must not leak."""
    with torch.no_grad():
        return comfy.k_diffusion.deis.get_deis_coeff_list(*args, **kwargs)


def sampler_name(sampler: Any) -> str:
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", type(sampler).__name__)
    return {"dpm_adaptive_function": "sample_dpm_adaptive"}.get(name, name)


def through(sampler: Any, run: Callable[..., Tensor]) -> Any:
    """The SAMPLER whose `sample(...)` is run(sample, ...)."""
    copied = copy.copy(sampler)
    copied.sample = functools.partial(run, copied.sample)
    return copied


class DifferentiableSampler(comfy.samplers.Sampler):
    """A SAMPLER with settings for its gradient; it samples exactly as the one it wraps."""

    def __init__(self, sampler: comfy.samplers.Sampler, memory: str = "auto", gradient_steps: int = 0) -> None:
        if memory not in MEMORY:
            raise ValueError(f"memory is {memory!r}; choose one of {', '.join(MEMORY)}.")
        if gradient_steps < 0:
            raise ValueError(f"gradient_steps is {gradient_steps}; set 0 for all steps, or how many of the last ones.")
        self.sampler: Any = sampler.sampler if isinstance(sampler, DifferentiableSampler) else sampler
        self.memory, self.gradient_steps = memory, gradient_steps

    @classmethod
    def of(cls, sampler: Any, memory: str = "auto", gradient_steps: int = 0) -> DifferentiableSampler:
        """The SAMPLER itself where it has settings of its own, else with these."""
        return sampler if isinstance(sampler, cls) else cls(sampler, memory, gradient_steps)

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.sampler.sample(*args, **kwargs)

    def max_denoise(self, *args: Any) -> bool:
        return self.sampler.max_denoise(*args)
