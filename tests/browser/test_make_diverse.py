"""Make it diverse: a right click puts the pack's sampler in the place of another, wired as that was; one undo takes it
back exactly."""

from __future__ import annotations

from typing import Any

import pytest
from frontend import RENDERERS, Frontend

CUSTOM = """() => {
    const graph = app.graph;
    graph.clear();
    const made = (type, x, y) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        graph.add(node);
        return node;
    };
    const set = (node, name, value) => { node.widgets.find(widget => widget.name === name).value = value };
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
    return graph.serialize();
}"""


def without_view(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph as it is saved, but for where one looks at it."""
    return graph | {"extra": {name: value for name, value in graph["extra"].items() if name != "ds"}}


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
