"""A noise set is found, saved and used in graphs of a running ComfyUI, on the demo's model."""

import numpy as np
import pytest
from comfy_server import GraphError, Interrupted
from graph import NO_TARGET, WIRES, diversity, node

from noise_optimize.noise.set_files import load_set

PROMPTS = ("a house", "a fish", "a cat", "a car")
WIDGETS = {
    "patterns": 8, "iterations": 2, "cfg": 1.0, "learning_rate": 0.1, "gradient": "first prediction", "held_out": 0,
    "loss": 1.0, "band": 0.333, "optimizer": "sgd", "momentum": 0.0, "seed": 0, "on_cancel": "keep the best",
}  # fmt: skip


def finding(**widgets):
    """A list of prompts through the node that encodes them, into Find Noise Set."""
    return {
        "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
        "prompts": node("NoiseOptimizePrompts", prompts="\n".join(PROMPTS)),
        "encode": node("NoiseOptimizeDemoPrompt", prompt="a tree", text=["prompts", 0]),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="simple", steps=4, denoise=1.0),
        "size": node("EmptySD3LatentImage", width=64, height=64, batch_size=8),
        "diversity": diversity("demo", "vendi", 2),
        "score": node("NoiseOptimizeDemoScore", prompt="(the prompt that is drawn)", weight=1.0, **NO_TARGET),
        "objective": node(
            "NoiseOptimizeCombine",
            **{"objectives.objective_1": ["diversity", 0], "objectives.objective_2": ["score", 0]},
        ),
        "find": node(
            "NoiseOptimizeFindSet",
            model=["demo", 0],
            conditioning=["encode", 0],
            prompts=["prompts", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["size", 0],
            objective=["objective", 0],
            vae=["demo", 1],
            **WIDGETS | widgets,
        ),
        "images": node("SaveImage", images=["find", 1], filename_prefix="found"),
        "plot": node("SaveImage", images=["find", 2], filename_prefix="plot"),
        "report": node("PreviewAny", source=["find", 3]),
        "file": node(
            "NoiseOptimizeSaveNoise", noise=["find", 0], latent_image=["size", 0], filename_prefix="sets/found"
        ),
    }


def using(name, prompt, width=64, height=64, **more):
    """One node in place of Random Noise."""
    return {
        "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
        "prompt": node("NoiseOptimizeDemoPrompt", prompt=prompt),
        "noise": node("NoiseOptimizeSet", set=name, seed=1, strength=1.0, pattern="by seed", model=["demo", 0]) | more,
        "guider": node("BasicGuider", model=["demo", 0], conditioning=["prompt", 0]),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="simple", steps=4, denoise=1.0),
        "latent_image": node("EmptySD3LatentImage", width=width, height=height, batch_size=4),
        "sample": node("SamplerCustomAdvanced", **{name: [name, 0] for name in WIRES}),
        "latent": node("SaveLatent", samples=["sample", 0], filename_prefix="latents/set"),
    }


@pytest.fixture(scope="module")
def found(server):
    return server.run(finding())


def test_a_set_is_found_with_progress_pictures_and_a_report(server, found):
    assert found.progress("find")[-1] == (3, 3)
    (page,), (plot,) = (found.images(name) for name in ("images", "plot"))
    assert page.size == (8 * 64, 2 * 64) and np.asarray(page).std() > 20
    assert plot.size[0] == 1024
    report = found.text("report")
    assert "Prompts that were kept out: a cat." in report and "using the set costs nothing" in report
    assert "Demo Score on them" in report and "plain sampling runs of 8 pictures" in report
    assert [picture for name, picture in found.previews if name == "find"]


def test_it_is_saved_and_used_in_another_graph_at_two_sizes(server, found):
    (entry,) = found.outputs["file"]["noise"]
    kept = load_set(server.base / "output" / entry["subfolder"] / entry["filename"])
    assert (kept.prompts, kept.unseen) == (("a house", "a fish", "a car"), ("a cat",))
    assert kept.coefficients.shape == (8, 16, 3, 3) and kept.latent_format == "Flux"
    name = f"{entry['subfolder']}/{entry['filename']} [output]"
    random = {"noise": node("RandomNoise", noise_seed=1)}
    for size in ((64, 64), (96, 64)):
        graph = using(name, "a tree", *size)
        made, plain = (server.run(g).latent("latent") for g in (graph, graph | random))
        assert made.shape == plain.shape and made.isfinite().all() and not made.equal(plain)


def test_cancel_in_the_middle_keeps_the_best_so_far(server):
    """Interrupted once, after the second iteration was shown; the graph goes on and saves the set."""

    def cancelled(**widgets):
        pressed = []

        def press(event):
            shown = event["data"].get("value", 0) if event["type"] == "progress" and not pressed else 0
            if shown >= 2 and event["data"]["node"] == "find":
                pressed.append(server.interrupt())

        return server.run(finding(iterations=1000, **widgets), press)

    run = cancelled()
    assert "It was cancelled." in run.text("report") and run.outputs["file"]["noise"]
    with pytest.raises(Interrupted):
        cancelled(on_cancel="stop the graph")


def test_too_few_prompts_are_told_in_a_sentence(server):
    graph = finding()
    graph["prompts"]["inputs"]["prompts"] = "a house\na fish"
    with pytest.raises(GraphError, match="conditioning gets 2 of at least 3 prompts: wire a Prompt List") as refused:
        server.run(graph)
    assert refused.value.node == "find"
