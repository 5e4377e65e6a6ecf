"""KSampler of the host: what it samples with, and one run of it from any noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from .wires import guider_of


@dataclass(frozen=True)
class KSampler:
    """The wires and widgets of a KSampler, but for its seed and its latent."""

    model: Any
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    positive: Any
    negative: Any
    denoise: float = 1.0

    def guider(self) -> Any:
        """Its model and prompts, as a GUIDER."""
        return guider_of(self.model, self.positive, self.negative, self.cfg)

    def sampler(self) -> Any:
        """Its SAMPLER."""
        return comfy.samplers.sampler_object(self.sampler_name)

    def sigmas(self) -> Tensor:
        """Its SIGMAS: those of the last steps of a longer schedule where denoise is below 1, none where it is 0."""
        made = comfy.samplers.KSampler(
            self.model, self.steps, self.model.load_device, self.sampler_name, self.scheduler, self.denoise
        )
        return made.sigmas.cpu()

    def sampled(self, samples: Any, noise: Any, seed: int, mask: Tensor | None) -> Any:
        """What KSampler makes of samples that are `fitted`, shown as it goes, as KSampler shows it. mask: as a LATENT
        has it. seed: of the noise that a sampler adds itself."""
        return comfy.sample.sample(
            self.model,
            noise,
            self.steps,
            self.cfg,
            self.sampler_name,
            self.scheduler,
            self.positive,
            self.negative,
            samples,
            denoise=self.denoise,
            noise_mask=mask,
            callback=latent_preview.prepare_callback(self.model, self.steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
