"""Whatever comes into a node: it works and is right, or one sentence says which wire or widget is wrong.

The tables hold what a graph can bring: through wires without a kind, other packs' nodes, posted graphs and files. Every
node gets every odd value of the kind of each of its inputs, with all else as it should be.
"""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import comfy.samplers
import folder_paths
import host_gradients as gradients
import pytest
import tiny_models
import tiny_networks
import torch
from comfy.nested_tensor import NestedTensor
from comfy.utils import repeat_to_batch_size
from comfy_api.v0_0_2 import io
from comfy_extras.nodes_advanced_samplers import SamplerLCMUpscale
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

from noise_optimize.nodes import GROUPS, sockets
from noise_optimize.nodes.host.wires import DifferentiableSampler
from noise_optimize.nodes.latents import ColouredNoise, FixedNoise, SetNoise
from noise_optimize.noise import files, find_set
from noise_optimize.noise.coloured import Spectrum
from noise_optimize.noise.patterns import NoiseSet
from noise_optimize.noise.set_files import save_set
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.colour import ColourFeatures
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.guards import DetailGuard

NODES = {node.GET_SCHEMA().node_id.removeprefix("NoiseOptimize"): node for group in GROUPS for node in group.NODES}
NODES["Optimize"] = NODES.pop("")
SIZE = (2, 4, 8, 8)
NAN, INF = float("nan"), float("inf")


class Foreign:
    """A NOISE of another pack."""

    def __init__(self, found, seed=0):
        self.found, self.seed = found, seed

    def generate_noise(self, latent):
        return self.found


def latent(*size, dtype=torch.float32, **extra):
    return {"samples": torch.zeros(size or SIZE, dtype=dtype), **extra}


def pictures(*size, dtype=torch.float32):
    return torch.rand(size, generator=tiny_models.generator(1)).to(dtype)


def noise(*size):
    return torch.randn(size or SIZE, generator=tiny_models.generator(2))


def diversity(features, **options):
    return Diversity(features=features, statistic="pairwise", **options)


def conditioning():
    return tiny_models.conditioning("sd15", 0, 1)


made = functools.partial  # of what the host holds on to: made when its test runs


NOT_A_WIRE = {
    "nothing": None,
    "a number": 3,
    "text": "x",
    "a list": [1],
    "a dict": {},
    "a tensor": torch.zeros(2, 3, dtype=int),
    "an object": SimpleNamespace(),
}
INDICES = {
    "too short": [0],
    "too long": [0, 1, 2],
    "empty": [],
    "negative": [0, -1],
    "nested": [[0], [1]],
    "of decimals": [0.0, 1.0],
    "of texts": ["0", "1"],
    "a tensor": torch.tensor([0, 1]),
    "a number": 1,
    "none": None,
    "doubled": [3, 3],
    "of a larger batch": [5, 2],
}
MASKS = {
    "a number": 1.0,
    "of no pixels": torch.ones(1, 0, 8),
    "all 0": torch.zeros(1, 8, 8),
    "of another size": torch.ones(3, 5, 7),
    "of true and false": torch.ones(1, 8, 8, dtype=bool),
    "half": torch.arange(64).reshape(1, 8, 8) / 64,
}
ODD = {
    io.Latent: {
        "no samples": latent(0, 4, 8, 8),
        "no pixels": latent(2, 4, 0, 8),
        "2 dimensions": latent(8, 8),
        "6 dimensions": latent(1, 4, 1, 1, 8, 8),
        "whole numbers": latent(dtype=torch.int64),
        "fp8": latent(dtype=torch.float8_e4m3fn),
        "bfloat16": latent(dtype=torch.bfloat16),
        "float64": latent(dtype=torch.float64),
        "samples is None": {"samples": None},
        "one sample": latent(1, 4, 8, 8),
        "nested": {"samples": NestedTensor([torch.zeros(2, 8, 3, 4, 6), torch.zeros(2, 8, 5, 16)])},
        "video": latent(2, 4, 3, 8, 8),
        "sound": latent(2, 64, 9),
        "one pixel": latent(2, 4, 1, 1),
        "of another model": {"samples": torch.ones(2, 16, 8, 8)},
        "a line": latent(2, 4, 1, 64),
        "with notes on its size": latent(downscale_ratio_spacial=8, downscale_ratio_temporal=None),
        **{f"batch_index {name}": latent(batch_index=index) for name, index in INDICES.items()},
        **{f"mask {name}": latent(noise_mask=mask) for name, mask in MASKS.items()},
    },
    io.Noise: {
        "another size": Foreign(noise(2, 4, 5, 5)),
        "another count": Foreign(noise(3, 4, 8, 8)),
        "one for all": Foreign(noise(1, 4, 8, 8)),
        "NaN": Foreign(noise() * NAN),
        "infinite": Foreign(noise() * INF),
        "fp8": Foreign(noise().to(torch.float8_e4m3fn)),
        "bfloat16": Foreign(noise().bfloat16()),
        "float64": Foreign(noise().double()),
        "gives nothing": Foreign(None),
        "nested": Foreign(NestedTensor([noise(), noise()])),
        "all 0": Foreign(noise() * 0),
        "seed 2**64": Foreign(noise(), 2**64),
        "seed too low": Foreign(noise(), -(2**63) - 1),
        "no seed": Foreign(noise(), None),
        "half a seed": Foreign(noise(), 0.5),
        "a seed in words": Foreign(noise(), "1"),
        "largest seed": Foreign(noise(), 2**64 - 1),
        "negative seed": Foreign(noise(), -1),
        "given, another size": FixedNoise(noise(2, 4, 5, 5)),
        "given, fewer": FixedNoise(noise(1, 4, 8, 8)),
        "given, more": FixedNoise(noise(5, 4, 8, 8)),
        "given, another place": FixedNoise(noise(), batch_index=[4, 7]),
        "coloured": ColouredNoise(0, Spectrum(alpha=0.2)),
    },
    io.Guider: {
        "without prompts": made(lambda: comfy.samplers.CFGGuider(gradients.small_model())),
        "of another model": made(gradients.tiny_guider, "flux_schnell"),
        "no model": SimpleNamespace(sample=len, set_conds=len, model_patcher=None, original_conds={}),
    },
    io.Sampler: {
        "function": len,
        "adaptive": comfy.samplers.ksampler("dpm_adaptive"),
        "bislerp": SamplerLCMUpscale.execute(1.0, -1, "bislerp").args[0],
        "enlarging": SamplerLCMUpscale.execute(2.0, -1, "bilinear").args[0],
        "low": DifferentiableSampler(comfy.samplers.ksampler("euler"), "low", 1),
        "twice": DifferentiableSampler(DifferentiableSampler(comfy.samplers.ksampler("heun"))),
    },
    io.Sigmas: {
        "none": torch.zeros(0),
        "one": torch.ones(1),
        "NaN": torch.tensor([1.0, NAN, 0.0]),
        "infinite": torch.tensor([INF, 1.0, 0.0]),
        "whole numbers": torch.tensor([14, 1, 0]),
        "a table": torch.ones(2, 3),
        "float64": torch.tensor([14.0, 1.0, 0.0]).double(),
        "upwards": torch.tensor([0.0, 1.0, 14.0]),
        "all 0": torch.zeros(3),
        "the same": torch.full((3,), 5.0),
        "below 0": -torch.ones(3),
    },
    io.Vae: {"of another family": made(tiny_models.vae, 16), "without a network": SimpleNamespace(decode=len)},
    io.Image: {
        "grey": pictures(2, 16, 16, 1),
        "two channels": pictures(2, 16, 16, 2),
        "transparent": pictures(2, 16, 16, 4),
        "no pictures": pictures(0, 16, 16, 3),
        "one picture": pictures(1, 16, 16, 3),
        "no batch": pictures(16, 16, 3),
        "whole numbers": pictures(2, 16, 16, 3).mul(255).byte(),
        "NaN": pictures(2, 16, 16, 3) * NAN,
        "no width": pictures(2, 16, 0, 3),
        "bfloat16": pictures(2, 16, 16, 3, dtype=torch.bfloat16),
        "float64": pictures(2, 16, 16, 3).double(),
        "channels first": pictures(2, 3, 16, 16),
        "one pixel": pictures(2, 1, 1, 3),
        "beyond 0..1": pictures(2, 16, 16, 3) * 40 - 20,
        "a line": pictures(2, 1, 200, 3),
        "another size": pictures(3, 24, 40, 3),
        "video": pictures(2, 3, 16, 16, 3),
    },
    io.Model: {
        "of flow": made(gradients.small_model, "flow"),
        "of another family": made(tiny_models.model, "flux_schnell"),
    },
    io.Conditioning: {
        "of nothing": [],
        "without its notes": [[torch.zeros(1, 4, 8)]],
        "of two parts": made(lambda: conditioning() * 2),
    },
    io.ClipVision: {"without a network": SimpleNamespace(encode_image=len)},
    sockets.Features: {"of latents": LatentFeatures(grid=64), "of pictures": ColourFeatures()},
    sockets.Objective: {
        "of latents": diversity(LatentFeatures(grid=64)),
        "of pictures": diversity(ColourFeatures()),
        "only a guard": DetailGuard(),
        "weight 0": diversity(LatentFeatures(), weight=0.0),
        "negative": diversity(LatentFeatures(), weight=-1.0),
        "reached": diversity(LatentFeatures(), target=0.0),
    },
    io.String: {
        "empty": "",
        "blank": "   ",
        "very long": "x" * 5000,
        "of zeros": "a\0b",
        "of lines": "a\nb",
        "letters of all kinds": 'é日本🙂/..\\*?"<>|',
    },
}
NUMBERS = {
    "NaN": NAN,
    "infinite": INF,
    "text": "7",
    "nothing": None,
    "huge": 2**70,
    "below all": -(2**70),
    "a tensor": torch.ones(2),
}


@functools.cache
def usual():
    """What each kind of input gets where it is not the one that is odd."""
    guider = gradients.small_guider()
    return {
        io.Noise: Noise_RandomNoise(0),
        io.Guider: guider,
        io.Sampler: comfy.samplers.ksampler("euler"),
        io.Sigmas: gradients.sigmas(guider, 2),
        io.Latent: latent(),
        io.Vae: tiny_models.vae(4),
        io.Image: pictures(2, 64, 64, 3),
        io.Model: gradients.small_model(),
        io.Conditioning: conditioning(),
        io.ClipVision: tiny_networks.clip_vision(),
        sockets.Features: LatentFeatures(),
        sockets.Objective: diversity(LatentFeatures()),
    }


SETTINGS = {"iterations": 1, "candidates": 3, "keep": 2}
CHOICES = {
    "DINOFeatures": {"model": "DINOv2 ViT-S/14"},
    "Measure": {"objective": diversity(ColourFeatures())},
    "FindSet": {"noise": SetNoise(NoiseSet(torch.ones(4, 4, 3, 3)), 0)},
}
PROMPTS = 3  # of nodes that take many, each as a list
WAYS = {
    "no iterations": {"iterations": 0},
    "without a gradient": {"optimizer": "cma", "population": 3},
    "coarse": {"basis": "low frequency"},
    "a set": {"total_pictures": 3},
    "a set one by one": {"total_pictures": 5, "iterations": 0},
}


def kind(each):
    """The kind of a wire, or the class of a widget."""
    return next((kind for kind in ODD if kind.io_type == each.get_io_type()), type(each))


def fitting(each):
    """A value that fits an input."""
    if isinstance(each, io.Autogrow.Input):
        first = each.template.get_all()[0]
        return {first.id: fitting(first)}
    if isinstance(each, io.DynamicCombo.Input):
        chosen = each.options[-1]
        return {each.id: chosen.key, **{inner.id: fitting(inner) for inner in chosen.inputs}}
    if kind(each) in ODD and kind(each) is not io.String:
        return usual()[kind(each)]
    default = each.default if each.default is not None else "a house"
    return SETTINGS.get(each.id, each.options[0] if isinstance(each, io.Combo.Input) else default)


def odd(each):
    """(label, value, whether it is wrong for sure) of all that an input can get and should not."""
    if isinstance(each, io.Autogrow.Input):
        first = each.template.get_all()[0]
        yield from ((label, {first.id: value}, wrong) for label, value, wrong in odd(first))
    elif isinstance(each, io.DynamicCombo.Input):
        yield "another key", {each.id: "no such choice"}, True
        for option in each.options:
            for inner in option.inputs:
                for label, value, wrong in odd(inner):
                    yield f"{inner.id} {label}", {each.id: option.key, inner.id: value}, wrong
    elif isinstance(each, io.Combo.Input):
        yield from (
            (label, value, True) for label, value in {"another": "no such choice", "empty": "", "a number": 3}.items()
        )
    elif isinstance(each, (io.Int.Input, io.Float.Input)):
        limits = {"too low": each.min - 1 if each.min is not None else -INF, "too high": (each.max or 0) * 2 + 1}
        yield from ((label, value, True) for label, value in (NUMBERS | limits).items())
        yield "lowest", each.min, False
    elif isinstance(each, io.Boolean.Input):
        yield from ((label, value, True) for label, value in {"a number": 3, "text": "yes", "nothing": None}.items())
    else:
        wrong = NOT_A_WIRE | ({} if kind(each) is not io.String else {"text": 3})
        yield from ((label, value, not (each.optional and value is None)) for label, value in wrong.items())
        yield from ((label, value, False) for label, value in ODD[kind(each)].items())


CASES = [
    pytest.param(name, each.id, value, wrong, {}, id=f"{name}-{each.id}-{label}")
    for name, node in NODES.items()
    for each in node.define_schema().inputs
    for label, value, wrong in odd(each)
] + [
    pytest.param("Optimize", each.id, value, wrong, settings, id=f"Optimize-{way}-{each.id}-{label}")
    for way, settings in WAYS.items()
    for each in NODES["Optimize"].define_schema().inputs
    for label, value, wrong in (odd(each) if kind(each) in (io.Latent, io.Noise, io.Sigmas) else ())
]


@pytest.fixture(scope="module", autouse=True)
def weights():
    """The files that nodes look for: networks in models/noise_optimize, a noise in the input folder."""
    folder = Path(folder_paths.models_dir, "noise_optimize")
    tiny_networks.install(folder)
    files.save(Path(folder_paths.get_input_directory(), "kept.safetensors"), files.NoiseFile((noise(),)))
    save_set(Path(folder_paths.get_input_directory(), "a_set.safetensors"), NoiseSet(torch.ones(4, 4, 3, 3)))
    yield
    usual.cache_clear()
    shutil.rmtree(folder)  # other tests look for the same networks and must not find these


def names(each):
    """All names by which a user knows an input."""
    if isinstance(each, io.Autogrow.Input):
        return {each.id, each.template.input.id}
    options = each.options if isinstance(each, io.DynamicCombo.Input) else ()
    return {each.id, *(inner.id for option in options for inner in option.inputs)}


def is_sentence(text, node):
    """Whether it is short, one line, and says which input of the node is wrong."""
    known = set().union(*map(names, node.define_schema().inputs))
    return len(text) < 400 and text.endswith(".") and "\n" not in text and known & set(re.findall(r"\w+", text))


def tensors(result):
    """Every tensor of an output of a node."""
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, dict) and "samples" in result:
        yield from result["samples"].unbind() if result["samples"].is_nested else [result["samples"]]


@pytest.fixture
def calls(monkeypatch):
    """A list with an entry for each call of the model."""
    counted, forward = [], gradients.TwoLayers.forward
    monkeypatch.setattr(find_set, "LOOKS", 1)
    monkeypatch.setattr(
        gradients.TwoLayers, "forward", lambda *args, **more: counted.append(1) or forward(*args, **more)
    )
    return counted


@pytest.mark.parametrize("name, input, value, wrong, settings", CASES)
@torch.inference_mode()
def test_an_odd_input_works_or_gets_one_sentence(name, input, value, wrong, settings, calls):
    node = NODES[name]
    given = {each.id: fitting(each) for each in node.define_schema().inputs}
    given |= CHOICES.get(name, {}) | settings | {input: value() if isinstance(value, made) else value}
    if node.GET_SCHEMA().is_input_list:
        given = {
            name: [value] * (PROMPTS if name in ("conditioning", "prompts") else 1) for name, value in given.items()
        }
    try:
        results = node.PREPARE_CLASS_CLONE(None).execute(**given).args
    except (ValueError, RuntimeError) as error:
        assert is_sentence(str(error), node), str(error)
        assert not calls, "the model ran before anything was said"
        return
    assert not wrong
    assert all(tensor.isfinite().all() for result in results for tensor in tensors(result))
    if name in ("Optimize", "Search") and "total_pictures" not in settings:  # what any sampler makes of the noise
        found, shown = results[:2]
        image = {
            **given["latent_image"],
            "samples": repeat_to_batch_size(given["latent_image"]["samples"], len(found.samples)),
        }
        if name == "Search":
            image.pop("batch_index", None)
        wires = {wire: given[wire] for wire in ("guider", "sampler", "sigmas")}
        assert (
            SamplerCustomAdvanced.execute(found, latent_image=image, **wires).args[0]["samples"].equal(shown["samples"])
        )
