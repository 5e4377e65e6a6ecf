"""Make it diverse: a right click puts the pack's sampler in the place of another, wired as that was; one undo takes it
back exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui_workflow_templates import get_asset_path
from frontend import CLASSIC, NODES_2, RENDERERS, Frontend, drawn

CUSTOM = drawn("""
    const model = made("NoiseOptimizeLoadDemo", 0, 0), prompt = made("NoiseOptimizeDemoPrompt", 0, 200);
    const noise = made("RandomNoise", 300, 0), guider = made("BasicGuider", 300, 180);
    const solver = made("KSamplerSelect", 300, 300), steps = made("BasicScheduler", 300, 420);
    const latent = made("EmptyLatentImage", 300, 620), sampler = made("SamplerCustomAdvanced", 700, 0);
    const decode = made("VAEDecode", 1100, 0), shown = made("PreviewImage", 1400, 0);
    const note = made("Note", 700, 160);
    model.connect(0, guider, 0);
    prompt.connect(0, guider, 1);
    model.connect(0, steps, 0);
    [noise, guider, solver, steps, latent].forEach((node, slot) => node.connect(0, sampler, slot));
    sampler.connect(1, decode, 0);
    model.connect(1, decode, 1);
    decode.connect(0, shown, 0);
    for (const side of ["width", "height"]) set(latent, side, 64);
    set(noise, "control_after_generate", "fixed");
    sampler.title = "My sampler";
    sampler.color = "#223355";
    note.title = "Below";
    const group = new LiteGraph.LGraphGroup("Sampling");
    group.pos = [680, -60];
    group.size = [380, 200];
    graph.add(group);
""")
DEMO = """() => {
    const host = app.graph._nodes.find(node => node.subgraph), inside = host.subgraph;
    const find = type => inside.nodes.find(node => node.type === type);
    const replaced = (type, old) => {
        const node = LiteGraph.createNode(type);
        node.pos = [...find(old).pos];
        inside.add(node);
        return node;
    };
    const model = replaced("NoiseOptimizeLoadDemo", "UNETLoader");
    const prompt = replaced("NoiseOptimizeDemoPrompt", "CLIPTextEncode");
    const sampler = find("KSampler");
    sampler.title = "My sampler";
    host.title = "Text to image";
    model.connect(0, sampler, "model");
    model.connect(1, find("VAEDecode"), "vae");
    prompt.connect(0, sampler, "positive");
    prompt.connect(0, find("ConditioningZeroOut"), 0);
    for (const type of ["UNETLoader", "CLIPLoader", "VAELoader", "CLIPTextEncode", "ModelSamplingAuraFlow"])
        inside.remove(find(type));
    for (const input of inside.inputs.filter(input => !input.linkIds.length)) inside.removeInput(input);
    for (const [name, value] of Object.entries({ width: 64, height: 64, steps: 4, seed: 7 }))
        host.widgets.find(widget => widget.name === name).value = value;
}"""
ENTER = """() => {
    const host = app.graph._nodes.find(node => node.subgraph);
    app.canvas.openSubgraph(host.subgraph, host);
}"""


def without_view(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph as it is saved, but for where one looks at it, and where the frontend draws the slots of a subgraph."""
    graph = json.loads(json.dumps(graph))
    graph["extra"].pop("ds", None)
    for subgraph in graph.get("definitions", {}).get("subgraphs", []):
        for slot in (*subgraph["inputs"], *subgraph["outputs"]):
            slot.pop("pos", None)
    return graph


def only(graph: dict[str, Any], **told: str) -> dict[str, Any]:
    """The one node of a graph of which this holds."""
    (node,) = (node for node in graph["nodes"] if node.items() >= told.items())
    return node


def origins(graph: dict[str, Any], node: dict[str, Any]) -> dict[str, int]:
    """The id of the node that each wired input of a node comes from."""
    links = {link[0]: link[1] for link in graph["links"]}
    return {each["name"]: links[each["link"]] for each in node["inputs"] if each.get("link")}


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_custom_sampler_becomes_noise_optimize_that_runs_and_is_undone(frontend: Frontend, renderer: str) -> None:
    frontend.open(frontend.page.evaluate(CUSTOM))
    before = frontend.graph()
    frontend.choose("My sampler", "Make it diverse")
    after = frontend.graph()

    old, node = (only(graph, title="My sampler") for graph in (before, after))
    assert node["type"] == "NoiseOptimize"
    assert [node[look] for look in ("id", "pos", "color")] == [old[look] for look in ("id", "pos", "color")]
    now = origins(after, node)
    assert now.items() >= origins(before, old).items()
    assert now["vae"] == only(after, type="NoiseOptimizeLoadDemo")["id"]
    assert now["objective"] == only(after, type="NoiseOptimizeDiversity")["id"]
    assert origins(after, only(after, type="VAEDecode"))["samples"] == node["id"]
    assert frontend.overlapping() == []
    (group,) = after["groups"]
    assert group["bounding"][1] + group["bounding"][3] > node["pos"][1] + node["size"][1]

    frontend.undo()
    assert without_view(frontend.graph()) == without_view(before)
    frontend.redo()
    assert frontend.run() == "execution_success"
    assert frontend.pictures("Preview Image") == 4


@pytest.mark.parametrize(
    ("renderer", "clicked"),
    [(CLASSIC, "My sampler"), (NODES_2, "My sampler"), (CLASSIC, "Text to image")],
    ids=["in the subgraph", "in the subgraph, Nodes 2.0", "at the subgraph"],
)
def test_the_official_template_becomes_diverse_by_right_click_and_is_undone(
    frontend: Frontend, renderer: str, clicked: str
) -> None:
    """The KSampler of the template that most people have, whose seed and steps are widgets of its subgraph."""
    official = get_asset_path("image_z_image_turbo", "image_z_image_turbo.json")
    frontend.open(json.loads(Path(official).read_text(encoding="utf-8")))
    frontend.page.evaluate(DEMO)
    frontend.open(frontend.graph())
    if clicked == "My sampler":
        frontend.page.evaluate(ENTER)
        frontend.page.wait_for_timeout(500)
    before, plain = frontend.graph(), frontend.prompt()
    (place,) = (key for key, node in plain.items() if node["class_type"] == "KSampler")

    frontend.choose(clicked, "Make it diverse")
    diverse = frontend.prompt()
    assert diverse[place]["class_type"] == "NoiseOptimizeDiverseSampler"
    assert diverse[place]["inputs"].items() >= plain[place]["inputs"].items()
    assert (plain[place]["inputs"]["seed"], plain[place]["inputs"]["steps"]) == (7, 4)
    assert diverse[diverse[place]["inputs"]["vae"][0]]["class_type"] == "NoiseOptimizeLoadDemo"
    others = {key: node for key, node in plain.items() if key != place}
    assert {key: node for key, node in diverse.items() if key != place} == others
    assert frontend.overlapping() == []

    frontend.undo()
    assert frontend.prompt() == plain
    assert without_view(frontend.graph()) == without_view(before)
    frontend.redo()
    assert frontend.run() == "execution_success"
    save = only(before, type="SaveImage")
    images = frontend.page.evaluate("id => app.nodeOutputs[id].images.length", save["id"])
    assert images == 4
