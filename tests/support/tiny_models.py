"""Models with the layout of the real ones, through the host's own classes, a few thousand times smaller.

Weights are random and the same on every run: own generator, fixed seed. Import only where the host is importable.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One row of the table: the host's model class, the sizes of the tiny network, and what its conditioning needs."""

    model: str
    network: dict
    context: int = CONTEXT
    pooled: int | None = None


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
    "sd15": Architecture("SD15", UNET | {"use_linear_in_transformer": False}),
    "sdxl": Architecture(
        "SDXL", UNET | {"num_classes": "sequential", "adm_in_channels": POOLED + SDXL_SIZES}, pooled=POOLED
    ),
    "flux_schnell": Architecture("FluxSchnell", FLUX, pooled=POOLED),
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


def model(name: str = "flux_schnell", seed: int = SEED) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of one row of ARCHITECTURES, in float32."""
    row = ARCHITECTURES[name]
    config = getattr(comfy.supported_models, row.model)(row.network)
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({})
    randomise(network.diffusion_model, seed)
    return comfy.model_patcher.CoreModelPatcher(
        network.eval(),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def conditioning(name: str = "flux_schnell", seed: int = 0, batch: int = 1) -> list:
    """A CONDITIONING that fits: random token features, and a pooled vector where the architecture takes one."""
    row = ARCHITECTURES[name]
    source = generator(seed)
    extras = {} if row.pooled is None else {"pooled_output": torch.randn(batch, row.pooled, generator=source)}
    return [[torch.randn(batch, TOKENS, row.context, generator=source), extras]]


def latent(name: str = "flux_schnell", height: int = 8, width: int = 8, batch: int = 1) -> dict[str, Tensor]:
    """An empty LATENT with the channels of the architecture."""
    return {"samples": torch.zeros(batch, ARCHITECTURES[name].network["in_channels"], height, width)}


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
