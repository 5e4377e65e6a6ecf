"""A batch of samples: their latents, their pictures, and what features saw in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .features.base import Features


LATENTS, PICTURES = "latents", "pictures"


class BrokenSamples(ValueError):
    """Some samples have features that are not finite or all zero. samples: (B,) bool, which ones."""

    def __init__(self, message: str, samples: Tensor) -> None:
        super().__init__(message)
        self.samples = samples


@dataclass(frozen=True, eq=False)
class Batch:
    """What one run of the sampler gave.

    latents: (B, C, ...) float32 in the host's own latent units (what a LATENT socket carries), or None.
    pictures: (B, 3, H, W) in 0..1, or None when no objective asked for them.
    """

    latents: Tensor | None = None
    pictures: Tensor | None = None
    _seen: dict[tuple[Features, bool], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        tensor = self.latents if self.latents is not None else self.pictures
        return 0 if tensor is None else tensor.shape[0]

    def detach(self) -> Batch:
        """The same batch without its graph; features that were computed for it are kept."""
        batch = Batch(*(None if t is None else t.detach() for t in (self.latents, self.pictures)))
        batch._seen.update({(extractor, False): seen.detach() for (extractor, _), seen in self._seen.items()})
        return batch

    def broken(self) -> Tensor:
        """(B,) bool: whether the latents or the picture of each sample hold NaN or infinity."""
        tensors = [t for t in (self.latents, self.pictures) if t is not None]
        return torch.stack([~t.isfinite().flatten(1).all(dim=1).to(tensors[0].device) for t in tensors]).any(dim=0)

    def replaced(self, samples: Tensor, other: Batch) -> Batch:
        """This batch, with samples of another batch where `samples` (B,) is true; no gradient flows through those."""

        def chosen(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            if mine is None or theirs is None:
                return None
            mask = samples.to(mine.device).reshape(-1, *[1] * (mine.ndim - 1))
            return torch.where(mask, theirs, mine)

        return Batch(chosen(self.latents, other.latents), chosen(self.pictures, other.pictures))

    def get(self, need: str) -> Tensor:
        """Its "latents" or its "pictures"; raises ValueError where it has none."""
        found = self.latents if need == LATENTS else self.pictures
        if found is None:
            raise ValueError(f"There are no {need} in this batch, and an objective needs them.")
        return found

    def features(self, extractor: Features) -> Tensor:
        """(B, P, D) the features of this batch, computed once however many objectives ask for them."""
        key = (extractor, torch.is_grad_enabled())
        if key not in self._seen:
            self._seen[key] = extractor(self.get(extractor.source))
        return self._seen[key]
