"""Graphs in ComfyUI's API format, over the test-only tiny nodes."""

from __future__ import annotations

from typing import Any


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node of a graph; a wire is `[node id, output index]`."""
    return {"class_type": class_type, "inputs": inputs}


def sampler_graph(architecture: str = "flux_schnell", seed: int = 0, batch: int = 1, steps: int = 2) -> dict:
    """A plain graph: noise, guider, sampler and sigmas into SamplerCustomAdvanced, decoded and saved."""
    channels = 16 if architecture.startswith("flux") else 4
    return {
        "model": node("TinyModel", architecture=architecture),
        "conditioning": node("TinyConditioning", architecture=architecture, seed=0, batch=1),
        "vae": node("TinyVAE", channels=channels),
        "latent_image": node("TinyLatent", architecture=architecture, height=8, width=8, batch=batch),
        "noise": node("RandomNoise", noise_seed=seed),
        "guider": node("BasicGuider", model=["model", 0], conditioning=["conditioning", 0]),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="simple", steps=steps, denoise=1.0),
        "sample": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent_image", 0],
        ),
        "latent": node("SaveLatent", samples=["sample", 0], filename_prefix="latents/test"),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="test"),
    }
