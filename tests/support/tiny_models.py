"""Models with the layout of the real ones, through the host's own classes, a few thousand times smaller.

Weights are random and the same on every run: own generator, fixed seed. Import only where the host is importable.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import torch
from torch import Tensor, nn

SEED = 2601_00090
CONTEXT, POOLED, TOKENS = 32, 16, 6


@dataclass(frozen=True)
class Architecture:
    """One row of a table: a model class of the host, and what makes a tiny model of it that can be sampled.

    model: its name in comfy.supported_models. network: the sizes of its network. latent: (C, ..., H, W).
    context: the width of a prompt's token features. extras: what its conditionings hold beside them; a shape stands for
        random values of it with a batch before, a list for a list of such, and a function of (batch, generator) for
        what it gives.
    checkpoint: shapes that the class reads from its state dict. smaller: classes of the network's module, by name, that
        are built with these arguments because the network leaves no choice; None leaves the part out.
    one_prompt: whether the host takes only one prompt for all samples. special: what a gradient has to mind in it.
    """

    model: str
    network: dict
    latent: tuple[int, ...]
    context: int = CONTEXT
    extras: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, tuple[int, ...]] = field(default_factory=dict)
    smaller: dict[str, dict | None] = field(default_factory=dict)
    one_prompt: bool = False
    special: str = ""


UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "legacy": False,
}
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": POOLED,
    "context_in_dim": CONTEXT,
    "hidden_size": 128,
    "num_heads": 1,
    "mlp_ratio": 2.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": False,
    "txt_ids_dims": [],
}
SDXL_SIZES = 6 * 256
ARCHITECTURES = {
    "sd15": Architecture("SD15", UNET | {"use_linear_in_transformer": False}, (4, 8, 8)),
    "sd15 with attention everywhere": Architecture(
        "SD15",
        UNET
        | {"use_linear_in_transformer": False, "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1]},
        (4, 8, 8),
    ),
    "sdxl": Architecture(
        "SDXL",
        UNET | {"num_classes": "sequential", "adm_in_channels": POOLED + SDXL_SIZES},
        (4, 8, 8),
        extras={"pooled_output": (POOLED,)},
    ),
    "flux_schnell": Architecture("FluxSchnell", FLUX, (16, 8, 8), extras={"pooled_output": (POOLED,)}),
}


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def randomise(module: nn.Module, seed: int = SEED) -> nn.Module:
    """Fill all that a checkpoint holds: matrices keep the size of their input, gains stay near one, shifts near zero.

    The host leaves parameters and saved buffers (SD 3's table of positions) as the memory happened to be. A buffer that
    is not saved is computed by its module and stays.
    """
    source, saved = generator(seed), module.state_dict().keys()
    buffers = [(name, b) for name, b in module.named_buffers() if name in saved and b.is_floating_point()]
    for name, tensor in (*sorted(module.named_parameters()), *sorted(buffers)):
        value = torch.randn(tensor.shape, generator=source)
        if tensor.ndim > 1:
            value /= tensor[0].numel() ** 0.5
        else:
            value = value * 0.1 + (1.0 if name.endswith(("weight", "scale", "var")) else 0.0)
        tensor.copy_(value)
    return module


def model(name: str | Architecture = "flux_schnell", seed: int = SEED) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of a row, in float32."""
    network = build(row_of(name))
    randomise(network.diffusion_model, seed)
    return comfy.model_patcher.CoreModelPatcher(
        network.eval(),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def build(row: Architecture) -> nn.Module:
    """The host's model of a row, its weights as the memory happened to be."""
    config = getattr(comfy.supported_models, row.model)(row.network)
    config.unet_config |= {name: row.network[name] for name in config.unet_extra_config.keys() & row.network.keys()}
    config.set_inference_dtype(torch.float32, None)
    source = generator()
    checkpoint = {name: torch.randn(shape, generator=source) / 4 for name, shape in row.checkpoint.items()}
    with contextlib.ExitStack() as stack:
        for path, arguments in row.smaller.items():
            module, _, name = path.rpartition(".")
            part = getattr(sys.modules[module], name)
            stack.enter_context(mock.patch(path, _smaller(part, arguments)))
        return config.get_model(checkpoint)


def _smaller(part: type, arguments: dict | None) -> Callable[..., nn.Module]:
    return lambda *args, **kwargs: nn.Identity() if arguments is None else part(*args, **kwargs | arguments)


def row_of(name: str | Architecture) -> Architecture:
    return ARCHITECTURES[name] if isinstance(name, str) else name


def ksampler(model: Any, positive: list, negative: list, samples: Tensor, seed: int, steps: int) -> dict[str, Any]:
    """What KSampler takes: euler, simple, cfg 1, from full noise."""
    return {
        "model": model,
        "seed": seed,
        "steps": steps,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": positive,
        "negative": negative,
        "latent_image": {"samples": samples},
        "denoise": 1.0,
    }


def conditioning(name: str | Architecture = "flux_schnell", seed: int = 0, batch: int = 1) -> list:
    """A CONDITIONING that fits: random token features, and what else the architecture takes."""
    row, source = row_of(name), generator(seed)

    def fill(value: Any) -> Any:
        if callable(value):
            return value(batch, source)
        if isinstance(value, list):
            return [fill(item) for item in value]
        return torch.randn(batch, *value, generator=source) if isinstance(value, tuple) else value

    extras = {name: fill(value) for name, value in row.extras.items()}
    return [[torch.randn(batch, TOKENS, row.context, generator=source), extras]]


def latent(
    name: str | Architecture = "flux_schnell", height: int | None = None, width: int | None = None, batch: int = 1
) -> dict[str, Tensor]:
    """An empty LATENT with the channels of the architecture, and with its size where none is given."""
    *channels, rows, columns = row_of(name).latent
    return {"samples": torch.zeros(batch, *channels, height or rows, width or columns)}


@torch.no_grad()
def vae(channels: int = 4, seed: int = SEED) -> comfy.sd.VAE:
    """A VAE of the TAESD layout (8x), scaled so that latents of unit deviation become pictures around mid grey."""
    network = randomise(comfy.taesd.taesd.TAESD(latent_channels=channels), seed)
    network.vae_scale.fill_(1.0), network.vae_shift.fill_(0.0)
    last = network.taesd_decoder[-1]
    pictures = network.taesd_decoder(torch.randn(4, channels, 8, 8, generator=generator(seed)))
    last.weight.mul_(0.2 / pictures.std())
    last.bias.copy_(0.5 + (last.bias - pictures.mean((0, 2, 3))) * (0.2 / pictures.std()))
    return comfy.sd.VAE(sd=network.state_dict())
