"""Features turn pictures or latents into unit vectors with a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..batch import BrokenSamples


class Features(ABC):
    """Base of all features. A subclass sets `name` and `source` and writes `encode`.

    Objectives that hold the same object share what it computes (`Batch.features`), so it must be hashable: by identity,
    which is the default, or by its settings where it has no weights (a frozen dataclass).

    source: "pictures" (B, 3, H, W) in 0..1, or "latents" (B, C, ..., H, W) in the host's own latent units.
    networks: the pretrained networks it runs, for the host to place; `pretrained.networks.run` bounds their memory.

    >>> class Thumbnail(Features):
    ...     name = "Thumbnail"
    ...
    ...     def encode(self, x):
    ...         return F.adaptive_avg_pool2d(x, 4).flatten(1)[:, None]
    >>> Thumbnail()(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 48])
    """

    name: str = "Features"
    source: ClassVar[Literal["pictures", "latents"]] = "pictures"

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return ()

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """(B, P, D) raw features: P places of D channels, P = 1 where they are pooled; any floating dtype."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, P, D) float32 (float64 stays) of unit length along D, with gradient to x.

        Raises BrokenSamples where the features of a sample are not finite or all zero.
        """
        raw = self.encode(x)
        raw = raw if raw.dtype == torch.float64 else raw.float()
        length = raw.detach().flatten(1).norm(dim=1)
        for found, where in (("not finite", ~length.isfinite()), ("all zero", length == 0)):
            if where.any():
                raise BrokenSamples(
                    f"{self.name}: the features of sample {int(where.nonzero()[0]) + 1} are {found}, so its "
                    f"{self.source} are broken: look at them, and lower learning_rate or change the sampler or VAE.",
                    where,
                )
        return F.normalize(raw, dim=-1)
