"""DINOv2 and DINOv3 features: patches or class token of a self-supervised ViT (arXiv 2304.07193, 2508.10104)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..pretrained.networks import run, shared
from ..pretrained.preprocess import Preprocess
from ..pretrained.weights import Progress, Weights, locate, read
from .base import Features

Tokens = Literal["patches", "class"]


def _row(size: str, letter: str, version: int, registers: bool = False) -> Weights:
    patch, data = (14, "lvd142m") if version == 2 else (16, "lvd1689m")
    name = f"vit_{size}_patch{patch}_{'reg4_' if registers else ''}dinov{version}.{data}"
    title = f"DINOv{version} ViT-{letter}/{patch}{' with registers' if registers else ''}"
    licence = "Apache-2.0" if version == 2 else "DINOv3 License (Meta)"
    meta = (f"dinov2_vit{letter.lower()}14_{'reg4_' if registers else ''}pretrain",) if version == 2 else ()
    return Weights(title, name, licence, f"timm/{name}", gated=version == 3, aliases=meta)


MODELS = {
    row.title: row
    for row in (
        *(_row(*size, version=2) for size in (("small", "S"), ("base", "B"), ("large", "L"))),
        *(_row(*size, version=2, registers=True) for size in (("small", "S"), ("base", "B"), ("large", "L"))),
        *(_row(*size, version=3) for size in (("small", "S"), ("base", "B"), ("large", "L"))),
    )
}


class DINOFeatures(Features):
    """(B, P, D) the patch tokens of a DINO network from timm, or its class token (P = 1).

    Pictures are resized so that the shorter side has `size` pixels and both are a multiple of the patch; nothing is cut
    off. For square pictures that is timm's own transform at that size.
    """

    def __init__(self, network: Any, title: str = "DINO", tokens: Tokens = "patches", size: int = 252, chunk: int = 8):
        """network: as `load_dino` gives it. size: 252 px are 18 x 18 patches of 14. chunk: pictures at once."""
        from timm.data import resolve_model_data_config

        config, patch = resolve_model_data_config(network), network.patch_embed.patch_size[0]
        if size < patch:
            raise ValueError(f"DINO Features: size is {size} px; set at least one patch, {patch} px.")
        self.name = f"{title} {tokens}"
        self.network, self.tokens, self.pictures_at_once = network, tokens, chunk
        self.preprocess = Preprocess(
            round(size / patch) * patch, "whole", config["interpolation"], config["mean"], config["std"], patch
        )

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def encode(self, x: Tensor) -> Tensor:
        tokens = run(
            self.network.forward_features, self.preprocess(x), next(self.network.parameters()), self.pictures_at_once
        )
        return tokens[:, :1] if self.tokens == "class" else tokens[:, self.network.num_prefix_tokens :]


def load_dino(
    title: str,
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> nn.Module:
    """The network of a row of MODELS, from a file in timm's or in Meta's own layout."""
    weights = MODELS[title]
    path = locate(weights, folders, progress)

    def build() -> nn.Module:
        import timm

        network = timm.create_model(weights.stem, pretrained=False, num_classes=0, dynamic_img_size=True)
        convert = sys.modules[type(network).__module__].checkpoint_filter_fn
        network.load_state_dict(convert(read(path), network))
        return network.to(dtype)

    return shared((path, path.stat().st_mtime_ns, dtype), build)
