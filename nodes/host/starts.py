"""A model whose sampling runs start from other noise, whatever sampler, node or pack begins them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import comfy.utils
from comfy.patcher_extension import WrappersMP
from torch import Tensor

Remake: TypeAlias = Callable[[Tensor, int, int], Tensor]
KEY = "noise_optimize.starts"


def starting_from(model: Any, remake: Remake) -> Any:
    """The model with `remake(noise, seed, part)` in place of the noise (B, C, ...) of each run that starts from noise.

    part: 0 for the picture or video, 1 for the sound beside it. Other runs are the host's, bit for bit. Where a model
    has such noise already, the new one takes its place.
    """
    model = model.clone()
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)

    def run(
        executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *others: Any, **named: Any
    ) -> Any:
        mask, seed = others[0], others[3]
        if mask is None and from_full_noise(executor.class_obj.model_patcher, noise, latent, sigmas):
            noise = remade(noise, remake, seed, named.get("latent_shapes") or [noise.shape])
        return executor(noise, latent, sampler, sigmas, *others, **named)

    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, run)
    return model


def starts_elsewhere(model: Any) -> bool:
    """Whether `starting_from` made this model."""
    return bool(model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY))


def from_full_noise(model: Any, noise: Tensor, latent: Tensor, sigmas: Tensor) -> bool:
    """Whether a run makes its picture from noise alone: it adds some, to nothing, or so much that nothing else is left.

    A second pass, image to image, and the later half of a split schedule are none.
    """
    highest, first = float(model.get_model_object("model_sampling").sigma_max), float(sigmas[0])
    full = first > highest or math.isclose(first, highest, rel_tol=1e-5)  # as the host's samplers see it
    return bool(noise.any()) and (full or first > 0 and bool((latent == latent.flatten()[0]).all()))


def remade(noise: Tensor, remake: Remake, seed: int | None, shapes: list[Any]) -> Tensor:
    """The noise, each of its parts remade; several lie in one row where a latent is a video with sound."""
    seed = 0 if seed is None else seed
    if len(shapes) == 1:
        return remake(noise, seed, 0)
    parts = comfy.utils.unpack_latents(noise, shapes)
    packed, _ = comfy.utils.pack_latents([remake(part, seed, number) for number, part in enumerate(parts)])
    return packed
