"""Finds a noise set for the model of any text-to-image graph, through a ComfyUI that is running with this pack.

python tests/demo/find_on_server.py GRAPH.json [--server http://127.0.0.1:8188] [--out DIR] [--size 512] [--at-once 4]

GRAPH.json: a graph that works, exported in API format (File, Export (API)), with KSampler or SamplerCustomAdvanced. Its
prompt becomes the list of 32 that comes with Prompt List; model, text encoder, sampler and steps stay. By default
pictures are told apart by DINO Features and kept on the prompt by CLIP Score; --features latent needs no download.
Writes the set, the report, and the pictures of the prompts kept out to DIR. The server says before it begins what it
costs: with 24 prompts and 60 iterations of a 4-step model about 1100 plain sampling runs of 16 pictures.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]
TEXTS = ("text", "prompt", "clip_l", "t5xxl")  # widgets of text encode nodes


def node(kind: str, **inputs: Any) -> dict[str, Any]:
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


def encoder(graph: Graph, conditioning: Any) -> str:
    """The node in which the prompt of a conditioning is written."""
    for name in behind(graph, conditioning):
        if any(isinstance(graph[name]["inputs"].get(text), str) for text in TEXTS):
            return name
    raise SystemExit(
        "No node behind the conditioning has its prompt in a widget: write the prompt there and export again."
    )


def wires(graph: Graph) -> dict[str, Any]:
    """What Find Noise Set takes, from the sampler of a graph; nodes that it needs beside are added to the graph."""
    kinds = {part["class_type"]: part["inputs"] for part in graph.values()}
    if "KSampler" in kinds:
        given = kinds["KSampler"]
        graph["sampler of set"] = node("KSamplerSelect", sampler_name=given["sampler_name"])
        graph["sigmas of set"] = node(
            "BasicScheduler", model=given["model"], scheduler=given["scheduler"], steps=given["steps"], denoise=1.0
        )
        found = {
            "sampler": ["sampler of set", 0],
            "sigmas": ["sigmas of set", 0],
            "latent_image": given["latent_image"],
        }
        found |= {"model": given["model"], "conditioning": given["positive"], "cfg": given["cfg"]}
        return found | ({"negative": given["negative"]} if given["cfg"] != 1 else {})
    if "SamplerCustomAdvanced" in kinds:
        given = kinds["SamplerCustomAdvanced"]
        guider = graph[given["guider"][0]]["inputs"]
        found = {name: given[name] for name in ("sampler", "sigmas", "latent_image")} | {"model": guider["model"]}
        if "positive" not in guider:
            return found | {"conditioning": guider["conditioning"], "cfg": 1.0}
        return found | {"conditioning": guider["positive"], "negative": guider["negative"], "cfg": guider["cfg"]}
    raise SystemExit("The graph has neither KSampler nor SamplerCustomAdvanced: export one that has.")


def finding(graph: Graph, options: argparse.Namespace, defaults: Any) -> Graph:
    """The graph that finds a set. defaults: of a class of nodes, its widgets as they are when it is new."""
    graph = {name: node(part["class_type"], **part["inputs"]) for name, part in graph.items()}
    found = wires(graph)
    texts = graph[encoder(graph, found["conditioning"])]["inputs"]
    written = [name for name in TEXTS if isinstance(texts.get(name), str)]
    texts |= dict.fromkeys(["text"] if "text" in written else written, ["prompts", 0])
    latent = graph[found["latent_image"][0]]["inputs"]
    latent |= {name: options.size for name in ("width", "height") if name in latent} | {"batch_size": options.at_once}
    decode = [part["inputs"]["vae"] for part in graph.values() if part["class_type"].startswith("VAEDecode")]
    kind = {"dino": "NoiseOptimizeDINOFeatures", "latent": "NoiseOptimizeLatentFeatures"}[options.features]
    graph["prompts"] = node(
        "NoiseOptimizePrompts", prompts=options.prompts or defaults("NoiseOptimizePrompts")["prompts"]
    )
    graph["features"] = node(kind, **defaults(kind))
    diversity = defaults("NoiseOptimizeDiversity") | {"statistic": "vendi", "features": ["features", 0]}
    graph["objective"] = node("NoiseOptimizeDiversity", **diversity)
    if options.features == "dino":
        score = defaults("NoiseOptimizeCLIPScore") | {"prompt": "", "weight": options.score}
        graph["score"] = node("NoiseOptimizeCLIPScore", **score)
        both = {"objectives.objective_1": ["objective", 0], "objectives.objective_2": ["score", 0]}
        graph["both"] = node("NoiseOptimizeCombine", **both)
    objective = ["both" if "both" in graph else "objective", 0]
    widgets = defaults("NoiseOptimizeFindSet") | {"patterns": options.patterns, "iterations": options.iterations}
    vae = {"vae": decode[0]} if decode else {}
    graph["find"] = node("NoiseOptimizeFindSet", **widgets | found | vae, objective=objective, prompts=["prompts", 0])
    graph["set"] = node(
        "NoiseOptimizeSaveNoise", noise=["find", 0], latent_image=found["latent_image"], filename_prefix="noise/set"
    )
    graph["plot"] = node("SaveImage", images=["find", 2], filename_prefix="noise/plot")
    graph["report"] = node("PreviewAny", source=["find", 3])
    if decode:
        graph["pictures"] = node("SaveImage", images=["find", 1], filename_prefix="noise/pictures")
    wanted = {name for end in ("set", "plot", "report", "pictures") if end in graph for name in behind(graph, [end, 0])}
    return {name: part for name, part in graph.items() if name in wanted}


class Server:
    """A ComfyUI that is running."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}/{path}") as answer:  # noqa: S310
            return json.load(answer)

    def defaults(self, kind: str) -> dict[str, Any]:
        """The widgets of a class of nodes as they are when it is new."""
        found = {}
        described = self.get(f"object_info/{kind}")[kind]["input"]
        for name, (type_, *options) in {**described.get("required", {}), **described.get("optional", {})}.items():
            more = options[0] if options else {}
            choices = type_ if isinstance(type_, list) else more.get("options", [])
            if choices and isinstance(choices[0], dict):
                found[name] = choices[0]["key"]
            elif "default" in more or choices:
                found[name] = more["default"] if "default" in more else choices[0]
        return found

    def run(self, graph: Graph) -> dict[str, Any]:
        """The outputs of a graph, when it has ended."""
        body = json.dumps({"prompt": graph}).encode()
        asked = urllib.request.Request(  # noqa: S310
            f"{self.address}/prompt", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(asked) as answer:  # noqa: S310
                name = json.load(answer)["prompt_id"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"ComfyUI refused the graph: {error.read().decode()}") from error
        while not (done := self.get(f"history/{name}")).get(name):
            time.sleep(2)
        status = done[name]["status"]
        if status["status_str"] != "success":
            raise SystemExit(f"The graph failed: {json.dumps(status['messages'][-1], indent=1)[:3000]}")
        return done[name]["outputs"]

    def fetch(self, entry: dict[str, str]) -> bytes:
        with urllib.request.urlopen(f"{self.address}/view?{urllib.parse.urlencode(entry)}") as answer:  # noqa: S310
            return answer.read()


def main(options: argparse.Namespace) -> None:
    server = Server(options.server)
    graph = finding(json.loads(options.graph.read_text(encoding="utf-8")), options, server.defaults)
    print("finding; the node in ComfyUI shows how far it is", flush=True)
    outputs = server.run(graph)
    options.out.mkdir(parents=True, exist_ok=True)
    report = "".join(outputs["report"]["text"])
    (options.out / "report.txt").write_text(report + "\n", encoding="utf-8")
    entries = [e for name in ("set", "plot", "pictures") for es in outputs.get(name, {}).values() for e in es]
    for entry in (each for each in entries if isinstance(each, dict)):
        (options.out / entry["filename"]).write_bytes(server.fetch(entry))
    print(report, options.out.resolve(), sep="\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--out", type=Path, default=Path("noise_set"))
    parser.add_argument("--size", type=int, default=512, help="of the pictures; the set works at others, too")
    parser.add_argument("--at-once", type=int, default=4, help="pictures drawn together")
    parser.add_argument("--features", choices=("dino", "latent"), default="dino")
    parser.add_argument("--score", type=float, default=2.0, help="weight of CLIP Score beside diversity")
    parser.add_argument("--prompts", help="one a line, in place of the 32 that come with Prompt List")
    parser.add_argument("--patterns", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=60)
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
