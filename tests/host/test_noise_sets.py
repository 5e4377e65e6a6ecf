"""Noise Set inside the host: Random Noise with patterns in it, listed, saved, loaded and refused."""

from functools import partial

import comfy.sample
import comfy.samplers
import comfy_extras.nodes_custom_sampler as samplers
import folder_paths
import host_gradients
import pytest
import tiny_models
import tiny_quantised
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

from noise_optimize.nodes import noise_sets
from noise_optimize.nodes.files import LoadNoise, SaveNoise
from noise_optimize.nodes.latents import BY_SEED, IN_ORDER, SetNoise
from noise_optimize.nodes.noise_sets import NoiseSetNode
from noise_optimize.nodes.prompts import EVERYDAY, PromptList
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import load_set, save_set


def patterns(channels=4, **about):
    coefficients = torch.randn(8, channels, 3, 3, generator=torch.Generator().manual_seed(3))
    return NoiseSet(coefficients, order=(3, 1, 0, 2, 7, 6, 5, 4), **about)


def latent(*shape, dtype=torch.float32, **extra):
    return {"samples": torch.zeros(shape, dtype=dtype), **extra}


def nested():
    return {"samples": NestedTensor([torch.zeros(2, 4, 3, 4, 6), torch.zeros(2, 8, 5, 16)])}


def equal(one, other):
    pairs = zip(one.unbind(), other.unbind(), strict=True) if one.is_nested else [(one, other)]
    return all(a.equal(b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
@pytest.mark.parametrize(
    "made_for",
    [
        *(latent(2, 4, *size) for size in ((8, 8), (5, 7), (1, 1), (3, 6, 5), (9,))),
        latent(3, 4, 8, 8, batch_index=[4, 1, 4]),
        latent(1, 4, 8, 8, dtype=torch.bfloat16),
        nested(),
    ],
)
def test_at_strength_0_it_is_the_hosts_random_noise_bit_for_bit(made_for, seed):
    made = SetNoise(patterns(), seed, 0.0).generate_noise(made_for)
    assert equal(made, Noise_RandomNoise(seed).generate_noise(made_for))


@pytest.mark.parametrize("made_for", [latent(2, 4, 8, 8), nested(), latent(1, 4, 8, 8, dtype=torch.bfloat16)])
def test_otherwise_it_is_that_noise_with_the_patterns_of_its_seed_in_it(made_for):
    made, host = (n.generate_noise(made_for) for n in (SetNoise(patterns(), 5, 0.7), Noise_RandomNoise(5)))
    if made.is_nested:
        (made, sound), (host, plain) = made.unbind(), host.unbind()
        assert sound.equal(plain)
    if made.dtype == torch.float32:
        assert made.equal(patterns().applied(host, patterns().numbers(5, range(len(host))), 0.7))
    assert made.dtype == host.dtype and not made.equal(host)


def test_a_picture_has_its_own_noise_and_pattern_wherever_it_is_in_a_batch():
    whole = SetNoise(patterns(), 5).generate_noise(latent(1, 4, 8, 8, batch_index=[3]))
    some = SetNoise(patterns(), 5).generate_noise(latent(2, 4, 8, 8, batch_index=[1, 3]))
    assert some[1:].equal(whole) and not some[0].equal(some[1])


def low(noise):
    """(B, C, 3, 3) the coefficients in which a pattern is."""
    import scipy.fft

    return torch.from_numpy(scipy.fft.dctn(noise.double().numpy(), axes=(-2, -1), norm="ortho"))[..., :3, :3]


@pytest.mark.parametrize(
    "seed,pattern,expected",
    [(0, BY_SEED, [3, 1, 0, 2]), (6, BY_SEED, [5, 4, 3, 1]), (6, IN_ORDER, [3, 1, 0, 2]), (6, 4, [4, 4, 4, 4])],
)
@pytest.mark.parametrize("size", [(8, 8), (12, 6)])
def test_which_pattern_a_picture_has(seed, pattern, expected, size):
    noise = SetNoise(patterns(), seed, 1.0, pattern).generate_noise(latent(4, 4, *size))
    torch.testing.assert_close(low(noise), patterns().coefficients[expected].double(), rtol=0, atol=1e-5)
    assert len(noise.flatten(1).unique(dim=0)) == 4


@pytest.mark.parametrize("index", [None, [4, 0, 0]])
def test_it_leaves_the_hosts_random_state_as_random_noise_does(index):
    empty = latent(3, 4, 8, 8) | ({} if index is None else {"batch_index": index})
    torch.manual_seed(11)
    comfy.sample.prepare_noise(empty["samples"], 5, index)
    expected = torch.rand(3)
    torch.manual_seed(12)
    SetNoise(patterns(), 5).generate_noise(empty)
    assert torch.rand(3).equal(expected)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A set of four channels in each of the three folders, and the name by which the node knows it."""
    for kind in ("input", "output", "models"):
        (tmp_path / kind).mkdir()
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
    monkeypatch.setattr(noise_sets, "own_folders", lambda: [str(tmp_path / "models")])
    found = patterns(model="SDXL", latent_format="SDXL", prompts=("a house",), unseen=("a cat",))
    for kind in ("input", "output", "models"):
        save_set(tmp_path / kind / "mine.safetensors", found)
        (tmp_path / kind / "other.safetensors").write_bytes(b"no set")
    (tmp_path / "outside.safetensors").write_bytes((tmp_path / "input" / "mine.safetensors").read_bytes())
    return ["mine.safetensors", "mine.safetensors [output]", "mine.safetensors [models]"]


def test_the_list_has_the_sets_of_each_folder_and_nothing_else(saved):
    names = [name for name in noise_sets.set_names() if name not in noise_sets.SHIPPED]
    assert sorted(names) == sorted(saved)
    for name in saved:
        assert NoiseSetNode.validate_inputs(name) is True
        noise, report = NoiseSetNode.execute(name, 3, 1.0, BY_SEED).args
        assert noise.generate_noise(latent(2, 4, 8, 8)).equal(
            SetNoise(patterns(), 3).generate_noise(latent(2, 4, 8, 8))
        )
        assert "8 patterns of 3 x 3" in report and "Not seen while finding: a cat" in report


@pytest.mark.parametrize(
    "name,reason",
    [
        ("other.safetensors [models]", "is damaged or no safetensors file"),
        ("gone.safetensors [output]", "there is no such noise set; choose one"),
        ("gone.safetensors [models]", "is not in models/noise_optimize; choose one"),
        ("../outside.safetensors [models]", "is not in models/noise_optimize; choose one"),
        ("../outside.safetensors", "leads outside ComfyUI's folders"),
    ],
)
def test_a_file_that_is_no_set_of_the_folders_is_refused_before_the_graph_runs(saved, name, reason):
    assert reason in NoiseSetNode.validate_inputs(name)


def test_a_changed_file_is_read_anew(saved, tmp_path):
    before = NoiseSetNode.fingerprint_inputs(saved[0], seed=1)
    save_set(tmp_path / "input" / "mine.safetensors", patterns(model="another"))
    assert NoiseSetNode.fingerprint_inputs(saved[0], seed=1) != before


def test_a_set_of_another_kind_of_latents_is_refused(saved):
    with pytest.raises(ValueError, match=r"4 channels of SDXL \(SDXL\), and this latent has 16; choose a set"):
        NoiseSetNode.execute(saved[0], 3, 1.0, BY_SEED).args[0].generate_noise(latent(1, 16, 8, 8))
    node = partial(NoiseSetNode.execute, saved[0], 3, 1.0, BY_SEED)
    node(model=tiny_models.model("sdxl"))
    with pytest.raises(ValueError, match=r"4 channels of SDXL \(SDXL\), and the model has 4 \(SD15\); choose a set"):
        node(model=tiny_models.model("sd15"))
    with pytest.raises(ValueError, match=r"and the model has 16 \(Flux\); choose a set"):
        node(model=tiny_models.model("flux_schnell"))
    with pytest.raises(ValueError, match=r"number is 9 and the set has 8 patterns; set it to 8 or less"):
        NoiseSetNode.execute(saved[0], 3, 1.0, "chosen", 9)


def test_save_noise_and_load_noise_carry_a_set(saved, tmp_path):
    kept = patterns(size=(8, 6), model="SDXL", settings={"iterations": 40})
    saving = SaveNoise.execute(SetNoise(kept, 7, 0.5), latent(1, 16, 4, 4), "sets/mine")
    (entry,) = saving.ui["noise"]
    name = f"sets/{entry['filename']} [output]"
    assert name in noise_sets.set_names()
    loaded = load_set(tmp_path / "output" / "sets" / entry["filename"])
    assert loaded.coefficients.equal(kept.coefficients) and loaded.settings == kept.settings
    assert LoadNoise.validate_inputs(name) is True
    noise, as_latent = LoadNoise.execute(name).args
    assert noise.generate_noise(latent(2, 4, 5, 9)).equal(SetNoise(kept, 0).generate_noise(latent(2, 4, 5, 9)))
    assert as_latent["samples"].shape == (8, 4, 8, 6)
    torch.testing.assert_close(
        low(as_latent["samples"]), kept.coefficients[list(kept.order)].double(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("stored", ["int8_tensorwise", "float8_e4m3fn"])
def test_a_quantised_model_uses_it_without_a_gradient(stored):
    with torch.inference_mode():
        model, made_for = tiny_quantised.model("sd15", stored), tiny_models.latent("sd15", 8, 8, 2)
        guider = host_gradients.guider(model, tiny_models.conditioning("sd15", 0, 1))
        wires = {
            "guider": guider,
            "sampler": comfy.samplers.sampler_object("euler"),
            "sigmas": host_gradients.sigmas(guider, 2),
            "latent_image": made_for,
        }

        def sampled(noise):
            return samplers.SamplerCustomAdvanced.execute(noise=noise, **wires).args[0]["samples"]

        made = sampled(SetNoise(patterns(), 5))
        assert made.isfinite().all() and not made.equal(sampled(Noise_RandomNoise(5)))
        assert sampled(SetNoise(patterns(), 5, 0.0)).equal(sampled(Noise_RandomNoise(5)))


def test_the_prompt_list_has_32_different_prompts_and_leaves_out_empty_lines():
    (schema,) = PromptList.define_schema().inputs
    assert len(EVERYDAY) == len(set(EVERYDAY)) == 32
    assert PromptList.execute(schema.default).args[0] == list(EVERYDAY)
    assert PromptList.execute("a cat \n\n  a dog").args[0] == ["a cat", "a dog"]
    with pytest.raises(ValueError, match="prompts is empty; write one prompt a line"):
        PromptList.execute(" \n")
