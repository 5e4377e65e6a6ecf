"""In what the pictures of Diverse Sampler are to differ, by a name, and from what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..objectives.batch import LATENTS, Batch
from ..objectives.diversity import Diversity
from ..objectives.features.base import Features
from ..objectives.features.colour import ColourFeatures
from ..objectives.features.latent import LatentFeatures
from ..objectives.guards import DetailGuard
from ..objectives.objective import Objective, combine
from .measure import to_pictures
from .networks import dtype, folders, progress

LAYOUT, OBJECTS, COLORS = "layout and colors", "objects (DINOv2, 346 MB)", "colors"
DINO = "DINOv2 ViT-B/14"


def dino_features() -> Features:
    """As DINO Features gives them by default."""
    from ..objectives.features import dino

    return dino.DINOFeatures(dino.load_dino(DINO, folders(), dtype("auto"), progress()), DINO)


DIFFER_IN: dict[str, Callable[[], Features]] = {
    LAYOUT: LatentFeatures,
    OBJECTS: dino_features,
    COLORS: ColourFeatures,
}


def differing(differ_in: str, variety: float, objective: Objective | None, guarded: bool) -> Objective:
    """What to raise: the diversity in `differ_in`, or the objective in its place, until it is as high as `variety`.

    A diversity that has a target of its own keeps it. guarded: whether pictures may lose no detail.
    """
    if objective is None:
        objective = Diversity(features=DIFFER_IN[differ_in]())
    leaves = [replace(leaf, target=variety) if endless(leaf) else leaf for leaf in objective.leaves()]
    if guarded and not any(isinstance(leaf, DetailGuard) for leaf in leaves):
        leaves.append(DetailGuard())
    return combine(leaves)


def endless(leaf: Objective) -> bool:
    """Whether it is a diversity that is raised without a target."""
    return leaf.role.stop == "ends" and leaf.target is None and leaf.weight > 0


def references(images: Tensor, objective: Objective, vae: Any, samples: Tensor) -> Batch:
    """Pictures (R, H, W, C) to differ from, as the objective sees them, cut to the shape of the samples (B, C, ...).

    Raises ValueError where it looks at latents, and these pictures have none that can be compared with the samples.
    """
    images, latents = cut(images, *samples.shape[-2:]), None
    if any(LATENTS in leaf.needs for leaf in objective.leaves() if leaf.role.compares == "set"):
        if vae is None:
            raise ValueError("differ_from holds pictures, and latents are compared here: wire a VAE to vae.")
        latents = torch.cat([vae.encode(image[None, ..., :3]) for image in images])
        latents = resized(latents.float(), samples.shape[-2:])
        if latents.shape[1:-2] != samples.shape[1:-2]:
            raise ValueError(
                "differ_from holds pictures, and latent_image a video: set differ_in to objects or colors, which look "
                "at the middle frame of a video."
            )
    device = comfy.model_management.get_torch_device()
    return Batch(None if latents is None else latents.to(device), to_pictures(images).to(device))


def resized(latents: Tensor, sides: Sequence[int]) -> Tensor:
    """Latents (R, C, ..., H, W) with these sides."""
    flat = interpolate(latents.flatten(1, -3), sides, mode="bilinear", antialias=True)
    return flat.unflatten(1, latents.shape[1:-2])


def cut(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images (B, H, W, C) in the shape of height by width, as large as it gets."""
    whole = images.shape[1:3]
    unit = min(whole[0] / height, whole[1] / width)
    sides = [max(1, round(unit * side)) for side in (height, width)]
    top, left = ((side - kept) // 2 for side, kept in zip(whole, sides))
    return images[:, top : top + sides[0], left : left + sides[1]]
