"""Pink Noise and Noise to Latent, and the NOISE objects of this pack."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..noise.coloured import ALPHA_LIMIT, SPECTRA, Spectrum
from . import host
from .latents import ColouredNoise, filled, joined, noise_for, parts
from .node import Node


class PinkNoise(Node):
    """White noise with more or less of the low frequencies."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizePinkNoise",
            display_name="Pink Noise",
            category="noise optimize/noise",
            description=(
                "Starting noise with a chosen spectrum. Pink noise has more of the low frequencies that decide the "
                "composition. Published: seeds differ more on large few-step models; on the demo model hardly. With "
                "alpha 0 it is exactly Random Noise."
            ),
            search_aliases=["coloured noise", "colored noise", "blue noise", "1/f noise", "random noise", "spectrum"],
            inputs=[
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the white noise that is colored: the same as in Random Noise.",
                ),
                io.Float.Input(
                    "alpha",
                    default=0.2,
                    min=-ALPHA_LIMIT,
                    max=ALPHA_LIMIT,
                    step=0.01,
                    tooltip="Above 0 pink, 0 white, below 0 blue. 0.2 is safe; above 0.3 pictures turn patchy.",
                ),
                io.Combo.Input(
                    "spectrum",
                    options=list(SPECTRA),
                    default="paper",
                    tooltip=(
                        "paper: amplitude 1 / (1 + f)^alpha, f in cycles per side. power law: power 1 / f^alpha. "
                        "band: the paper's form between low and high, nothing outside."
                    ),
                ),
                io.Float.Input(
                    "low",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Lower edge of the band: 0 is the coarsest, 1 the finest detail of the latent.",
                ),
                io.Float.Input(
                    "high",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Upper edge of the band: 0 is the coarsest, 1 the finest detail of the latent.",
                ),
                io.Boolean.Input(
                    "time",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Video: filter along time as well, so that neighboring frames share their noise.",
                ),
            ],
            outputs=[io.Noise.Output(tooltip="For any sampler that takes NOISE, and for Noise Optimize.")],
        )

    @classmethod
    def execute(
        cls, seed: int, alpha: float, spectrum: str, low: float = 0.0, high: float = 0.5, time: bool = False
    ) -> io.NodeOutput:
        return io.NodeOutput(ColouredNoise(seed, Spectrum(spectrum, alpha, low, high, time)))


class NoiseToLatent(Node):
    """Noise as the LATENT that KSampler (Advanced) starts from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeNoiseToLatent",
            display_name="Noise to Latent",
            category="noise optimize/noise",
            description=(
                "Any noise as a latent. With a model wired, it is scaled so that KSampler (Advanced) with add_noise "
                "off starts from this noise; without one it is the noise itself."
            ),
            search_aliases=["noisy latent", "noise latent", "latent noise", "inject noise"],
            inputs=[
                io.Noise.Input("noise", tooltip="Noise from Pink Noise, Noise Optimize, Load Noise or Random Noise."),
                io.Latent.Input(
                    "latent_image", tooltip="The latent that gives size and batch; a picture in it is kept."
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "The model of KSampler (Advanced). Flow models (FLUX, SD 3, Qwen-Image, Wan) cannot start from "
                        "a latent: use their noise with SamplerCustomAdvanced."
                    ),
                ),
            ],
            outputs=[io.Latent.Output(tooltip="For KSampler (Advanced) with add_noise off, from step 0.")],
        )

    @classmethod
    def execute(cls, noise: Any, latent_image: dict[str, Any], model: Any = None) -> io.NodeOutput:
        image = latent_image["samples"]
        if model is not None:
            image = host.fitted(model, latent_image)
        samples = noise_for(noise, filled(latent_image, image))
        if model is not None:
            starts = [host.starting_latent(model, z, x) for z, x in zip(parts(samples), parts(image))]
            samples = joined(starts, samples)
        return io.NodeOutput(filled(latent_image, samples))


NODES = [PinkNoise, NoiseToLatent]
