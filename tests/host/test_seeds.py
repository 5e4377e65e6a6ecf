"""Diverse Seeds inside the host: which set it takes, what it says, and that it is Noise Set for every sampler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy_extras.nodes_custom_sampler as custom
import folder_paths
import nodes
import pytest
import tiny_models
import torch

from noise_optimize.nodes import demo, monitor, seeds
from noise_optimize.nodes.host.models import layout
from noise_optimize.nodes.host.starts import starts_elsewhere
from noise_optimize.nodes.latents import FixedNoise, SetNoise
from noise_optimize.nodes.noise import PinkNoise
from noise_optimize.nodes.noise_sets import NoiseSetNode
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.nodes.seeds import DiverseSeeds
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import save_set
from noise_optimize.objectives import Diversity, LatentFeatures

SEEDS = DiverseSeeds.PREPARE_CLASS_CLONE(None)
FILE, SEED = "seeds_of_tests.safetensors", 2**63 + 5


def found(channels: int = 4, **about: Any) -> NoiseSet:
    coefficients = torch.randn(6, channels, 3, 3, generator=tiny_models.generator(3))
    return NoiseSet(coefficients, order=(3, 1, 0, 2, 5, 4), **about)


@pytest.fixture
def file() -> Iterator[Path]:
    path = Path(folder_paths.get_input_directory(), FILE)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the node wrote into itself."""
    lines: list[str] = []
    monkeypatch.setattr(seeds, "write", lambda text, node: lines.append(text))
    assert seeds.write is not monitor.write
    return lines


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_models.model("sdxl")


def ksampler(model: Any, batch: int = 3) -> torch.Tensor:
    prompt, latent = tiny_models.conditioning("sdxl"), {"samples": torch.zeros(batch, 4, 8, 8)}
    return nodes.KSampler().sample(model, SEED, 2, 1.0, "euler", "simple", prompt, prompt, latent)[0]["samples"]


def advanced(model: Any, noise: Any, batch: int = 3) -> torch.Tensor:
    guider = custom.BasicGuider.execute(model, tiny_models.conditioning("sdxl"))[0]
    sigmas, euler = custom.BasicScheduler.execute(model, "simple", 2, 1.0)[0], custom.KSamplerSelect.execute("euler")[0]
    latent = {"samples": torch.zeros(batch, 4, 8, 8)}
    return custom.SamplerCustomAdvanced.execute(noise, guider, euler, sigmas, latent)[0]["samples"]


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_a_ksampler_starts_as_with_noise_set_bit_for_bit(model: Any, file: Path, strength: float) -> None:
    save_set(file, found())
    wanted = advanced(model, NoiseSetNode.execute(FILE, SEED, strength, "by seed")[0])
    assert torch.equal(ksampler(SEEDS.execute(model, FILE, strength)[0]), wanted)
    wired = SEEDS.execute(model, "auto", strength, SetNoise(found(), 77))[0]
    assert torch.equal(ksampler(wired), wanted)
    assert not torch.allclose(ksampler(model), wanted, atol=0.1)


def test_auto_takes_the_set_that_was_found_for_this_kind_of_network(model: Any, file: Path, said: list[str]) -> None:
    pink = SEEDS.execute(model, "auto", 1.0)[0]
    assert "no set for this model" in said[-1]
    assert torch.equal(ksampler(pink), advanced(model, PinkNoise.execute(SEED, seeds.ALPHA, "paper")[0]))
    save_set(file, found(settings={"layout": layout(tiny_models.model("sd15"))}))
    SEEDS.execute(model, "auto", 1.0)
    assert "no set for this model" in said[-1]
    save_set(file, found(settings={"layout": layout(model)}))
    assert SEEDS.fingerprint_inputs("auto") != SEEDS.fingerprint_inputs("pink noise")
    taken = SEEDS.execute(model, "auto", 1.0)[0]
    assert said[-1] == "6 patterns"
    assert torch.equal(ksampler(taken), ksampler(SEEDS.execute(model, FILE, 1.0)[0]))


@pytest.mark.parametrize("model", demo.MODELS)
def test_auto_takes_the_shipped_set_for_the_models_of_the_demo(model: str, said: list[str]) -> None:
    SEEDS.execute(demo.LoadDemo.execute(model)[0], "auto", 0.5)
    assert said[-1].startswith("16 patterns")


def test_finetunes_and_loras_have_the_layout_of_their_model(model: Any) -> None:
    finetune, lora = tiny_models.model("sdxl", seed=9), model.clone()
    name = next(name for name in model.model.state_dict() if name.endswith("to_q.weight"))
    lora.add_patches({name: ("diff", (torch.ones_like(model.model.state_dict()[name]),))})
    assert layout(finetune) == layout(lora) == layout(model) != layout(tiny_models.model("sd15"))


@pytest.mark.parametrize("set", ["auto", "pink noise"])
def test_strength_0_is_the_model_itself(model: Any, set: str, said: list[str]) -> None:
    assert SEEDS.execute(model, set, 0.0)[0] is model
    assert said == ["off: strength is 0"]


def test_pink_noise_wired_in_counts_with_its_spectrum(model: Any) -> None:
    noise = PinkNoise.execute(0, -0.3, "power law")[0]
    blue = SEEDS.execute(model, "auto", 1.0, noise)[0]
    assert torch.equal(ksampler(blue), advanced(model, PinkNoise.execute(SEED, -0.3, "power law")[0]))


@pytest.mark.parametrize("pattern", ["in order", 2])
def test_a_noise_set_wired_in_counts_with_its_pattern_and_strength(model: Any, pattern: Any) -> None:
    wired = SEEDS.execute(model, "auto", 0.5, SetNoise(found(), 77, 0.8, pattern))[0]
    assert torch.equal(ksampler(wired), advanced(model, SetNoise(found(), SEED, 0.4, pattern)))


def test_what_cannot_serve_every_seed_is_refused(model: Any, file: Path) -> None:
    fixed = FixedNoise(torch.randn(3, 4, 8, 8, generator=tiny_models.generator()))
    for noise in (fixed, custom.Noise_RandomNoise(3)):
        with pytest.raises(ValueError, match="wire Noise Set"):
            SEEDS.execute(model, "auto", 1.0, noise)
    save_set(file, found(channels=16))
    with pytest.raises(ValueError, match="16 channels"):
        SEEDS.execute(model, FILE, 1.0)
    assert "no such" in SEEDS.validate_inputs(set="gone.safetensors")


def test_noise_optimize_asks_for_noise_set_in_its_place(model: Any) -> None:
    diverse = SEEDS.execute(model, "pink noise", 1.0)[0]
    assert starts_elsewhere(diverse)
    guider = custom.BasicGuider.execute(diverse, tiny_models.conditioning("sdxl"))[0]
    sigmas, euler = custom.BasicScheduler.execute(model, "simple", 2, 1.0)[0], custom.KSamplerSelect.execute("euler")[0]
    objective = Diversity(features=LatentFeatures())
    with pytest.raises(ValueError, match="take Diverse Seeds off"):
        NoiseOptimize.PREPARE_CLASS_CLONE(None).execute(
            custom.Noise_RandomNoise(3), guider, euler, sigmas, {"samples": torch.zeros(2, 4, 8, 8)}, objective,
            iterations=0,
        )  # fmt: skip
