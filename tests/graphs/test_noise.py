"""The noise nodes in graphs of a running ComfyUI: made, sampled with, saved, loaded, and refused in one sentence."""

import math

import pytest
import safetensors
import safetensors.torch
import torch
from comfy_server import GraphError
from graph import node, sampler_graph

FOREIGN = safetensors.torch.save({"weight": torch.zeros(2)})


def pink(**inputs):
    return node("NoiseOptimizePinkNoise", **({"seed": 5, "alpha": 0.2, "spectrum": "paper"} | inputs))


def saving(noise, prefix="noise/test", **latent):
    """A graph that saves a noise, as a file and (without add_noise) as a latent."""
    size = {"architecture": "flux_schnell", "height": 8, "width": 6, "batch": 2} | latent
    return {
        "noise": noise,
        "latent_image": node("TinyLatent", **size),
        "file": node(
            "NoiseOptimizeSaveNoise", noise=["noise", 0], latent_image=["latent_image", 0], filename_prefix=prefix
        ),
        "as_latent": node("NoiseOptimizeNoiseToLatent", noise=["noise", 0], latent_image=["latent_image", 0]),
        "latent": node("SaveLatent", samples=["as_latent", 0], filename_prefix="latents/noise"),
    }


def files_of(server):
    return sorted(path for folder in ("output", "input") for path in (server.base / folder).rglob("*"))


@pytest.mark.parametrize("spectrum", ["paper", "power law"])
def test_alpha_0_samples_as_random_noise_does_bit_for_bit(server, spectrum):
    white, coloured = sampler_graph(seed=5, batch=2), sampler_graph(seed=5, batch=2)
    coloured["noise"] = pink(alpha=0.0, spectrum=spectrum)
    assert server.run(coloured).latent("latent").equal(server.run(white).latent("latent"))


def test_pink_noise_samples_to_other_pictures_each_run_the_same(server):
    white, coloured = sampler_graph(seed=5), sampler_graph(seed=5)
    coloured["noise"] = pink()
    first, again, plain = (server.run(graph).latent("latent") for graph in (coloured, coloured, white))
    assert first.equal(again) and not first.equal(plain)


def test_saved_noise_is_loaded_and_samples_as_the_noise_it_was(server):
    made = server.run(saving(pink()))
    (entry,) = made.outputs["file"]["noise"]
    assert entry["subfolder"] == "noise" and entry["type"] == "output"
    name = f"noise/{entry['filename']} [output]"
    options = server.get("object_info/NoiseOptimizeLoadNoise")["NoiseOptimizeLoadNoise"]["input"]["required"]["file"]
    assert name in (options[1].get("options") or options[0])

    load = node("NoiseOptimizeLoadNoise", file=name)
    loaded = server.run({"load": load, "latent": node("SaveLatent", samples=["load", 1], filename_prefix="latents/x")})
    assert loaded.latent("latent").equal(made.latent("latent"))
    with safetensors.safe_open(server.base / "output" / "noise" / entry["filename"], framework="pt") as file:
        assert file.get_tensor("noise_0").equal(made.latent("latent"))
        assert file.metadata()["seed"] == "5" and '"alpha": 0.2' in file.metadata()["spectrum"]

    resaved = server.run(saving(load) | {"noise": load})
    assert resaved.latent("latent").equal(made.latent("latent"))


def test_the_spectrum_is_plotted_with_its_shares(server):
    graph = saving(pink(alpha=1.0)) | {
        "reference": node("RandomNoise", noise_seed=5),
        "spectrum": node(
            "NoiseOptimizeSpectrum", noise=["noise", 0], latent_image=["latent_image", 0], reference=["reference", 0]
        ),
        "plot": node("PreviewImage", images=["spectrum", 0]),
        **{band: node("PreviewAny", source=["spectrum", 1 + i]) for i, band in enumerate(("low", "mid", "high"))},
    }
    run = server.run(graph)
    assert run.images("plot")[0].size == (1024, 704)
    low, mid, high = (float(run.text(band)) for band in ("low", "mid", "high"))
    assert low + mid + high == pytest.approx(1, abs=1e-4) and low > high


@pytest.mark.parametrize("prefix", ["../escaped", "noise/../../escaped", "/escaped", "", "."])
def test_a_prefix_that_leads_out_of_the_output_folder_is_refused_and_nothing_is_written(server, prefix):
    before = files_of(server)
    with pytest.raises(GraphError, match="names no file inside the output folder; use a name like") as refused:
        server.run({k: v for k, v in saving(pink(), prefix).items() if k not in ("as_latent", "latent")})
    assert refused.value.node == "file"
    assert files_of(server) == before and not (server.base / "escaped_00001_.safetensors").exists()


def test_a_folder_that_cannot_be_used_is_named_and_nothing_is_written(server):
    (server.base / "output" / "occupied").write_text("a file, not a folder")
    before = files_of(server)
    with pytest.raises(GraphError, match="'occupied/noise': its folder cannot be used .*choose another"):
        server.run({k: v for k, v in saving(pink(), "occupied/noise").items() if k not in ("as_latent", "latent")})
    assert files_of(server) == before


@pytest.mark.parametrize(
    "name,content,reason",
    [
        ("damaged.safetensors", b"half a file", "damaged.safetensors is damaged"),
        ("missing.safetensors", None, "there is no such noise file; choose"),
        ("foreign.safetensors", FOREIGN, "holds no noise; choose a file"),
        ("../../../etc/passwd", None, "leads outside ComfyUI's folders"),
    ],
)
def test_a_file_that_is_no_noise_is_refused_in_one_sentence(server, name, content, reason):
    if content is not None:
        (server.base / "input" / name).write_bytes(content)
    graph = {"load": node("NoiseOptimizeLoadNoise", file=name), "show": node("SaveLatent", samples=["load", 1])}
    graph["show"]["inputs"]["filename_prefix"] = "latents/x"
    with pytest.raises(GraphError, match=reason) as refused:
        server.run(graph)
    assert refused.value.node == "load"


@pytest.mark.parametrize(
    "inputs,reason",
    [
        ({"alpha": math.nan}, "alpha is nan; set it to a number"),
        ({"alpha": 5.0}, "alpha"),
        ({"spectrum": "brown"}, "spectrum"),
    ],
)
def test_a_meaningless_colour_is_refused_by_the_name_of_its_input(server, inputs, reason):
    with pytest.raises(GraphError, match=reason) as refused:
        server.run(saving(pink(**inputs)))
    assert refused.value.node == "noise"
