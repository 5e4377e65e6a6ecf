"""What goes wrong in a node of the pack is read on screen, in one sentence that says what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from frontend import RENDERERS, Frontend
from pack import ROOT

KEEP = "Noise Optimize 7 - Keep these, push the rest away (no download)"
QUICK_START = "Noise Optimize 1 - Quick start (no download)"


def open_example(frontend: Frontend, name: str) -> None:
    frontend.open(json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_wrong_graph_is_told_in_one_sentence_until_it_is_mended(
    frontend: Frontend, renderer: str, tmp_path: Path
) -> None:
    open_example(frontend, KEEP)
    frontend.set("Noise Optimize", "keep", "")
    frontend.set("Empty Latent Image", "batch_size", 1)
    assert frontend.run() == "execution_error"
    message = frontend.page.evaluate("() => window.ended.at(-1)[1].exception_message").strip()
    assert "only one: raise the batch size" in message and "Traceback" not in message
    frontend.look_at("Noise Optimize")
    frontend.page.wait_for_function(
        "words => document.querySelector('[data-testid=error-overlay]')?.innerText.includes(words)", arg=message
    )
    frontend.page.screenshot(path=str(tmp_path / "sentence.png"))
    told = frontend.page.get_by_text(message)
    assert told.count() == 2  # in the node and in the frontend's own box
    assert all(each.is_visible() for each in told.all())

    frontend.set("Empty Latent Image", "batch_size", 2)
    frontend.set("Noise Optimize", "iterations", 1)
    assert frontend.run() == "execution_success"
    assert told.count() == 0


def test_a_graph_that_is_refused_is_told_in_the_words_of_the_node(frontend: Frontend) -> None:
    open_example(frontend, QUICK_START)
    frontend.set("Diverse Seeds", "set", "gone.safetensors")
    frontend.page.get_by_test_id("queue-button").first.click()
    frontend.page.get_by_text("gone.safetensors: there is no such noise set").wait_for()


def test_the_errors_of_other_packs_are_left_as_the_frontend_shows_them(frontend: Frontend) -> None:
    frontend.page.evaluate("() => { app.graph.add(LiteGraph.createNode('TinyFailure')) }")
    assert frontend.run() == "execution_error"
    assert "Choose another." in frontend.page.evaluate("() => window.ended.at(-1)[1].exception_message")
    box = frontend.page.get_by_test_id("error-overlay")
    box.wait_for()
    frontend.page.wait_for_timeout(1000)
    assert "Choose another." not in box.inner_text()
