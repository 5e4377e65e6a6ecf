"""LPIPS (arXiv 1801.03924) as features: its calibrated activations, whose squared distance is the LPIPS distance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..pretrained.networks import run, shared
from ..pretrained.preprocess import Preprocess
from ..pretrained.weights import Progress, Weights, locate, read
from .base import Features

NETWORKS = {"AlexNet": ("alex", "AlexNet"), "VGG": ("vgg", "VGG16"), "SqueezeNet": ("squeeze", "SqueezeNet1_1")}
EPSILON = 1e-10  # in lpips's own normalisation of the activations


class LPIPSFeatures(Features):
    """(B, 1, D) all activations of an LPIPS network, each layer scaled so that |phi_i - phi_j|^2 is LPIPS(x_i, x_j).

    Their cosine distance, which the diversity statistics use, is LPIPS over the largest LPIPS that activations of this
    strength could have: 0 for identical pictures, 1 for pictures without a common activation.
    """

    def __init__(self, network: Any, size: int = 256, chunk: int = 8):
        """network: an `lpips.LPIPS`, as `load_lpips` gives it. size: px of the shorter side; 0 keeps the pictures'."""
        if size and size < 32:
            raise ValueError(f"LPIPS: size is {size} px; set 32 or more, or 0 to keep the size of the pictures.")
        self.name = f"LPIPS {network.pnet_type}"
        self.network, self.size, self.pictures_at_once = network, size, chunk

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def encode(self, x: Tensor) -> Tensor:
        if self.size:
            x = Preprocess(self.size, "whole", mean=(0, 0, 0), std=(1, 1, 1))(x)
        return run(self._activations, x, next(self.network.parameters()), self.pictures_at_once)[:, None]

    def _activations(self, x: Tensor) -> Tensor:
        """(B, D) for pictures in 0..1; a place without any activation has a gradient of 0 instead of NaN."""
        layers = self.network.net(self.network.scaling_layer(2 * x - 1))
        return torch.cat([self._calibrated(layer, lin) for layer, lin in zip(layers, self.network.lins)], dim=1)

    @staticmethod
    def _calibrated(layer: Tensor, lin: Any) -> Tensor:
        importance = lin.model[-1].weight.clamp(min=0).sqrt()  # trained to be non-negative
        power = layer.square().sum(dim=1, keepdim=True)
        length = torch.where(power > 0, power, torch.ones_like(power)).sqrt()
        area = layer.shape[-2] * layer.shape[-1]
        return (layer / (length + EPSILON) * importance / area**0.5).flatten(1)


def load_lpips(
    title: str,
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> nn.Module:
    """The LPIPS network of a row of NETWORKS: torchvision's trunk and the calibration that comes with lpips."""
    import torchvision

    short, name = NETWORKS[title]
    url = getattr(torchvision.models, f"{name}_Weights").IMAGENET1K_V1.url
    stem = url.rpartition("/")[2].removesuffix(".pth")
    weights = Weights(f"{title}, the trunk of LPIPS", stem, "BSD-3-Clause", url=url)
    path = locate(weights, folders, progress)
    return shared((path, path.stat().st_mtime_ns, dtype), lambda: _build(short, path).to(dtype))


def _build(short: str, path: Path) -> Any:
    import lpips

    with warnings.catch_warnings(), torch.device("meta"):  # the trunk's classifier, which LPIPS drops, is never made
        warnings.simplefilter("ignore")  # lpips calls torchvision with arguments that it calls deprecated
        network = lpips.LPIPS(net=short, pretrained=False, pnet_rand=True, verbose=False)
    network.scaling_layer = type(network.scaling_layer)()
    trunk = read(path)
    layers = {key: "features." + key.split(".", 1)[1] for key in network.net.state_dict()}
    network.net.load_state_dict({key: trunk[name] for key, name in layers.items()}, assign=True)
    calibration = read(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{short}.pth")
    network.load_state_dict(calibration, strict=False, assign=True)
    return network
