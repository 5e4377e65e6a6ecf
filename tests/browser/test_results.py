"""What a node shows as its result is the result: once, and in place of the pictures seen on the way."""

from __future__ import annotations

import json

import pytest
from comfy_server import Server
from frontend import RENDERERS, Frontend
from pack import ROOT

SEARCH = "Noise Optimize 9 - Search, then optimize (no download)"


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_search_shows_its_pictures_once_and_those_of_the_next_run_in_their_place(
    frontend: Frontend, renderer: str
) -> None:
    frontend.open(json.loads((ROOT / "example_workflows" / f"{SEARCH}.json").read_text(encoding="utf-8")))
    frontend.set("After: Noise Optimize", "iterations", 0)
    before: list[str] = []
    for _ in range(2):
        assert frontend.run() == "execution_success"
        frontend.page.wait_for_timeout(1000)
        shown = frontend.shown("Noise Search: the four that differ most", after=before)
        assert all("/view?" in source for source in shown)  # what is seen on the way is a blob
        assert len({*shown}) == len(shown) == 4
        assert not {*shown} & {*before}
        before = shown


@pytest.mark.parametrize("node", ["NoiseOptimize", "NoiseOptimizeSearch", "NoiseOptimizeFindSet"])
def test_a_node_that_was_not_run_again_shows_its_pictures_again(server: Server, node: str) -> None:
    """The host sends what a node showed again where its schema asks for it, though the node itself is not run."""
    assert server.get(f"object_info/{node}")[node]["has_intermediate_output"]
