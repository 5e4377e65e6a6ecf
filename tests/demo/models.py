"""The shipped demo as plain torch: what the nodes load, for training, evaluation and tests without a host's session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import here  # noqa: F401
import torch
from networks import CHANNELS, LATENT_SCALE, LATENT_SHIFT, Autoencoder, Flow, Prompts, flux
from safetensors.torch import load_file
from sampling import euler, guided
from torch import Tensor

from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.features.demo import DemoFeatures, Tower, load_tower

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "demo"
STUDENT_STEPS, TEACHER_STEPS = 4, 20
SHAPE = (CHANNELS, 8, 8)


@dataclass
class Demo:
    """A flow model with its prompts and decoder, in float32 and frozen."""

    model: Flow
    prompts: Prompts
    decoder: Autoencoder

    def sample(
        self, noise: Tensor, rows: Tensor, steps: int = STUDENT_STEPS, guidance: float = 1.0, until: int | None = None
    ) -> Batch:
        """Noise (B, *SHAPE) and prompt numbers (B,) -> latents in the host's units and pictures, differentiable.

        until: after how many steps to stop and take what the model then predicts; None: after all of them.
        """
        velocity, sigmas = guided(self.model, self.prompts, rows, guidance), torch.linspace(1, 0, steps + 1)
        if until is not None and until < steps:
            sigmas = torch.cat([sigmas[:until], sigmas.new_zeros(1)])  # a prediction is a step to zero
        x = euler(velocity, noise, sigmas)
        return Batch(x / LATENT_SCALE + LATENT_SHIFT, self.decoder.decode(x).clamp(0, 1))


def load(name: str = "student", folder: Path = ASSETS) -> Demo:
    """name: "student" or "teacher"."""
    state = load_file(folder / "prompts.safetensors")
    prompts = Prompts(len(state["pooled"]) - 1)
    model, decoder = flux(), Autoencoder.from_export(load_file(folder / "vae.safetensors"))
    decoder = decoder.to(memory_format=torch.channels_last)
    model.load_state_dict({key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()})
    prompts.load_state_dict({key: value.float() for key, value in state.items()})
    for part in (model, prompts, decoder):
        part.eval().requires_grad_(False)
    return Demo(model, prompts, decoder)


def features() -> DemoFeatures:
    return DemoFeatures(load_tower(ASSETS / "features.safetensors"), chunk=256)


def score() -> Tower:
    return load_tower(ASSETS / "score.safetensors", 8)
