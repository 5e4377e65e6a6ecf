"""The pack in a running ComfyUI: it loads in silence, and everything it offers explains itself."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from comfy_server import GraphError, Interrupted
from graph import sampler_graph

ROOT = Path(__file__).resolve().parents[2]
OURS = "NoiseOptimize"


@pytest.fixture(scope="module")
def our_nodes(server):
    return {name: node for name, node in server.get("object_info").items() if name.startswith(OURS)}


def test_every_node_has_a_help_page_and_every_help_page_a_node(our_nodes):
    assert set(our_nodes) == {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}


def test_every_node_is_described_and_in_the_packs_own_category(our_nodes):
    for name, node in our_nodes.items():
        assert node["description"].strip(), name
        assert node["category"].split("/")[0] == "noise optimize", name
        assert "NoiseOptimize" not in node["display_name"], name


def test_every_input_and_output_has_a_tooltip(our_nodes):
    silent = []
    for name, node in our_nodes.items():
        for group in ("required", "optional"):
            for socket, (_, options) in node["input"].get(group, {}).items():
                silent += [] if options.get("tooltip") else [f"{name}.{socket}"]
        outputs = zip(node["output_name"], node["output_tooltips"])
        silent += [f"{name} -> {socket}" for socket, tip in outputs if not tip]
    assert not silent


def test_the_host_logs_nothing_about_the_pack_but_its_import_time(server):
    """Lines that name Python's own folder say nothing about the pack: a clone's environment lies in the clone."""
    about = [line for line in server.startup.replace(sys.prefix, "").splitlines() if "noise_optimize" in line]
    assert about and all(re.search(r"\d seconds: .*noise_optimize$", line) for line in about), about


def test_the_hosts_own_sampler_runs_a_tiny_model_to_pictures(server):
    run = server.run(sampler_graph("sdxl", batch=2))
    one, other = (np.asarray(picture) for picture in run.images("save"))
    assert one.shape == (64, 64, 3) and one.std() > 5 and (one != other).any()
    assert run.latent("latent").shape == (2, 4, 8, 8)
    assert run.progress("sample")[-1] == (2, 2)


def test_the_same_graph_is_computed_anew_and_comes_out_the_same(server):
    first, second = (server.run(sampler_graph("flux_schnell")) for _ in range(2))
    assert first.latent("latent").equal(second.latent("latent"))
    assert all(run.progress("sample") for run in (first, second))


def test_a_refused_graph_and_a_failing_node_are_told_apart_from_a_cancelled_one(server):
    graph = sampler_graph("sdxl")
    graph["sample"]["inputs"].pop("noise")
    with pytest.raises(GraphError, match="noise") as refused:
        server.run(graph)
    assert refused.value.node == "sample"

    graph = sampler_graph("sdxl")
    graph["vae"]["inputs"]["channels"] = 16
    with pytest.raises(GraphError) as failed:
        server.run(graph)
    assert failed.value.node == "decode"

    graph = sampler_graph("sdxl", steps=500)
    with pytest.raises(Interrupted):
        server.run(graph, on_event=lambda event: server.interrupt() if event["type"] == "progress" else None)
