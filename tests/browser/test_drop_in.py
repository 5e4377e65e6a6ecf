"""The node that people drop into a graph they have: by right click, in a subgraph too, taken back by one undo."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_server import Server
from frontend import Frontend, drawn

VISIBLE = 10  # nodes that the search shows without scrolling

KSAMPLER = drawn("""
    const model = made("NoiseOptimizeLoadDemo", 0, 0), prompt = made("NoiseOptimizeDemoPrompt", 0, 260);
    const latent = made("EmptyLatentImage", 0, 420), sampler = made("KSampler", 420, 0);
    const decode = made("VAEDecode", 800, 0), shown = made("PreviewImage", 1050, 0);
    model.connect(0, sampler, 0);
    prompt.connect(0, sampler, 1);
    prompt.connect(0, sampler, 2);
    latent.connect(0, sampler, 3);
    sampler.connect(0, decode, 0);
    model.connect(1, decode, 1);
    decode.connect(0, shown, 0);
    set(sampler, "steps", 4);
    set(sampler, "cfg", 1);
    set(sampler, "control_after_generate", "fixed");
    for (const side of ["width", "height"]) set(latent, side, 64);
    set(latent, "batch_size", 4);
""")
INSIDE = """() => {
    const nodes = app.graph._nodes.filter(node => ["KSampler", "VAEDecode"].includes(node.type));
    const { node } = app.graph.convertToSubgraph(new Set(nodes));
    app.canvas.setGraph(node.subgraph);
}"""


@pytest.fixture
def ksampler(frontend: Frontend) -> Frontend:
    """The graph that people have, with the demo model in it."""
    frontend.open(frontend.page.evaluate(KSAMPLER))
    return frontend


def types(frontend: Frontend) -> list[str]:
    """The types of all nodes, those of subgraphs too, as Run posts them."""
    return sorted(node["class_type"] for node in frontend.prompt().values())


def sampled_model(frontend: Frontend) -> Any:
    """What the sampler's model wire comes from."""
    prompt = frontend.prompt()
    (sampler,) = (node for node in prompt.values() if node["class_type"] == "KSampler")
    return prompt[sampler["inputs"]["model"][0]]


@pytest.mark.parametrize("where", ["at the top", "in a subgraph"])
def test_diverse_seeds_is_put_before_a_sampler_by_right_click_and_undone(ksampler: Frontend, where: str) -> None:
    if where == "in a subgraph":
        ksampler.page.evaluate(INSIDE)
        ksampler.page.wait_for_timeout(500)
    before = types(ksampler)
    ksampler.choose("KSampler", "Add Diverse Seeds before this")
    assert types(ksampler) == sorted([*before, "NoiseOptimizeDiverseSeeds"])
    seeds = sampled_model(ksampler)
    assert seeds["class_type"] == "NoiseOptimizeDiverseSeeds"
    assert ksampler.prompt()[seeds["inputs"]["model"][0]]["class_type"] == "NoiseOptimizeLoadDemo"
    assert ksampler.overlapping() == []
    ksampler.undo()
    assert types(ksampler) == before and sampled_model(ksampler)["class_type"] == "NoiseOptimizeLoadDemo"


def test_a_graph_with_diverse_seeds_runs_to_other_pictures(ksampler: Frontend, server: Any) -> None:
    assert ksampler.run() == "execution_success"
    plain = ksampler.shown("Preview Image")
    ksampler.choose("KSampler", "Add Diverse Seeds before this")
    assert ksampler.run() == "execution_success"
    assert not {*ksampler.shown("Preview Image", after=plain)} & {*plain}
    assert ksampler.pictures("Preview Image") == 4


def test_advanced_widgets_are_folded_on_the_classic_canvas_until_asked_for(frontend: Frontend) -> None:
    frontend.open(
        frontend.page.evaluate("""() => {
        app.graph.clear();
        app.graph.add(LiteGraph.createNode("NoiseOptimize"));
        return app.graph.serialize();
    }""")
    )
    few = frontend.widgets("Noise Optimize")
    assert "iterations" in few and "momentum" not in few
    frontend.choose("Noise Optimize", "Show advanced inputs")
    assert {*few, "momentum"} < {*frontend.widgets("Noise Optimize")}
    frontend.open(frontend.graph())
    assert "momentum" in frontend.widgets("Noise Optimize")
    frontend.choose("Noise Optimize", "Hide advanced inputs")
    assert frontend.widgets("Noise Optimize") == few


def test_the_sockets_of_the_pack_have_colors_in_both_renderers(frontend: Frontend) -> None:
    colors = frontend.page.evaluate("""() => ["NOISE_OPTIMIZE_FEATURES", "NOISE_OPTIMIZE_OBJECTIVE"].flatMap(type => [
        LGraphCanvas.link_type_colors[type],
        app.canvas.default_connection_color_byType[type],
        getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim(),
    ])""")
    assert colors[:3] == [colors[0]] * 3 and colors[3:] == [colors[3]] * 3 and colors[0] != colors[3]
    assert all(colors)


def test_what_people_type_finds_the_drop_in_nodes_before_all_others_of_the_pack(
    frontend: Frontend, server: Server
) -> None:
    """ComfyUI's own nodes may come first where a name of theirs has the word."""
    described = server.get("object_info")
    ours = {node["display_name"] for name, node in described.items() if name.startswith("NoiseOptimize")}
    drop_in = {"Diverse Seeds", "Diverse Sampler"}
    for words in ("same image", "same face", "different", "variation", "seed variance", "variety", "seed"):
        found = frontend.search_nodes(words)[:VISIBLE]
        begins = [title for title in found if title.lower().startswith(words)]  # these are first whatever they are
        of_pack = [title for title in found if title in ours and title not in begins]
        assert {*of_pack[:2]} & drop_in == {*of_pack[:2]} != set(), words
