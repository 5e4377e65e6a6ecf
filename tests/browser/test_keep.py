"""Pictures are kept by a click: the next run leaves them as they are, and the saved graph says which."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from comfy_server import Server
from frontend import CLASSIC, RENDERERS, SECONDS, Frontend, drawn
from PIL import Image
from playwright.sync_api import Locator

NODE, SAMPLER = "Noise Optimize", "Diverse Sampler"
DIVERSE = drawn("""
    const model = made("NoiseOptimizeLoadDemo", 0, 0), prompt = made("NoiseOptimizeDemoPrompt", 0, 200);
    const latent = made("EmptyLatentImage", 0, 380), sampler = made("NoiseOptimizeDiverseSampler", 400, 0);
    const shown = made("PreviewImage", 900, 0);
    const wires = [[model, 0, "model"], [prompt, 0, "positive"], [prompt, 0, "negative"], [latent, 0, "latent_image"],
        [model, 1, "vae"]];
    for (const [from, slot, to] of wires) from.connect(slot, sampler, sampler.findInputSlot(to));
    sampler.connect(1, shown, 0);
    for (const side of ["width", "height"]) set(latent, side, 64);
    const widgets = { seed: 3, control_after_generate: "fixed", steps: 4, cfg: 1, sampler_name: "euler",
        scheduler: "simple" };
    for (const [name, value] of Object.entries(widgets)) set(sampler, name, value);
""")
GRAPH = drawn("""
    const model = made("NoiseOptimizeLoadDemo", 0, 0), prompt = made("NoiseOptimizeDemoPrompt", 0, 200);
    const noise = made("RandomNoise", 300, 0), guider = made("BasicGuider", 300, 180);
    const solver = made("KSamplerSelect", 300, 300), steps = made("BasicScheduler", 300, 420);
    const latent = made("EmptyLatentImage", 300, 620), diversity = made("NoiseOptimizeDiversity", 0, 380);
    const optimise = made("NoiseOptimize", 700, 0), shown = made("PreviewImage", 1200, 0);
    model.connect(0, guider, 0);
    prompt.connect(0, guider, 1);
    model.connect(0, steps, 0);
    model.connect(2, diversity, 0);
    [noise, guider, solver, steps, latent, diversity].forEach((node, slot) => node.connect(0, optimise, slot));
    model.connect(1, optimise, optimise.findInputSlot("vae"));
    optimise.connect(optimise.findOutputSlot("images"), shown, 0);
    for (const side of ["width", "height"]) set(latent, side, 64);
    set(latent, "batch_size", 4);
    set(steps, "steps", 4);
    set(steps, "scheduler", "simple");
    set(noise, "control_after_generate", "fixed");
    set(optimise, "iterations", 2);
""")


@pytest.fixture
def keeping(frontend: Frontend) -> Frontend:
    """A graph that optimises four pictures of the demo model, run once."""
    frontend.open(frontend.page.evaluate(GRAPH))
    assert frontend.run() == "execution_success"
    frontend.look_at(NODE)
    return frontend


@pytest.fixture
def diverse(frontend: Frontend) -> Frontend:
    """A graph in which Diverse Sampler makes four pictures of the demo model, run once."""
    frontend.open(frontend.page.evaluate(DIVERSE))
    assert frontend.run() == "execution_success"
    frontend.look_at(SAMPLER)
    return frontend


def cells(frontend: Frontend) -> Locator:
    return frontend.page.locator(".noise-optimize-keep button")


def pictures(frontend: Frontend) -> list[Image.Image]:
    """The files of the pictures in the grid."""
    cells(frontend).first.wait_for()
    sources = [cell.locator("img").evaluate("image => image.src") for cell in cells(frontend).all()]
    return [Image.open(BytesIO(frontend.page.request.get(source).body())) for source in sources]


def kept(frontend: Frontend) -> list[int]:
    """The numbers of the pictures that are marked."""
    marks = [cell.get_attribute("aria-pressed") for cell in cells(frontend).all()]
    return [i + 1 for i, mark in enumerate(marks) if mark == "true"]


def asked(frontend: Frontend) -> tuple[str, str]:
    """keep and kept_from as Run would post them."""
    (given,) = (node["inputs"] for node in frontend.prompt().values() if "keep" in node["inputs"])
    return given["keep"], given["kept_from"]


def saved(frontend: Frontend) -> list[Any]:
    (node,) = (node for node in frontend.graph()["nodes"] if node["type"] == "NoiseOptimize")
    return node["widgets_values"][-2:]


def click(frontend: Frontend, number: int) -> None:
    cells(frontend).nth(number - 1).click()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_click_keeps_a_picture_and_the_next_run_leaves_it_alone(keeping: Frontend, tmp_path: Any) -> None:
    first = pictures(keeping)
    assert len(first) == 4 and kept(keeping) == [] and asked(keeping) == ("", "")
    click(keeping, 2)
    keep, kept_from = asked(keeping)
    assert kept(keeping) == [2] and keep == "2" and kept_from.startswith("kept_")
    assert saved(keeping) == [keep, kept_from]
    assert cells(keeping).nth(1).locator(".pi-thumbtack").is_visible()
    assert not cells(keeping).nth(0).locator(".pi-thumbtack").is_visible()

    keeping.set("RandomNoise", "noise_seed", 5)
    assert keeping.run() == "execution_success"
    second = pictures(keeping)
    assert [a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True)] == [False, True, False, False]
    metadata = json.loads(second[0].info["prompt"])
    (told,) = (node["inputs"] for node in metadata.values() if node["class_type"] == "NoiseOptimize")
    assert (told["keep"], told["kept_from"]) == (keep, kept_from)
    keeping.page.screenshot(path=str(tmp_path / "kept.png"))

    assert kept(keeping) == [2], "the mark stays where the picture does"
    click(keeping, 4)
    again = asked(keeping)
    assert again[0] == "2, 4" and again[1] not in ("", kept_from) and kept(keeping) == [2, 4]
    keeping.undo()
    assert asked(keeping) == (keep, kept_from)


def test_clicks_take_back_clicks_and_keys_work_as_clicks(keeping: Frontend) -> None:
    click(keeping, 1)
    cells(keeping).nth(2).press("Enter")
    assert kept(keeping) == [1, 3] and asked(keeping)[0] == "1, 3"
    click(keeping, 1)
    assert kept(keeping) == [3]
    click(keeping, 3)
    assert kept(keeping) == [] and asked(keeping) == ("", "")
    assert cells(keeping).nth(0).get_attribute("title") == "Keep picture 1"


def test_numbers_by_hand_mean_the_wired_noise_and_are_marked_after_the_run(keeping: Frontend) -> None:
    keeping.set(NODE, "keep", "3")
    assert keeping.run() == "execution_success"
    assert kept(keeping) == [3] and asked(keeping) == ("3", "")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_node_shows_each_picture_once_and_its_words_fit(keeping: Frontend, renderer: str) -> None:
    page = keeping.page
    assert cells(keeping).count() == 4
    images, on_canvas = page.evaluate(
        """title => {
            const node = app.graph._nodes.find(node => node.title === title);
            const body = document.querySelector(`[data-node-id="${node.id}"]`) ?? document.querySelector(".dom-widget");
            const seen = [...body.querySelectorAll("img")].filter(each => each.checkVisibility());
            return [seen.length, node.imgs?.length ?? 0];
        }""",
        NODE,
    )
    assert images == 4 and (on_canvas == 0 or renderer != CLASSIC)
    foot = page.locator(".noise-optimize-keep .foot span")
    assert foot.inner_text().startswith("variety 0.")
    assert foot.evaluate("each => each.scrollWidth <= each.clientWidth")
    assert len(page.locator(".noise-optimize-keep polyline").get_attribute("points").split()) == 3
    assert page.get_by_text("plain runs of 4").is_visible()


def test_a_cancelled_run_brings_the_pictures_back(keeping: Frontend, server: Server) -> None:
    before = [image.tobytes() for image in pictures(keeping)]
    keeping.set(NODE, "iterations", 5000)
    keeping.set(NODE, "optimizer", "sgd")
    keeping.page.get_by_test_id("queue-button").first.click()
    keeping.page.get_by_alt_text("The pictures so far").wait_for(timeout=60 * SECONDS)
    assert cells(keeping).count() == 0
    server.interrupt()
    keeping.finished += 1
    keeping.page.wait_for_function("n => window.ended.length >= n", arg=keeping.finished)
    cells(keeping).first.wait_for()
    assert [image.tobytes() for image in pictures(keeping)] == before


def test_the_pictures_are_there_again_where_one_comes_back_to_the_graph(keeping: Frontend) -> None:
    before = [image.tobytes() for image in pictures(keeping)]
    click(keeping, 2)
    tab = keeping.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.filename")
    keeping.page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.NewBlankWorkflow') }")
    keeping.page.wait_for_function("() => app.graph._nodes.length === 0")
    keeping.page.get_by_text(tab, exact=True).first.click()
    assert [image.tobytes() for image in pictures(keeping)] == before and kept(keeping) == [2]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_diverse_sampler_keeps_what_is_clicked_in_every_effort(diverse: Frontend, renderer: str, tmp_path: Any) -> None:
    first = pictures(diverse)
    assert len(first) == 4 and asked(diverse) == ("", "")
    click(diverse, 3)
    assert kept(diverse) == [3] and asked(diverse)[0] == "3"
    for seed, effort in enumerate(("quick", "search", "set") if renderer == CLASSIC else ("quick",)):
        before = [image.tobytes() for image in pictures(diverse)]
        diverse.set(SAMPLER, "effort", effort)
        diverse.set(SAMPLER, "seed", seed)
        assert diverse.run() == "execution_success"
        after = [image.tobytes() for image in pictures(diverse)]
        assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, False]
        assert kept(diverse) == [3], "the mark stays where the picture does"
        diverse.page.screenshot(path=str(tmp_path / f"{effort}.png"))


def test_a_search_that_is_cancelled_brings_the_pictures_back(diverse: Frontend, server: Server) -> None:
    """It has no line to draw, only pictures on the way."""
    before = [image.tobytes() for image in pictures(diverse)]
    for name, value in {"effort": "search", "differ_in": "colors", "at_once": 1, "steps": 400, "variety": 1.0}.items():
        diverse.set(SAMPLER, name, value)
    diverse.page.get_by_test_id("queue-button").first.click()
    diverse.page.get_by_alt_text("The pictures so far").wait_for(timeout=60 * SECONDS)
    server.interrupt()
    diverse.finished += 1
    diverse.page.wait_for_function("n => window.ended.length >= n", arg=diverse.finished)
    cells(diverse).first.wait_for()
    assert [image.tobytes() for image in pictures(diverse)] == before
