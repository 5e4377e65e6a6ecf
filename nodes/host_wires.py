"""What a session checks and prepares before the host opens it: wires, latents, members of a set, random state."""

from __future__ import annotations

from typing import Any

import comfy.k_diffusion.deis
import comfy.sample
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .host_control import chain, pictures

REFUSED = {
    "sample_dpm_adaptive": "dpm_adaptive chooses its steps by looking at the picture",
    "sample_ar_video": "ar_video keeps a cache from step to step",
}
GRADIENT_FREE = "or set optimizer to cma in Noise Optimize, which needs no gradient."


def refuse_wires(guider: Any, sigmas: Tensor) -> None:
    if getattr(guider, "model_patcher", None) is None or not hasattr(guider, "original_conds"):
        raise ValueError(f"guider: a {type(guider).__name__} cannot be used; wire a Basic, CFG or Dual CFG Guider.")
    if len(sigmas) < 2:
        raise ValueError("sigmas holds no step to take: raise steps, or denoise above 0, in the scheduler.")


def refuse_gradient(patcher: Any, sampler: Any) -> None:
    if patcher.get_additional_models_with_key("multigpu"):
        raise ValueError(f"The model is spread over several GPUs: remove MultiGPU Work Units, {GRADIENT_FREE}")
    compiled = patcher.get_wrappers(WrappersMP.APPLY_MODEL, "torch.compile")
    if compiled or any(hasattr(m, "_orig_mod") for m in patcher.model.modules()):
        raise ValueError(
            f"The model is compiled, so it has no exact gradient: remove TorchCompileModel, {GRADIENT_FREE}"
        )
    if reason := REFUSED.get(sampler_name(sampler)):
        raise ValueError(f"{reason}, so it has no exact gradient: wire another sampler, {GRADIENT_FREE}")


def latent_image(guider: Any, latent: dict[str, Any]) -> Tensor:
    samples = latent["samples"]
    if samples.is_nested:
        raise ValueError("latent_image holds several latents in one (picture and sound); wire a latent of pictures.")
    ratios = (latent.get(f"downscale_ratio_{axis}") for axis in ("spacial", "temporal"))
    samples = comfy.sample.fix_empty_latent_channels(guider.model_patcher, samples, *ratios)
    channels = guider.model_patcher.get_model_object("latent_format").latent_channels
    if samples.shape[1] != channels:
        raise ValueError(
            f"latent_image has {samples.shape[1]} channels and this model needs {channels}: "
            "encode it with the VAE of this model, or wire an empty latent."
        )
    return samples


def resident(patcher: Any) -> Any:
    """The patcher, or its twin that loads weights as ordinary tensors where the host would page them in and out."""
    return patcher.get_non_dynamic_delegate() if patcher.is_dynamic() else patcher


def random_state(samples: Tensor, total: int, seed: int, batch_index: Any) -> dict[str, Tensor]:
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng():
        comfy.sample.prepare_noise(comfy.utils.repeat_to_batch_size(samples, total), seed, batch_index)
        return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if cuda else {})


def of_members(cond: dict[str, Any], indices: list[int], total: int) -> dict[str, Any]:
    """A conditioning of a set of total samples, for some of them: what differs per sample is picked."""
    if indices == list(range(total)):
        return dict(cond)
    if any(pictures(control) > 1 for control in chain(cond.get("control"))):
        raise ValueError("A ControlNet picture per sample needs the whole set at once; give ControlNet one picture.")

    def pick(value: Any, name: str = "") -> Any:
        if isinstance(value, list):
            return [pick(v) for v in value]
        batched = isinstance(value, Tensor) and value.ndim > (2 if name == "mask" else 1) and len(value) > 1
        return comfy.utils.repeat_to_batch_size(value, total)[indices] if batched else value

    return {name: pick(value, name) for name, value in cond.items()}


def mask_of_members(mask: Tensor | None, samples: Tensor, indices: list[int], total: int) -> Tensor | None:
    if mask is None or samples.ndim != 4 or indices == list(range(total)):
        return mask
    return comfy.utils.repeat_to_batch_size(mask.reshape(-1, 1, *mask.shape[-2:]), total)[indices]


def deis_coefficients(*args: Any, **kwargs: Any) -> Any:
    """Coefficients from sigmas alone; the host computes them by a derivative of its own, whose graph must not leak."""
    with torch.no_grad():
        return comfy.k_diffusion.deis.get_deis_coeff_list(*args, **kwargs)


def sampler_name(sampler: Any) -> str:
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", type(sampler).__name__)
    return {"dpm_adaptive_function": "sample_dpm_adaptive"}.get(name, name)
