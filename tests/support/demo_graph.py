"""The demo model in the place of a graph's big one, and everything small, so that any example runs in seconds."""

from __future__ import annotations

from typing import Any

from graph import NO_TARGET, node
from workflow import Graph

DEMO = "demo"
PROMPT = "a sailing boat"
MODEL, VAE, FEATURES = ([DEMO, output] for output in range(3))
# What a wire from a node of this type comes from instead: by its output.
INSTEAD = {
    "CheckpointLoaderSimple": {0: MODEL, 2: VAE},
    "UNETLoader": {0: MODEL},
    "VAELoader": {0: VAE},
    "NoiseOptimizeLoadDemo": {0: MODEL, 1: VAE, 2: FEATURES},
    "NoiseOptimizeDINOFeatures": {0: FEATURES},
}
GONE = {*INSTEAD, "CLIPLoader", "DualCLIPLoader", "LoraLoaderModelOnly"}
AT_MOST = {"width": 64, "height": 64, "batch_size": 2, "iterations": 1, "total_pictures": 3, "patterns": 4}
AT_MOST |= {"candidates": 4, "keep": 2}
EXACTLY = {"steps": 2}  # in one the demo draws nothing that could be told apart


def replaced(part: dict[str, Any]) -> dict[str, Any]:
    """A node of the demo that does what this one does for a big model, or the node itself."""
    match part["class_type"]:
        case "CLIPTextEncode":
            return node("NoiseOptimizeDemoPrompt", prompt=PROMPT)
        case "NoiseOptimizeCLIPScore":
            return node("NoiseOptimizeDemoScore", prompt=PROMPT, weight=1.0, **NO_TARGET)
        case "SDTurboScheduler":  # counts in the thousand steps of SDXL, which a flow model has not
            return node("BasicScheduler", **part["inputs"], scheduler="simple")
        case "EmptyFlux2LatentImage":
            return node("EmptyLatentImage", **part["inputs"])
    return part


def small(name: str, value: Any) -> Any:
    if isinstance(value, int):
        return EXACTLY.get(name, min(value, AT_MOST.get(name, value)))
    if isinstance(value, str) and "\n" in value:
        return "\n".join(value.splitlines()[:4])  # of a list of prompts
    return value


def with_demo(graph: Graph) -> Graph:
    """The same graph with the demo's model, VAE, features and score, two pictures of 64 x 64 and few steps."""

    def rewired(wire: Any) -> Any:
        if not isinstance(wire, list):
            return wire
        start = graph[wire[0]]
        if start["class_type"] == "LoraLoaderModelOnly":
            return rewired(start["inputs"]["model"])
        return INSTEAD.get(start["class_type"], {}).get(wire[1], wire)

    made = {DEMO: node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)")}
    for name, part in graph.items():
        if part["class_type"] not in GONE:
            part = replaced(part)
            inputs = {socket: small(socket, rewired(value)) for socket, value in part["inputs"].items()}
            made[name] = {"class_type": part["class_type"], "inputs": inputs}
    return made
