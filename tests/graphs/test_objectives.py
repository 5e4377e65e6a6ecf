"""Features, objectives and Measure Images in a running ComfyUI."""

import re

import numpy as np
import pytest
from comfy_server import GraphError
from graph import node

NONE = {"target": "none"}


def at_least(value):
    return {"target": "at least", "target.value": value}


def pictures(*colours):
    """Nodes of one batch `images` of flat pictures; the wire to it is ["images", 0]."""
    graph = {f"flat_{i}": node("EmptyImage", width=64, height=48, batch_size=1, color=c) for i, c in enumerate(colours)}
    wires = {f"images.image{i}": [f"flat_{i}", 0] for i in range(len(colours))}
    return graph | {"images": node("BatchImagesNode", **wires)}


def measured(objective, **inputs):
    """Nodes that measure `images` and show the report, the scores and the plot."""
    return {
        "measure": node("NoiseOptimizeMeasure", images=["images", 0], objective=[objective, 0], **inputs),
        "report": node("PreviewAny", source=["measure", 0]),
        "scores": node("PreviewAny", source=["measure", 1]),
        "plot": node("PreviewImage", images=["measure", 2]),
    }


COLOURS = {
    "colours": node("NoiseOptimizeColorFeatures", color_space="lab", bins=8),
    "dpp": node("NoiseOptimizeDiversity", features=["colours", 0], statistic="dpp", weight=1.0, **at_least(0.6)),
    "vendi": node("NoiseOptimizeDiversity", features=["colours", 0], statistic="vendi", weight=2.0, **NONE),
    "guard": node("NoiseOptimizeDetailGuard", weight=1.0, **at_least(1.0)),
    "latents": node("NoiseOptimizeLatentFeatures", grid=8),
    "layout": node("NoiseOptimizeDiversity", features=["latents", 0], statistic="contrastive", weight=1.0, **NONE),
}


def combined(*objectives):
    return node("NoiseOptimizeCombine", **{f"objectives.objective_{i + 1}": [o, 0] for i, o in enumerate(objectives)})


def changed(name, **inputs):
    """One of the nodes above with other inputs."""
    return {name: COLOURS[name] | {"inputs": COLOURS[name]["inputs"] | inputs}}


def rows(report):
    """The cells of the report's table, by the name of the objective."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if "|" in line]
    return {name: dict(zip(cells[0][1:], rest)) for name, *rest in cells[2:]}


def test_measure_tells_pictures_of_different_colours_from_equal_ones(server):
    graph = {**COLOURS, "sum": combined("dpp", "vendi"), **measured("sum")}
    different = server.run(pictures(0xD02020, 0x20A030, 0x2020D0) | graph)
    same = server.run(pictures(0xD02020, 0xD02020, 0xD02020) | graph)
    for run, low, high in ((different, 0.9, 1.0), (same, 0.0, 0.001)):
        table = rows(run.text("report"))
        assert list(table) == ["Color Features (lab) dpp", "Color Features (lab) vendi"]
        assert all(low <= float(row["score"]) <= high for row in table.values())
        assert [row["target"] for row in table.values()] == ["0.6", ""]
        assert run.text("report") == run.text("measure")


def test_measure_hands_out_one_score_for_each_row_and_a_plot(server):
    run = server.run(
        pictures(0xD02020, 0x20A030, 0x2020D0) | COLOURS | {"sum": combined("dpp", "vendi"), **measured("sum")}
    )
    shown = [float(number) for number in run.outputs["scores"]["text"]]
    assert shown == pytest.approx([float(row["score"]) for row in rows(run.text("report")).values()], abs=1e-4)
    (plot,) = run.images("plot")
    seen = np.asarray(plot).reshape(-1, 3).astype(int)
    for colour in ((0xD0, 0x20, 0x20), (0x20, 0xA0, 0x30), (0x20, 0x20, 0xD0)):
        assert (abs(seen - colour).max(1) < 12).sum() > 1000, "each picture is on the diagonal"
    assert np.asarray(run.images("measure")[0]).shape == np.asarray(plot).shape


def test_measure_compares_before_and_after(server):
    graph = pictures(0xD02020, 0x20A030, 0x2020D0) | COLOURS
    graph["before"] = node("EmptyImage", width=64, height=48, batch_size=3, color=0x808080)
    graph |= {"sum": combined("vendi", "guard", "layout"), **measured("sum", before=["before", 0])}
    report = server.run(graph).text("report")
    table = rows(report)
    assert (
        float(table["Color Features (lab) vendi"]["before"])
        < 0.001
        < 0.9
        < float(table["Color Features (lab) vendi"]["after"])
    )
    assert table["Detail Guard"]["each picture"] == "1.0000 1.0000 1.0000"
    assert re.search(r"^Latent Features contrastive is not measured: it works on latents", report, re.MULTILINE)


@pytest.mark.parametrize(
    "objective, said",
    [
        ("guard", "wire the starting pictures to before"),
        ("layout", "it works on latents, and these are pictures"),
    ],
)
def test_measure_says_why_pictures_alone_are_not_enough(server, objective, said):
    with pytest.raises(GraphError, match=said) as failed:
        server.run(pictures(0xD02020, 0x20A030) | COLOURS | measured(objective))
    assert failed.value.node == "measure"


def test_one_picture_alone_is_refused_in_one_sentence(server):
    graph = COLOURS | measured("dpp") | {"images": node("EmptyImage", width=64, height=48, batch_size=1, color=0)}
    with pytest.raises(GraphError, match="compares pictures, and there is only one"):
        server.run(graph)


def test_a_sum_of_nothing_but_zero_weights_is_refused(server):
    graph = pictures(0xD02020, 0x20A030) | COLOURS | {"sum": combined("dpp", "vendi"), **measured("sum")}
    graph |= changed("dpp", weight=0.0) | changed("vendi", weight=0.0)
    with pytest.raises(GraphError, match="give at least one of them a weight") as failed:
        server.run(graph)
    assert failed.value.node == "sum"


@pytest.mark.parametrize("objective, value", [("dpp", 1.5), ("guard", -1.0)])
def test_a_target_out_of_range_is_refused_before_anything_runs(server, objective, value):
    graph = pictures(0xD02020, 0x20A030) | COLOURS | measured(objective) | changed(objective, **{"target.value": value})
    with pytest.raises(GraphError) as refused:
        server.run(graph)
    assert refused.value.node == objective
