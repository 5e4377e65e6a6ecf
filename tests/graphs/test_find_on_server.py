"""The command that finds a noise set through a running ComfyUI, with the demo model in both kinds of samplers."""

import importlib.util
import json
import sys

import pytest
from graph import WIRES, node
from pack import ROOT

from noise_optimize.noise.set_files import load_set

spec = importlib.util.spec_from_file_location("find_on_server", ROOT / "tests" / "demo" / "find_on_server.py")
command = importlib.util.module_from_spec(spec)
spec.loader.exec_module(command)

LOADED = {
    "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
    "prompt": node("NoiseOptimizeDemoPrompt", prompt="a house", text="a house"),
    "latent_image": node("EmptySD3LatentImage", width=32, height=32, batch_size=1),
    "decode": node("VAEDecode", samples=["sample", 0], vae=["demo", 1]),
    "save": node("SaveImage", images=["decode", 0], filename_prefix="plain"),
}
KSAMPLER = LOADED | {
    "sample": node(
        "KSampler", model=["demo", 0], positive=["prompt", 0], negative=["prompt", 0], latent_image=["latent_image", 0],
        seed=0, steps=4, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    ),
}  # fmt: skip
CUSTOM = LOADED | {
    "noise": node("RandomNoise", noise_seed=0),
    "guider": node("BasicGuider", model=["demo", 0], conditioning=["prompt", 0]),
    "sampler": node("KSamplerSelect", sampler_name="euler"),
    "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="simple", steps=4, denoise=1.0),
    "sample": node("SamplerCustomAdvanced", **{name: [name, 0] for name in WIRES}),
}


@pytest.mark.parametrize("graph", [KSAMPLER, CUSTOM], ids=["KSampler", "SamplerCustomAdvanced"])
def test_the_command_writes_set_report_plot_and_pictures(server, tmp_path, monkeypatch, graph):
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    words = f"{tmp_path}/graph.json --server {server.url} --out {tmp_path}/out --size 64 --at-once 4 --features latent"
    prompts = "a house\na fish\na cat\na car"
    monkeypatch.setattr(sys, "argv", ["", *words.split(), "--prompts", prompts, "--patterns", "4", "--iterations", "1"])
    command.main(command.arguments())
    made = {path.name.split("_")[0]: path for path in (tmp_path / "out").iterdir()}
    assert made.keys() == {"set", "plot", "pictures", "report.txt"}
    found = load_set(made["set"])
    assert len(found) == 4 and found.unseen == ("a cat",) and found.size == (8, 8)
    assert "a cat" in made["report.txt"].read_text()
