"""CLIP features: the image embedding of any model of open_clip (arXiv 2103.00020)."""

from __future__ import annotations

from torch import Tensor, nn

from ..pretrained.clip import Clip
from .base import Features


class CLIPFeatures(Features):
    """(B, 1, D) the image embedding, in the space in which CLIP compares pictures with text.

    Two of the same network and preprocessing are equal: a batch goes through them once.
    """

    def __init__(self, clip: Clip):
        self.name, self.clip = clip.title, clip

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return self.clip.networks

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CLIPFeatures) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.clip.network, self.clip.preprocess, self.clip.chunk

    def encode(self, x: Tensor) -> Tensor:
        return self.clip.images(x)[:, None]
