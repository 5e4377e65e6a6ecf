"""CLIP features: the image embedding of any model of open_clip (arXiv 2103.00020)."""

from __future__ import annotations

from torch import Tensor, nn

from ..clip import Clip
from .base import Features


class CLIPFeatures(Features):
    """(B, 1, D) the image embedding, in the space in which CLIP compares pictures with text."""

    def __init__(self, clip: Clip):
        self.name, self.clip = clip.title, clip

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return self.clip.networks

    def encode(self, x: Tensor) -> Tensor:
        return self.clip.images(x)[:, None]
