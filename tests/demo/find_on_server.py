"""Finds a noise set for the model of any text-to-image graph, through a ComfyUI that is running with this pack.

python tests/demo/find_on_server.py GRAPH.json [--server http://127.0.0.1:8188] [--out DIR] [--size 512] [--at-once 4]

GRAPH.json: a graph that works, exported in API format (File, Export (API)), with KSampler, SamplerCustom or
SamplerCustomAdvanced. Its prompt becomes the list of 32 that comes with Prompt List; the rest stays. By default
pictures are told apart by DINO Features and kept on the prompt by CLIP Score; --features latent needs no download.
Writes the set, the report, and the pictures of the prompts kept out to DIR. The server says before it begins what it
costs: with 24 prompts and 60 iterations of a 4-step model about 1100 plain sampling runs of 16 pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from study.comfy import Client, Refused
from study.graphs import Graph, GraphError, decoders, encoder, latent_of, node, pruned, read, wires, written


def finding(graph: Graph, options: argparse.Namespace, defaults: Any) -> Graph:
    """The graph that finds a set. defaults: of a class of nodes, its widgets as they are when it is new."""
    graph = {name: node(part["class_type"], **part["inputs"]) for name, part in graph.items()}
    found = wires(graph)
    name = encoder(graph, found["conditioning"])
    texts = written(graph[name])
    graph[name]["inputs"] |= dict.fromkeys(["text"] if "text" in texts else texts, ["prompts", 0])
    latent_of(graph, found["latent_image"], options.size)["batch_size"] = options.at_once
    decode = decoders(graph)
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
    return pruned(graph, [end for end in ("set", "plot", "report", "pictures") if end in graph])


def main(options: argparse.Namespace) -> None:
    server = Client(options.server)
    try:
        graph = finding(read(options.graph), options, server.defaults)
        print("finding; the node in ComfyUI shows how far it is", flush=True)
        outputs = server.run(graph)
    except (GraphError, Refused) as error:
        raise SystemExit(str(error)) from error
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
