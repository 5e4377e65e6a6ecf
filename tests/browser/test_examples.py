"""The shipped graphs in the real frontend: each opens whole, and those of the demo model run to pictures."""

import json

import pytest
from pack import ROOT
from workflow import api, nodes

GRAPHS = sorted((ROOT / "example_workflows").glob("*.json"))
EXAMPLES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in GRAPHS}
LOADERS = {  # and the folder of models that each looks in
    "CheckpointLoaderSimple": "checkpoints",
    "UNETLoader": "diffusion_models",
    "CLIPLoader": "text_encoders",
    "VAELoader": "vae",
    "LoraLoaderModelOnly": "loras",
}
QUICK_START = "Noise Optimize 1 - Quick start (no download)"
APP = "Noise Optimize 2 - Quick start as an App (no download)"
KEEP = "Noise Optimize 7 - Keep these, push the rest away (no download)"
DEMO = [name for name, graph in EXAMPLES.items() if any(n["type"] == "NoiseOptimizeLoadDemo" for n in nodes(graph))]
CANVAS = [name for name in DEMO if name != APP]
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))


def wires(graph):
    """Every wire as (node, output, node, input)."""
    return sorted(tuple(link[1:5]) for link in graph["links"])


def widgets(graph):
    return {node["id"]: node["widgets_values"] for node in graph["nodes"] if node.get("widgets_values")}


def test_every_example_has_a_thumbnail_and_every_thumbnail_an_example():
    assert {path.stem for path in (ROOT / "example_workflows").glob("*.jpg")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_file_of_a_model_comes_with_its_address_and_folder(name):
    """What the frontend needs to offer a missing file for download."""
    for node in nodes(EXAMPLES[name]):
        if node["type"] in LOADERS:
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0]
            assert model["url"].startswith("https://") and model["url"].endswith(f"/{model['name']}")
            assert model["directory"] == LOADERS[node["type"]]


def test_the_search_for_templates_works_with_the_pack_installed(frontend):
    """One name that an official template has, too, and the frontend's search finds everything for any word."""
    before = len(frontend.errors)
    found, templates = frontend.search_templates("upscale")
    assert 0 < found < templates
    offline = "Content Security Policy"  # what keeps the test's host from asking for models' sizes
    assert [error for error in frontend.errors[before:] if offline not in error] == []


@pytest.mark.parametrize("name", [QUICK_START, KEEP])
def test_an_example_opens_from_its_card(frontend, name):
    frontend.open_template("Noise Optimize", name)
    frontend.page.wait_for_function("n => app.graph._nodes.length === n", arg=len(EXAMPLES[name]["nodes"]))
    assert wires(frontend.graph()) == wires(EXAMPLES[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_opens_whole_and_only_its_model_files_may_be_missing(frontend, server, name):
    frontend.open(EXAMPLES[name])
    opened = frontend.graph()
    assert frontend.unknown_types() in ([], ["MarkdownNote"])
    assert wires(opened) == wires(EXAMPLES[name])
    assert widgets(opened) == widgets(EXAMPLES[name])

    schema, prompt = server.get("object_info"), frontend.prompt()
    assert api(EXAMPLES[name], lambda kind: schema[kind]["input"]) == {
        key: {part: node[part] for part in ("class_type", "inputs")} for key, node in prompt.items()
    }
    for node in prompt.values():
        needed = schema[node["class_type"]]["input"]["required"]
        given = {socket.split(".")[0] for socket in node["inputs"]}
        assert set(needed) <= given, node["class_type"]
        for socket, (kind, *options) in needed.items():
            choices = kind if isinstance(kind, list) else options and options[0].get("options")
            wired = isinstance(node["inputs"].get(socket), list)
            if choices and not wired and node["class_type"] not in LOADERS and socket in node["inputs"]:
                keys = [choice["key"] if isinstance(choice, dict) else choice for choice in choices]
                assert node["inputs"][socket] in keys, (node["class_type"], socket)


@pytest.mark.parametrize("name", CANVAS)
def test_an_example_of_the_demo_runs_to_pictures_that_are_shown(frontend, name, tmp_path):
    frontend.open(EXAMPLES[name])
    assert frontend.run() == "execution_success"
    titles = [node["title"] for node in frontend.graph()["nodes"] if node["type"] == "PreviewImage"]
    assert all(frontend.pictures(title) for title in titles)
    frontend.screenshot(str(tmp_path / f"{name}.png"))


def test_an_objective_is_swapped_by_re_plugging_a_wire(frontend):
    frontend.open(EXAMPLES[KEEP])
    frontend.set("Noise Optimize", "iterations", 2)
    frontend.connect("Diversity", "objective", "Noise Optimize", "objective")
    assert frontend.run() == "execution_success"
    (optimise,) = (n for n in frontend.prompt().values() if n["class_type"] == "NoiseOptimize")
    assert frontend.prompt()[optimise["inputs"]["objective"][0]]["class_type"] == "NoiseOptimizeDiversity"
    assert frontend.pictures("After") == 4


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_read_at_first_sight(frontend, name):
    """On a common screen the whole graph is in sight, large enough that the canvas draws its text."""
    frontend.page.set_viewport_size({"width": 1920, "height": 1080})
    frontend.open(EXAMPLES[name])
    assert not frontend.page.evaluate("() => app.canvas.low_quality")
    assert frontend.overlapping() == []


def test_the_quick_start_is_small_and_shows_before_and_after_together(frontend, tmp_path):
    """Eleven nodes at most, and both pictures in sight without scrolling."""
    assert len(EXAMPLES[QUICK_START]["nodes"]) <= 11
    frontend.page.set_viewport_size({"width": 1920, "height": 1080})
    frontend.open(EXAMPLES[QUICK_START])
    assert frontend.run() == "execution_success"
    assert frontend.pictures("Before") == frontend.pictures("After") == 4
    in_sight = """titles => {
        const [x, y, width, height] = app.canvas.visible_area;
        return titles.every(title => {
            const { pos, size } = app.graph._nodes.find(node => node.title === title);
            return pos[0] >= x && pos[1] >= y && pos[0] + size[0] <= x + width && pos[1] + size[1] <= y + height;
        });
    }"""
    assert frontend.page.evaluate(in_sight, ["Before", "After"])
    frontend.page.screenshot(path=str(tmp_path / "quick start.png"))


def test_the_app_asks_for_prompt_seed_and_strength_and_shows_all_pictures(frontend, tmp_path):
    frontend.open(EXAMPLES[APP])
    page = frontend.page
    page.get_by_text("Skip", exact=True).click()  # the tour that greets everybody's first App
    for label in ("prompt", "seed", "strength"):
        assert page.get_by_text(label, exact=True).first.is_visible()
    page.get_by_text("Run", exact=True).locator("visible=true").last.click()
    page.wait_for_function("() => window.ended.length === 1")
    assert page.evaluate("() => window.ended[0][0]") == "execution_success"
    page.wait_for_function("() => [...document.images].filter(image => image.checkVisibility()).length >= 8")
    page.screenshot(path=str(tmp_path / "app.png"))


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_opens_as_one_block(frontend, path):
    frontend.open(json.loads(path.read_text(encoding="utf-8")))
    assert frontend.page.evaluate("() => app.graph._nodes.map(node => node.title)") == [path.stem]
    assert frontend.unknown_types() == []
