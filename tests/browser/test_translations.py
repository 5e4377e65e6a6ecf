"""A Chinese frontend shows the pack in Chinese: nodes, widgets, tooltips, menus, templates and help."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from comfy_server import Server
from frontend import Frontend
from pack import ROOT
from playwright.sync_api import Browser

NODES = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
MAIN = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))
SEEN = """() => {
    const node = LiteGraph.createNode("NoiseOptimizeDiversity");
    app.graph.add(node);
    node.widgets.find(widget => widget.name === "target").value = "at least";
    return {
        title: node.title, category: node.constructor.category,
        inputs: node.inputs.filter(each => !each.widget).map(each => each.localized_name),
        outputs: node.outputs.map(each => each.localized_name),
        widgets: Object.fromEntries(node.widgets.map(each => [each.name.replace(".", "_"), each.label])),
    };
}"""

ALONE = """() => {
    app.graph.clear();
    app.graph.add(LiteGraph.createNode("NoiseOptimize"));
    return app.graph.serialize();
}"""


@pytest.fixture
def chinese(server: Server, browser: Browser) -> Iterator[Frontend]:
    page = browser.new_page(viewport={"width": 1600, "height": 950})
    setting = f"{server.url}/api/settings/Comfy.Locale"
    page.request.post(setting, data='"zh"')
    yield Frontend(page, server.url)
    page.request.post(setting, data='"en"')
    page.close()


def test_a_node_shows_its_chinese_names(chinese: Frontend):
    words, seen = NODES["NoiseOptimizeDiversity"], chinese.page.evaluate(SEEN)
    assert seen["title"] == words["display_name"]
    assert seen["category"].split("/")[0] == MAIN["nodeCategories"]["noise optimize"]
    assert seen["inputs"] == [words["inputs"]["features"]["name"]]
    assert seen["outputs"] == [words["outputs"]["0"]["name"]]
    assert seen["widgets"] == {
        key: words["inputs"][key]["name"] for key in ("statistic", "weight", "target", "target_value")
    }


def test_menu_templates_and_help_are_chinese(chinese: Frontend):
    page = chinese.page
    chinese.open(page.evaluate(ALONE))
    chinese.choose(NODES["NoiseOptimize"]["display_name"], MAIN["contextMenu"]["Show advanced inputs"])
    page.evaluate("() => { app.canvas.selectNode(app.graph._nodes[0]) }")
    page.get_by_test_id("info-button").click()
    page.get_by_text("保留这些，推开其余").wait_for()
    chinese.templates().get_by_role("button", name=MAIN["templateWorkflows"]["category"]["noise_optimize"]).wait_for()
