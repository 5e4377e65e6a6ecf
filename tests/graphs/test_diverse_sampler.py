"""Diverse Sampler in graphs of a running ComfyUI: a KSampler whose class was changed, and nothing else."""

import pytest
from comfy_server import GraphError
from graph import node

WIDGETS = {"seed": 3, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}


def graph(sampler="NoiseOptimizeDiverseSampler", batch=1, **widgets):
    """The demo model with a sampler whose latent and noise are saved."""
    wires = {"model": ["demo", 0], "positive": ["prompt", 0], "negative": ["prompt", 0], "latent_image": ["latent", 0]}
    return {
        "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
        "prompt": node("NoiseOptimizeDemoPrompt", prompt="a house"),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=batch),
        "sample": node(sampler, **WIDGETS | wires | widgets),
        "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="latents/diverse"),
    }


def test_at_variety_0_the_graph_of_a_ksampler_gives_the_same_bit_for_bit(server):
    plain, diverse = (server.run(made).latent("saved") for made in (graph("KSampler"), graph(variety=0.0)))
    assert plain.equal(diverse)


@pytest.mark.parametrize("effort", ["set", "search", "quick", "thorough"])
def test_its_noise_gives_its_latents_in_any_sampler(server, effort):
    made = graph(effort=effort) | {
        "guider": node("BasicGuider", model=["demo", 0], conditioning=["prompt", 0]),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="simple", steps=4, denoise=1.0),
        "again": node(
            "SamplerCustomAdvanced", noise=["sample", 2], latent_image=["sample", 0],
            **{name: [name, 0] for name in ("guider", "sampler", "sigmas")},
        ),
        "rendered": node("SaveLatent", samples=["again", 0], filename_prefix="latents/again"),
    }  # fmt: skip
    ran = server.run(made)
    assert len(ran.latent("saved")) == 4 and ran.latent("saved").equal(ran.latent("rendered"))
    assert ran.outputs["sample"]["text"]


def test_with_a_vae_there_are_pictures_in_the_node(server):
    made = graph(vae=["demo", 1]) | {"image": node("SaveImage", images=["sample", 1], filename_prefix="diverse")}
    ran = server.run(made)
    assert len(ran.outputs["image"]["images"]) == len(ran.outputs["sample"]["images"]) == 4


def test_without_a_vae_what_is_wired_to_the_pictures_says_so(server):
    image = {"image": node("SaveImage", images=["sample", 1], filename_prefix="diverse")}
    with pytest.raises(GraphError, match="Diverse Sampler has no pictures: wire a VAE to its vae"):
        server.run(graph(effort="set") | image)


def test_what_is_wrong_is_said_at_the_node(server):
    with pytest.raises(GraphError, match="there is no VAE: wire one to vae") as refused:
        server.run(graph(differ_in="colors"))
    assert refused.value.node == "sample"
