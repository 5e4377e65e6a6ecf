"""Any text-to-image graph in ComfyUI's API format: what its sampler takes, and where its prompt is written."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]
Wire = list[Any]
TEXTS = ("text", "prompt", "clip_l", "t5xxl", "text_g", "text_l")  # widgets of text encode nodes
SAMPLERS = ("SamplerCustomAdvanced", "SamplerCustom", "KSampler")


class GraphError(ValueError):
    """What a graph lacks, in one sentence that says what to change."""


def read(file: Path) -> Graph:
    """GraphError where the file has something else, as a workflow that was saved and not exported."""
    graph = json.loads(file.read_text(encoding="utf-8"))
    parts = graph.values() if isinstance(graph, dict) else [graph]
    if not all(isinstance(part, dict) and "class_type" in part for part in parts):
        raise GraphError(f"{file} is no graph in API format: write it by File, Export (API).")
    return graph


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """One node of a graph; a wire is `[node id, output index]`."""
    return {"class_type": kind, "inputs": inputs}


def behind(graph: Graph, wire: Any) -> list[str]:
    """The nodes that a wire comes from, nearest first."""
    found: list[str] = []
    waiting = [wire]
    while waiting:
        wire = waiting.pop(0)
        if isinstance(wire, list) and wire[0] in graph and wire[0] not in found:
            found.append(wire[0])
            waiting += graph[wire[0]]["inputs"].values()
    return found


def pruned(graph: Graph, ends: list[str]) -> Graph:
    """Only what these nodes need."""
    wanted = {name for end in ends for name in behind(graph, [end, 0])}
    return {name: part for name, part in graph.items() if name in wanted}


def encoder(graph: Graph, conditioning: Any) -> str:
    """The node in which the prompt of a conditioning is written."""
    for name in behind(graph, conditioning):
        if written(graph[name]):
            return name
    raise GraphError(
        "No node behind the conditioning has its prompt in a widget: write the prompt there, export again."
    )


def written(part: dict[str, Any]) -> list[str]:
    """The widgets of a node that hold a prompt."""
    return [name for name in TEXTS if isinstance(part["inputs"].get(name), str)]


def sampler(graph: Graph) -> tuple[str, dict[str, Any]]:
    """Class and inputs of the node that samples."""
    for kind in SAMPLERS:
        for part in graph.values():
            if part["class_type"] == kind:
                return kind, part["inputs"]
    raise GraphError(f"The graph has none of {', '.join(SAMPLERS)}: export one that has.")


def decoders(graph: Graph) -> list[Wire]:
    """The VAE of each node that decodes."""
    return [part["inputs"]["vae"] for part in graph.values() if part["class_type"].startswith("VAEDecode")]


def latent_of(graph: Graph, latent_image: Wire, size: int | None) -> dict[str, Any]:
    """The widgets of the node that makes the latent, once its pictures are of this size; None: as it is."""
    latent = graph[latent_image[0]]["inputs"]
    if size:
        latent |= {name: size for name in ("width", "height") if name in latent}
    return latent


def wires(graph: Graph) -> dict[str, Any]:
    """What Find Noise Set takes, from the sampler of a graph; nodes that it needs beside are added to the graph."""
    kind, given = sampler(graph)
    if kind == "SamplerCustomAdvanced":
        guider = graph[given["guider"][0]]["inputs"]
        if "model" not in guider or not {"conditioning", "positive"} & guider.keys():
            raise GraphError("The guider has no model, or not one prompt: use BasicGuider or CFGGuider.")
        found = {name: given[name] for name in ("sampler", "sigmas", "latent_image")} | {"model": guider["model"]}
        if "positive" not in guider:
            return found | {"conditioning": guider["conditioning"], "cfg": 1.0}
        return found | {"conditioning": guider["positive"], "negative": guider["negative"], "cfg": guider["cfg"]}
    found = {"latent_image": given["latent_image"], "model": given["model"]}
    if kind == "KSampler":
        graph["sampler of set"] = node("KSamplerSelect", sampler_name=given["sampler_name"])
        graph["sigmas of set"] = node(
            "BasicScheduler", model=given["model"], scheduler=given["scheduler"], steps=given["steps"], denoise=1.0
        )
        found |= {"sampler": ["sampler of set", 0], "sigmas": ["sigmas of set", 0]}
    else:
        found |= {"sampler": given["sampler"], "sigmas": given["sigmas"]}
    found |= {"conditioning": given["positive"], "cfg": given["cfg"]}
    return found | ({"negative": given["negative"]} if given["cfg"] != 1 else {})


@dataclass(frozen=True)
class Layout:
    """What all variants of a graph share.

    wires: guider, sampler, sigmas, latent_image and vae. prompt: the node in which the prompt is written. steps: of the
    sampler. demo: whether it draws with the pack's demo model.
    """

    graph: Graph
    wires: dict[str, Wire]
    model: Wire
    prompt: str
    steps: int
    demo: bool

    @classmethod
    def of(cls, graph: Graph, size: int | None = None) -> Layout:
        """size: of the pictures, in place of what the graph has."""
        graph = copy.deepcopy(graph)
        found = wires(graph)
        kind, given = sampler(graph)
        if kind == "SamplerCustomAdvanced":
            guider = given["guider"]
        else:
            inputs = {"model": found["model"]}
            if "negative" in found:
                inputs |= {"positive": found["conditioning"], "negative": found["negative"], "cfg": found["cfg"]}
            else:
                inputs["conditioning"] = found["conditioning"]
            graph["guider of study"] = node("CFGGuider" if "negative" in found else "BasicGuider", **inputs)
            guider = ["guider of study", 0]
        decoded = decoders(graph)
        if not decoded:
            raise GraphError("The graph has no VAE Decode, and so no pictures: export one that has.")
        steps = graph[found["sigmas"][0]]["inputs"].get("steps")
        if not isinstance(steps, int):
            raise GraphError("The steps are no widget of the node that makes the sigmas: use Basic Scheduler there.")
        latent_of(graph, found["latent_image"], size)
        named = {name: found[name] for name in ("sampler", "sigmas", "latent_image")}
        demo = any(part["class_type"] == "NoiseOptimizeLoadDemo" for part in graph.values())
        prompt = encoder(graph, found["conditioning"])
        return cls(graph, {"guider": guider, **named, "vae": decoded[0]}, found["model"], prompt, steps, demo)

    def variant(self, prompt: str, batch: int, steps: int | None = None) -> tuple[Graph, dict[str, Wire]]:
        """The graph and its wires for another prompt, batch and, by Basic Scheduler, number of steps."""
        graph, found = copy.deepcopy(self.graph), dict(self.wires)
        graph[self.prompt]["inputs"] |= dict.fromkeys(written(graph[self.prompt]), prompt)
        latent = graph[found["latent_image"][0]]["inputs"]
        if "batch_size" not in latent:
            raise GraphError("The latent has no batch_size: use an Empty Latent Image node.")
        latent["batch_size"] = batch
        if steps not in (None, self.steps):
            scheduler = graph[found["sigmas"][0]]["inputs"].get("scheduler", "simple")
            graph["sigmas of study"] = node(
                "BasicScheduler", model=self.model, scheduler=scheduler, steps=steps, denoise=1.0
            )
            found["sigmas"] = ["sigmas of study", 0]
        return graph, found
