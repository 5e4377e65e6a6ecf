"""Features turn pictures or latents into unit vectors with a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..batch import LATENTS, PICTURES, BrokenSamples


class Features(ABC):
    """Base of all features. A new one writes `encode`.

    Objectives that hold the same object share what it computes (`Batch.features`), so it must be hashable: by identity,
    which is the default, or by its settings where it has no weights (a frozen dataclass).

    name: what it is called, by default as its class.
    source: "pictures" (B, 3, H, W) in 0..1, or "latents" (B, C, ..., H, W) in the host's own latent units.
    networks: the pretrained networks it runs, for the host to place; `pretrained.networks.run` bounds their memory.

    >>> class Thumbnail(Features):
    ...     def encode(self, x):
    ...         return F.adaptive_avg_pool2d(x, 4).flatten(1)[:, None]
    >>> Thumbnail()(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 48])
    """

    name: str = ""
    source: ClassVar[Literal["pictures", "latents"]] = "pictures"

    def __init_subclass__(cls) -> None:
        cls.name = cls.name or cls.__name__
        if cls.source not in (LATENTS, PICTURES):
            raise TypeError(
                f'{cls.__name__}: source is {cls.source!r}; write source = "{PICTURES}" or source = "{LATENTS}" in the '
                "class."
            )

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
        if raw.ndim != 3 or len(raw) != len(x):
            raise ValueError(
                f"{self.name}: encode gave features of shape {tuple(raw.shape)} for {len(x)} samples; "
                f"return ({len(x)}, places, channels), of one place where they are pooled."
            )
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
