"""DreamSim features (arXiv 2306.09344): embeddings tuned to how alike people find pictures, by the package dreamsim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..pretrained.networks import run, shared
from ..pretrained.preprocess import Preprocess
from .base import Features

MODELS = ("ensemble", "dino_vitb16", "dinov2_vitb14", "clip_vitb32", "open_clip_vitb32", "synclr_vitb16")
RAW = Preprocess(224, "squash", mean=(0, 0, 0), std=(1, 1, 1))  # dreamsim normalises inside its network


class DreamSimFeatures(Features):
    """(B, 1, D) the embedding whose cosine distance is the DreamSim distance."""

    def __init__(self, network: Any, title: str = "ensemble", chunk: int = 8):
        self.name, self.network, self.pictures_at_once = f"DreamSim {title}", network, chunk

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def encode(self, x: Tensor) -> Tensor:
        return run(self.network.embed, RAW(x), next(self.network.parameters()), self.pictures_at_once)[:, None]


def load_dreamsim(model: str, folder: str | Path) -> nn.Module:
    """A network of MODELS; the package itself looks for its weights in `folder` and fetches them to there."""
    try:
        from dreamsim import dreamsim
    except ImportError as error:
        raise ValueError(
            "DreamSim Features need the package dreamsim, which is not installed: run `pip install dreamsim` in "
            "ComfyUI's Python and restart, or use DINO Features."
        ) from error

    def build() -> nn.Module:
        hub = torch.hub.get_dir()
        try:
            return dreamsim(pretrained=True, device="cpu", cache_dir=str(folder), dreamsim_type=model)[0]
        except OSError as error:
            raise FileNotFoundError(
                f"The weights of DreamSim {model} are missing, and they could not be fetched ({type(error).__name__}): "
                f"unpack its checkpoint zip into {folder}; license MIT, source the releases of ssundaram21/dreamsim."
            ) from error
        finally:
            torch.hub.set_dir(hub)  # dreamsim moves it

    return shared(("dreamsim", model, str(folder)), build)
