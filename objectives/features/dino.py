"""DINOv2 and DINOv3 features: patches or class token of a self-supervised ViT (arXiv 2304.07193, 2508.10104)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..pretrained.networks import run, shared
from ..pretrained.preprocess import AS_PUBLISHED, Preprocess
from ..pretrained.weights import Progress, Weights, locate, read
from .base import Features

Tokens = Literal["patches", "class"]
PUBLISHED_SIZE = 256


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

    published: what arXiv 2601.00090 and 2508.15773 measure with, and their released code: all of a picture squeezed to
    256 x 256 by bilinear interpolation without filtering, of which the patches leave the last 4 rows and columns out.
    """

    def __init__(
        self,
        network: Any,
        title: str = "DINO",
        tokens: Tokens = "patches",
        size: int = 252,
        chunk: int = 8,
        published: bool = False,
    ):
        """network: as `load_dino` gives it, with the same `published`. size: 252 px are 18 x 18 patches of 14; not
        asked for where published. chunk: pictures at once."""
        from timm.data import resolve_model_data_config

        config, patch = resolve_model_data_config(network), network.patch_embed.patch_size[0]
        if size < patch:
            raise ValueError(f"DINO Features: size is {size} px; set at least one patch, {patch} px.")
        self.name = f"{title} {tokens}" + (AS_PUBLISHED if published else "")
        self.network, self.tokens, self.pictures_at_once, self.patch = network, tokens, chunk, patch
        look = {"mean": config["mean"], "std": config["std"]}
        if published:
            self.preprocess = Preprocess(PUBLISHED_SIZE, "squash", "bilinear, not filtered", **look)
        else:
            self.preprocess = Preprocess(
                round(size / patch) * patch, "whole", config["interpolation"], **look, multiple=patch
            )

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def encode(self, x: Tensor) -> Tensor:
        x = self.preprocess(x)
        height, width = (side // self.patch * self.patch for side in x.shape[-2:])
        x = x[..., :height, :width]
        tokens = run(self.network.forward_features, x, next(self.network.parameters()), self.pictures_at_once)
        return tokens[:, :1] if self.tokens == "class" else tokens[:, self.network.num_prefix_tokens :]


def load_dino(
    title: str,
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    published: bool = False,
) -> nn.Module:
    """The network of a row of MODELS, from a file in timm's or in Meta's own layout.

    published: with the table of positions made smaller without filtering, as transformers does it; for DINOv2.
    """
    weights = MODELS[title]
    if published and "dinov2" not in weights.stem:
        raise ValueError(f"The published form is of DINOv2, and model is {title}: choose a DINOv2, or form its own.")
    path = locate(weights, folders, progress)

    def build() -> nn.Module:
        import timm

        size = {"img_size": PUBLISHED_SIZE // 14 * 14} if published else {}
        network = timm.create_model(weights.stem, pretrained=False, num_classes=0, dynamic_img_size=True, **size)
        convert = sys.modules[type(network).__module__].checkpoint_filter_fn
        network.load_state_dict(convert(read(path), network, antialias=not published))
        return network.to(dtype)

    return shared((path, path.stat().st_mtime_ns, dtype, published), build)
