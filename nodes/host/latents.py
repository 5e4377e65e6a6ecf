"""LATENTs as the host's models and samplers take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import comfy.nested_tensor
import comfy.sample
import torch
from torch import Tensor

from .version import too_old


def fitted(model: Any, latent: dict[str, Any]) -> Any:
    """The samples of a LATENT; those of an empty one with the channels and the size that the model needs."""
    if why := too_old():
        raise RuntimeError(why)
    ratios = (latent.get(f"downscale_ratio_{axis}") for axis in ("spacial", "temporal"))
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratios)


def nested(tensors: Iterable[Tensor]) -> Any:
    """Several latents in one, such as a video and its sound."""
    return comfy.nested_tensor.NestedTensor(tensors)


def starting_latent(model: Any, noise: Tensor, image: Tensor) -> Tensor:
    """The latent from which a sampler that adds no noise starts at full noise, as one that adds `noise` to `image`."""
    sampling = model.get_model_object("model_sampling")
    to_model: Callable[[Tensor], Tensor] = model.get_model_object("process_latent_in")
    from_model: Callable[[Tensor], Tensor] = model.get_model_object("process_latent_out")
    sigma = torch.as_tensor(sampling.sigma_max).float().cpu()
    kept = sampling.noise_scaling(sigma, torch.zeros(1), torch.ones(1), max_denoise=True)
    if not kept > 0:
        raise ValueError(
            "model is a flow model, which ignores latent_image at full noise; "
            "leave model unwired and use noise with SamplerCustomAdvanced."
        )
    image = to_model(image.cpu()) if image.any() else torch.zeros_like(noise)  # an empty one has the size of the noise
    return from_model(sampling.noise_scaling(sigma, noise.clone(), image, max_denoise=True) / kept)
