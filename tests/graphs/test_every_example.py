"""Every example, as shipped and as first published, through the API: with the demo model in the place of a big one."""

import json

import pytest
from demo_graph import with_demo
from graph import node
from pack import ROOT
from workflow import ALWAYS, api, nodes, subgraphs

PUBLISHED = ROOT / "tests" / "graphs" / "published"
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


SHIPPED = {path.stem: read(path) for path in sorted((ROOT / "example_workflows").glob("*.json"))}
GRAPHS = {f"{path.parent.name}/{path.stem}": read(path) for path in sorted(PUBLISHED.glob("*/*.json"))}
GRAPHS |= {name: graph for name, graph in SHIPPED.items() if graph not in GRAPHS.values()}


@pytest.fixture(scope="module")
def schema(server):
    return server.get("object_info")


def unmuted(graph):
    return graph | {"nodes": [each | {"mode": ALWAYS} for each in graph["nodes"]]}


def test_the_first_published_version_of_every_example_is_kept():
    """A graph that was shipped once is on people's disks: its copy here is never changed, and loads for ever."""
    kept = {path.stem for path in PUBLISHED.glob("*/*.json")}
    assert set(SHIPPED) <= kept


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_runs_with_the_demo_model_and_after_is_not_before(server, schema, name):
    graph = unmuted(GRAPHS[name])
    run = server.run(with_demo(api(graph, lambda kind: schema[kind]["input"])))
    shown = {each["title"]: str(each["id"]) for each in graph["nodes"] if each["type"] == "PreviewImage"}
    assert shown and set(shown.values()) <= set(run.outputs)
    pictures = {title: [image.tobytes() for image in run.images(node)] for title, node in shown.items()}
    assert all(pictures.values())
    if GRAPHS[name] in SHIPPED.values() and "After" in pictures:
        assert pictures["Before"] != pictures["After"]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_one_block_that_runs(server, schema, path):
    blueprint = read(path)
    (block,) = blueprint["nodes"]
    (inside,) = subgraphs(blueprint).values()
    assert inside["name"] == path.stem == block["title"] and inside["description"] and inside["category"]
    graph = with_demo(api(blueprint, lambda kind: schema[kind]["input"]))
    sources = {str(each["id"]): each["type"] for each in nodes(blueprint)}
    if open_ := [wire["name"] for wire in block["inputs"] if "widget" not in wire]:
        (optimise,) = (name for name, part in graph.items() if part["class_type"] == "NoiseOptimize")
        assert sources[optimise.split(":")[1]] == "NoiseOptimize"
        given = {
            "noise": node("RandomNoise", noise_seed=1),
            "guider": node("BasicGuider", model=["demo", 0], conditioning=["prompt", 0]),
            "sampler": node("KSamplerSelect", sampler_name="euler"),
            "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="simple", steps=2, denoise=1.0),
            "latent_image": node("EmptySD3LatentImage", width=64, height=64, batch_size=2),
            "vae": None,
        }
        assert open_ == list(given)
        graph |= {name: part for name, part in given.items() if part}
        graph["prompt"] = node("NoiseOptimizeDemoPrompt", prompt="a sailing boat")
        graph[optimise]["inputs"] |= {name: [name, 0] for name in given} | {"vae": ["demo", 1]}
        graph["show"] = node("PreviewImage", images=[optimise, 2])
    else:
        (decode,) = (name for name, part in graph.items() if part["class_type"] == "VAEDecode")
        graph["show"] = node("PreviewImage", images=[decode, 0])
    assert len(server.run(graph).images("show")) == 2


def test_the_server_lists_the_blueprints_of_the_pack(server):
    listed = server.get("global_subgraphs")
    ours = {each["name"]: key for key, each in listed.items() if each["info"]["node_pack"].endswith("noise_optimize")}
    assert set(ours) == {path.stem for path in BLUEPRINTS}
    for name, key in ours.items():
        assert json.loads(server.get(f"global_subgraphs/{key}")["data"])["nodes"], name
    assert len({each["name"] for each in listed.values()}) == len(listed), (
        "another pack's or the host's has the same name"
    )
