"""A SAMPLER, to be tried with a formula in place of the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from torch import Tensor

FAILED = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)  # of what is only tried


@dataclass(frozen=True)
class Trial:
    """A SAMPLER and what it is given in a run: noise (B, C, ...), latent and mask, and what `sample` takes beside.

    start: puts torch's random state where a run finds it. formula(x, sigma): the prediction with the prompt.
    """

    sampler: Any
    guider: Any
    sigmas: Tensor
    extra_args: dict[str, Any]
    noise: Tensor
    latent: Tensor
    mask: Tensor | None
    start: Callable[[], None]
    formula: Callable[[Tensor, Tensor], Tensor] = lambda x, sigma: torch.sin(x)

    def __call__(
        self, noise: Tensor, latent: Tensor, mask: Tensor | None, sigmas: Tensor | None = None, sampler: Any = None
    ) -> Tensor:
        """What the sampler, or another, makes of these with the formula; functions that it sets itself are called."""
        self.start()
        options = {k: v for k, v in self.extra_args["model_options"].items() if not k.startswith("sampler_")}
        own = self.extra_args | {"model_options": comfy.model_patcher.create_model_options_clone(options)}
        guider = copy.copy(self.guider)
        guider.outer_predict_noise = self.predict
        sigmas = self.sigmas if sigmas is None else sigmas
        return (sampler or self.sampler).sample(guider, sigmas.clone(), own, unheard, noise, latent, mask, True)

    def predict(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> Tensor:
        prompted = self.formula(x, timestep.reshape(-1, *(1,) * (x.ndim - 1)))
        model, scale = self.guider.inner_model, getattr(self.guider, "cfg", 1.0)
        return comfy.samplers.cfg_function(model, prompted, 0.5 * prompted, scale, x, timestep, model_options or {})


def unheard(*step: Any) -> None:
    """What is called after each step: samplers of other packs may call it without asking whether there is one."""
