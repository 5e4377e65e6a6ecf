"""Noise sets in graphs of a running ComfyUI: one node in place of Random Noise, saved and loaded again."""

import pytest
import torch
from comfy_server import GraphError
from graph import diversity, node, optimise, optimise_graph, sampler_graph

from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import load_set, save_set

NAME = "sets_of_tests.safetensors"


@pytest.fixture(scope="module", autouse=True)
def file(server):
    coefficients = torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(3))
    found = NoiseSet(coefficients, size=(8, 8), latent_format="Flux", prompts=("a house",))
    return save_set(server.base / "input" / NAME, found)


def noise_set(seed=5, strength=1.0, **more):
    inputs = {"set": NAME, "seed": seed, "strength": strength, "pattern": "by seed"} | more
    return node("NoiseOptimizeSet", **inputs)


def sized(graph, height, width):
    graph["latent_image"]["inputs"] |= {"height": height, "width": width}
    return graph


def with_set(graph, **widgets):
    return graph | {"noise": noise_set(**widgets)}


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_at_strength_0_a_graph_is_that_of_random_noise_bit_for_bit(server, size):
    plain = sized(sampler_graph(seed=5, batch=2), *size)
    samples = [server.run(graph).latent("latent") for graph in (plain, with_set(plain, strength=0.0))]
    assert samples[0].equal(samples[1])


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_a_set_samples_to_other_pictures_each_run_the_same(server, size):
    plain = sized(sampler_graph(seed=5, batch=2), *size)
    graphs = [with_set(plain), with_set(plain), plain, with_set(plain, seed=6)]
    first, again, random, other = (server.run(graph).latent("latent") for graph in graphs)
    assert first.equal(again) and not first.equal(random) and not first.equal(other)


def test_a_set_is_saved_whole_and_loaded_for_another_size(server):
    graph = with_set(sized(sampler_graph(seed=5), 8, 8))
    saving = node(
        "NoiseOptimizeSaveNoise", noise=["noise", 0], latent_image=["latent_image", 0], filename_prefix="my/set"
    )
    (entry,) = server.run(graph | {"file": saving}).outputs["file"]["noise"]
    name = f"my/{entry['filename']} [output]"
    kept, given = (load_set(server.base / path) for path in (f"output/my/{entry['filename']}", f"input/{NAME}"))
    assert kept.coefficients.equal(given.coefficients) and kept.prompts == given.prompts == ("a house",)
    options = server.get("object_info/NoiseOptimizeSet")["NoiseOptimizeSet"]["input"]["required"]["set"]
    assert name in (options[1].get("options") or options[0])

    other = sized(sampler_graph(batch=2), 10, 6)
    loaded = other | {"noise": node("NoiseOptimizeLoadNoise", file=name)}
    again = with_set(other, seed=0, set=name)
    assert server.run(loaded).latent("latent").equal(server.run(again).latent("latent"))


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_noise_optimize_starts_from_a_set(server, size):
    wires = sized(optimise_graph("flux_schnell", batch=4), *size)
    wires |= {
        "noise": noise_set(),
        "features": node("NoiseOptimizeLatentFeatures", grid=8),
        "objective": diversity("features", "vendi"),
    }
    graph = wires | {
        "plain": node(
            "SamplerCustomAdvanced", **{n: [n, 0] for n in ("noise", "guider", "sampler", "sigmas", "latent_image")}
        ),
        "before": node("SaveLatent", samples=["plain", 0], filename_prefix="latents/before"),
        "optimise": optimise("objective", iterations=0),
        "after": node("SaveLatent", samples=["optimise", 1], filename_prefix="latents/after"),
    }
    same = server.run(graph)
    assert same.latent("before").equal(same.latent("after"))
    graph["optimise"]["inputs"]["iterations"] = 2
    moved = server.run(graph)
    assert not moved.latent("before").equal(moved.latent("after"))


def test_a_set_of_another_model_is_refused_with_what_to_do(server):
    graph = with_set(sampler_graph("sdxl"))
    with pytest.raises(GraphError, match="16 channels of .Flux., and this latent has 4; choose a set") as refused:
        server.run(graph)
    assert refused.value.node == "sample"
    graph["noise"]["inputs"]["model"] = ["model", 0]
    with pytest.raises(
        GraphError, match="and the model has 4 .SDXL.; choose a set that was found for this model"
    ) as told:
        server.run(graph)
    assert told.value.node == "noise"


def test_a_pattern_is_chosen_by_its_number(server):
    graph = with_set(sampler_graph(batch=1), seed=2)
    chosen = with_set(graph, seed=2, pattern="chosen", number=3)
    assert server.run(graph).latent("latent").equal(server.run(chosen).latent("latent"))
    chosen["noise"]["inputs"]["number"] = 9
    with pytest.raises(GraphError, match="number is 9 and the set has 8 patterns"):
        server.run(chosen)


def test_a_list_of_prompts_runs_what_follows_once_for_each(server):
    graph = {
        "prompts": node("NoiseOptimizePrompts", prompts="a cat\n\na dog"),
        "shown": node("PreviewAny", source=["prompts", 0]),
    }
    assert list(server.run(graph).outputs["shown"]["text"]) == ["a cat", "a dog"]
