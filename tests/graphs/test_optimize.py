"""Noise Optimize and Noise Search in a running ComfyUI, by graphs alone."""

import numpy as np
import pytest
from comfy_server import GraphError, Interrupted
from graph import WIRES, before_and_after, diversity, node, optimise, optimise_graph

MARGIN = 0.1  # within ITERATIONS every diversity d must rise by this share of d or of 1 - d, whichever is less
ITERATIONS = 5


def graph(architecture="sdxl", batch=2, **options):
    """What Noise Optimize takes, and two ways to see; what is added to it decides what runs."""
    wires = optimise_graph(architecture, batch=batch, **options)
    wires["colour"] = node("NoiseOptimizeColorFeatures", color_space="rgb", bins=4)
    wires["pooled"] = node("NoiseOptimizeLatentFeatures", grid=4)
    return wires


def search(objective, **widgets):
    return node("NoiseOptimizeSearch", **{name: [name, 0] for name in WIRES}, objective=[objective, 0], **widgets)


def sample(noise="noise"):
    return node("SamplerCustomAdvanced", **{name: [name, 0] for name in WIRES} | {"noise": [noise, 0]})


def keep_latent(source, output=0):
    return node("SaveLatent", samples=[source, output], filename_prefix="latents/test")


@pytest.mark.parametrize("alpha", [0.0, 0.2], ids=["white", "pink"])
@pytest.mark.parametrize("architecture", ["sdxl", "flux_schnell"])
def test_every_diversity_rises_by_the_stated_margin(server, architecture, alpha):
    wires = graph(architecture)
    wires["noise"] = node("NoiseOptimizePinkNoise", seed=3, alpha=alpha, spectrum="paper")
    pairs = [("colour", "dpp"), ("colour", "pairwise"), ("pooled", "vendi"), ("pooled", "contrastive")]
    for features, statistic in pairs:
        wires[statistic] = diversity(features, statistic)
        wires[f"run {statistic}"] = optimise(statistic)
        wires[f"text {statistic}"] = node("PreviewAny", source=[f"run {statistic}", 4])
    wires["guard"] = node("NoiseOptimizeDetailGuard", weight=1.0, **{"target": "at least", "target.value": 0.9})
    added = {f"objectives.objective_{i + 1}": [name, 0] for i, name in enumerate(("dpp", "guard"))}
    wires["sum"] = node("NoiseOptimizeCombine", **added)
    wires["run dpp"]["inputs"]["objective"] = ["sum", 0]
    run = server.run(wires)
    for _, statistic in pairs:
        scores = before_and_after(run.text(f"text {statistic}"))
        (name,) = [name for name in scores if name.endswith(statistic)]
        before, after = scores[name]
        assert after - before >= MARGIN * min(before, 1 - before), (name, before, after)
    assert len(run.progress("run dpp")) >= ITERATIONS + 1
    previews = [picture for at, picture in run.previews if at == "run dpp"]
    assert len(previews) >= ITERATIONS and all(picture.width > picture.height for picture in previews)


def test_no_iterations_are_the_hosts_own_sampler_and_the_noise_found_works_in_it(server):
    wires = graph("sdxl")
    wires["sampler"] = node("KSamplerSelect", sampler_name="euler_ancestral")
    wires["diversity"] = diversity("pooled")
    wires["plain"], wires["none"] = sample(), optimise("diversity", vae=False, iterations=0)
    wires["some"] = optimise("diversity", iterations=2)
    wires["again"] = sample("some")
    for name, source, output in (("a", "plain", 0), ("b", "none", 1), ("c", "some", 1), ("d", "again", 0)):
        wires[name] = keep_latent(source, output)
    wires["decoded"] = node("VAEDecode", samples=["again", 0], vae=["vae", 0])
    wires["save decoded"] = node("SaveImage", images=["decoded", 0], filename_prefix="test")
    wires["save ours"] = node("SaveImage", images=["some", 2], filename_prefix="test")
    wires["save plot"] = node("SaveImage", images=["some", 3], filename_prefix="test")
    wires["save noise"] = node(
        "NoiseOptimizeSaveNoise", noise=["some", 0], latent_image=["latent_image", 0], filename_prefix="noise/found"
    )
    run = server.run(wires)
    assert run.latent("a").equal(run.latent("b"))
    assert run.latent("c").equal(run.latent("d")) and not run.latent("c").equal(run.latent("a"))
    for ours, theirs in zip(run.images("save ours"), run.images("save decoded"), strict=True):
        assert (np.asarray(ours) == np.asarray(theirs)).all()
    assert np.asarray(run.images("save plot")[0]).std() > 5
    from noise_optimize.noise import files

    (entry,) = run.outputs["save noise"]["noise"]
    kept = files.load(server.base / "output" / entry["subfolder"] / entry["filename"])
    assert kept.settings["iterations"] == 2 and set(kept.scores) == {"before", "after"}


def test_a_set_is_made_one_at_a_time_each_different_from_all_before_and_from_the_references(server):
    wires = graph("sdxl", batch=1)
    wires["sampler"] = node("KSamplerSelect", sampler_name="euler_ancestral")
    wires["diversity"] = diversity("colour")
    wires["blank"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080)
    wires["set"] = optimise("diversity", total_pictures=3, iterations=4, references=["blank", 0])
    wires["untouched"] = optimise("diversity", total_pictures=3, iterations=0)
    wires["three"] = node("TinyLatent", architecture="sdxl", height=8, width=8, batch=3)
    wires["together"] = sample()
    wires["together"]["inputs"]["latent_image"] = ["three", 0]
    for name, source, output in (("a", "untouched", 1), ("b", "together", 0)):
        wires[name] = keep_latent(source, output)
    wires["text"] = node("PreviewAny", source=["set", 4])
    wires["save"] = node("SaveImage", images=["set", 2], filename_prefix="test")
    run = server.run(wires)
    assert len(run.images("save")) == 3
    ((before, after),) = before_and_after(run.text("text")).values()
    assert after > before and run.text("text").count("Pictures ") == 3
    # Only float32 may differ: a network that gets one picture rounds otherwise than one that gets three.
    one_by_one, together = run.latent("a"), run.latent("b")
    assert (one_by_one - together).norm() < 1e-5 * together.norm()


def test_cancel_stops_within_an_iteration_or_goes_on_with_the_best(server):
    wires = graph("sdxl")
    wires["diversity"] = diversity("pooled")
    wires["run"] = optimise("diversity", vae=False, iterations=10000)
    wires["latent"] = keep_latent("run", 1)
    after = []

    def cancel(event):
        if event["type"] == "progress" and event["data"]["node"] == "run":
            after.append(event["data"]["value"])
            if len(after) == 2:
                server.interrupt()

    with pytest.raises(Interrupted):
        server.run(wires, on_event=cancel)
    assert len(after) <= 4
    after.clear()
    wires["run"]["inputs"]["on_cancel"] = "keep the best"
    wires["text"] = node("PreviewAny", source=["run", 4])
    run = server.run(wires, on_event=cancel)
    assert run.latent("latent").shape == (2, 4, 8, 8)
    assert "cancelled" in run.text("text")


def test_a_wrong_graph_gets_one_sentence(server):
    wires = graph("sdxl")
    wires["diversity"] = diversity("colour")
    wires["run"] = optimise("diversity", vae=False)
    wires["latent"] = keep_latent("run", 1)
    with pytest.raises(GraphError, match="wire one to vae"):
        server.run(wires)
    wires["run"] = search("diversity", candidates=2, keep=4, diversity_weight=1.5)
    with pytest.raises(GraphError, match="raise candidates or lower keep"):
        server.run(wires)


def test_search_keeps_a_batch_that_differs_more_and_starts_the_optimiser(server):
    wires = graph("flux_schnell", steps=2)
    wires["diversity"] = diversity("colour")
    wires["search"] = search("diversity", candidates=8, keep=2, diversity_weight=1.5, vae=["vae", 0])
    wires["run"] = optimise("diversity", iterations=1, noise=["search", 0])
    wires["plain"] = optimise("diversity", iterations=0)
    wires["again"] = sample("search")
    for name, source, output in (("a", "search", 1), ("b", "again", 0)):
        wires[name] = keep_latent(source, output)
    for name in ("run", "plain"):
        wires[f"text {name}"] = node("PreviewAny", source=[name, 4])
    run = server.run(wires)
    assert run.latent("a").equal(run.latent("b"))
    ((found, _),), ((drawn, _),) = (before_and_after(run.text(f"text {name}")).values() for name in ("run", "plain"))
    assert found > drawn
