"""The demo's model and VAE through the host's own loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import torch
from comfy.taesd.taesd import Block
from torch import Tensor, nn


def load_demo(model: Path, vae: Path) -> tuple[Any, Any]:
    """The MODEL and the VAE of two files; the VAE is laid out as TAESD, padded with zeros."""
    patcher = comfy.sd.load_diffusion_model(str(model), model_options={"dtype": torch.float32})
    small = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(vae)), dtype=torch.float32)
    for part in (small.first_stage_model.taesd_encoder, small.first_stage_model.taesd_decoder):
        drop_zeros(part)
    return patcher, small


@torch.no_grad()
def drop_zeros(layers: nn.Sequential) -> None:
    """Takes out of a TAESD the channels and blocks that are zero: the same function at a fraction of the cost."""
    kept: Tensor | slice = slice(None)

    def narrow(conv: nn.Conv2d, rows: Tensor | slice) -> None:
        conv.weight = nn.Parameter(conv.weight[rows][:, kept].clone(), requires_grad=False)
        if conv.bias is not None:
            conv.bias = nn.Parameter(conv.bias[rows].clone(), requires_grad=False)

    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            rows = slice(None) if layer is layers[-1] else layer.weight.flatten(1).any(1)
            narrow(layer, rows)
            kept = rows
        elif isinstance(layer, Block):
            if not any(weight.any() for weight in layer.parameters()):
                layers[place] = layer.fuse
            else:
                for conv in layer.conv[::2]:
                    narrow(conv, kept)
