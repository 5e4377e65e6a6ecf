"""Graphs in ComfyUI's API format, over the test-only tiny nodes."""

from __future__ import annotations

import re
from typing import Any

WIRES = ("noise", "guider", "sampler", "sigmas", "latent_image")
WIDGETS = {
    "iterations": 5,
    "learning_rate": 0.004,
    "optimizer": "sgd",
    "prior_weight": 4.0,
    "basis": "full",
    "clip": 0.1,
    "rollback": 0.1,
}
NO_TARGET = {"target": "none"}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node of a graph; a wire is `[node id, output index]`."""
    return {"class_type": class_type, "inputs": inputs}


def fresh(class_type: str, described: dict[str, Any]) -> dict[str, Any]:
    """A node with its required widgets as they are when it is added to a graph; KeyError where it needs a wire.

    described: what ComfyUI's /object_info tells of it.
    """

    def default(kind: Any, options: dict[str, Any]) -> Any:
        choices = kind if isinstance(kind, list) else options.get("options", ())
        first = choices[0] if choices else None
        return options["default"] if first is None or "default" in options else first

    widgets = described["input"].get("required", {})
    inputs = {name: default(kind, *(rest or [{}])) for name, (kind, *rest) in widgets.items() if name != "target"}
    return node(class_type, **inputs, **(NO_TARGET if "target" in widgets else {}))


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
        "sample": node("SamplerCustomAdvanced", **{name: [name, 0] for name in WIRES}),
        "latent": node("SaveLatent", samples=["sample", 0], filename_prefix="latents/test"),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="test"),
    }


def optimise_graph(architecture: str = "sdxl", **options: Any) -> dict:
    """What Noise Optimize takes, and nothing that runs: objectives and what is to run are added."""
    wires = sampler_graph(architecture, **options)
    for name in ("sample", "latent", "decode", "save"):
        wires.pop(name)
    return wires


def diversity(features: str, statistic: str = "dpp", output: int = 0) -> dict[str, Any]:
    inputs = {"features": [features, output], "statistic": statistic, "weight": 1.0}
    return node("NoiseOptimizeDiversity", **inputs, **NO_TARGET)


def optimise(objective: str, vae: bool = True, **widgets: Any) -> dict[str, Any]:
    """Noise Optimize on the wires of `optimise_graph`, with its defaults but for `widgets`."""
    inputs = {name: [name, 0] for name in WIRES} | WIDGETS | {"objective": [objective, 0]} | widgets
    return node("NoiseOptimize", **inputs, **({"vae": ["vae", 0]} if vae else {}))


def before_and_after(report: str) -> dict[str, tuple[float, float]]:
    """{score: (before, after)} of a report of Noise Optimize."""
    lines = re.findall(r"^(.+): (\S+) before, (\S+) after$", report, re.MULTILINE)
    return {name: (float(before), float(after)) for name, before, after in lines}
