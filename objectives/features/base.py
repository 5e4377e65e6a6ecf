"""Features turn pictures or latents into unit vectors, differentiably and in bounded memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...noise.gradient import recompute


class Features(ABC):
    """Base of all features. A subclass sets `name` and `source` and writes `encode`.

    Objectives that hold the same object share what it computes (`Batch.features`), so it must be hashable: by identity,
    which is the default, or by its settings where it has no weights (a frozen dataclass).

    source: "pictures" (B, 3, H, W) in 0..1, or "latents" (B, C, ..., H, W) in the host's own latent units.
    chunk: the most samples whose activations are alive at once; None for features that cost next to nothing.
    """

    name: str = "Features"
    source: ClassVar[Literal["pictures", "latents"]] = "pictures"
    chunk: int | None = None

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """(B, P, D) raw features: P tokens of D channels, P = 1 where they are pooled; any floating dtype."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, P, D) float32 (float64 stays) of unit length along D, with gradient to x.

        A batch larger than `chunk` is recomputed chunk by chunk on the way back. Raises ValueError where a picture's
        features are not finite or all zero.
        """
        if self.chunk is None or len(x) <= self.chunk:
            raw = self.encode(x)
        elif x.requires_grad and torch.is_grad_enabled():
            raw = recompute(self.encode, x, chunk=self.chunk)
        else:
            raw = torch.cat([self.encode(part) for part in x.split(self.chunk)])
        raw = raw if raw.dtype == torch.float64 else raw.float()
        self._refuse_useless(raw.detach())
        return F.normalize(raw, dim=-1)

    def _refuse_useless(self, raw: Tensor) -> None:
        length = raw.flatten(1).norm(dim=1)
        for found, where in (("NaN or infinite", ~length.isfinite()), ("all zero", length == 0)):
            if where.any():
                index = int(where.nonzero()[0]) + 1
                raise ValueError(
                    f"{self.name}: the features of sample {index} are {found}; its {self.source} are broken: "
                    "lower the learning rate, or look at the sampler and the VAE."
                )
