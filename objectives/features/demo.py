"""Features of the demo's drawings: a small convolutional network, trained by contrast and without labels."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..pretrained.networks import run, shared
from .base import Features
from .pooling import area_pool

SIDE = 64  # pixels of the drawings that it was trained on
WIDTH = 32


class Tower(nn.Sequential):
    """(B, 3, SIDE, SIDE) in 0..1 -> (B, outputs): strided convolutions that keep where things are."""

    def __init__(self, outputs: int) -> None:
        layers: list[nn.Module] = []
        for inputs, width, stride in ((3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1), (64, 96, 2)):
            layers += [nn.Conv2d(inputs, width, 3, stride, 1), nn.GroupNorm(4, width), nn.SiLU()]
        layers += [
            nn.Conv2d(96, 32, 1),
            nn.Flatten(),
            nn.SiLU(),
            nn.Linear(512, 128),
            nn.SiLU(),
            nn.Linear(128, outputs),
        ]
        super().__init__(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        return super().forward(pictures * 2 - 1)


class DemoFeatures(Features):
    """(B, 1, WIDTH) what a drawing shows, where, how large and in which colours; other sizes are pooled to SIDE."""

    name = "Demo"

    def __init__(self, network: Tower, chunk: int = 64) -> None:
        """chunk: pictures whose activations are alive at once."""
        self.network, self.pictures_at_once = network, chunk

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    def encode(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < SIDE:
            raise ValueError(f"Demo Features see pictures of at least {SIDE} x {SIDE} pixels; raise the latent's size.")
        x = x if x.shape[-2:] == (SIDE, SIDE) else area_pool(x, SIDE, SIDE)
        return run(self.network, x, next(self.network.parameters()), self.pictures_at_once)[:, None]


def load_tower(path: Path, outputs: int = WIDTH) -> Tower:
    """The network in a safetensors file, in float32; loaded once."""

    def build() -> Tower:
        from safetensors.torch import load_file

        network = Tower(outputs)
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
        return network

    return shared((path, path.stat().st_mtime_ns), build)
