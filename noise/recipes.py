"""The published recipes, converted to the unit of step of `optimizers`.

A published recipe with step lr*, gradient norm clipped to clip* over a batch of B, and weight w of its objective has,
in that unit, lr = lr* clip* / sqrt(B d) and clip = clip* sqrt(d / B) / w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A published setting in this module's unit. source: where its numbers were read."""

    learning_rate: float
    clip: float
    iterations: int
    momentum: float
    optimizer: str
    source: str


def published(
    lr: float, clip: float, iterations: int, *, weight: float, batch: int, d: int, source: str, optimizer: str = "sgd"
) -> Recipe:
    """Converts a recipe stated for one latent size, as the module's docstring says."""
    share = lr * clip / math.sqrt(batch * d)
    return Recipe(share, clip * math.sqrt(d / batch) / weight, iterations, 0.9, optimizer, source)


_DIVGEN = "arXiv 2601.00090, released code"


RECIPES: dict[str, Recipe] = {
    "SDXL-Turbo": published(10, 0.1, 50, weight=50, batch=4, d=4 * 64 * 64, source=_DIVGEN),
    "SDXL-Turbo, DPP with HPSv2.1": published(6, 0.1, 150, weight=150, batch=4, d=4 * 64 * 64, source=_DIVGEN),
    "FLUX.1 schnell, white noise": published(6, 0.1, 80, weight=1.5, batch=4, d=16 * 64 * 64, source=_DIVGEN),
    "FLUX.1 schnell, pink noise": published(2, 0.15, 80, weight=5, batch=4, d=16 * 64 * 64, source=_DIVGEN),
    "FLUX.1 schnell, one at a time": published(3, 0.15, 25, weight=15, batch=1, d=16 * 64 * 64, source=_DIVGEN),
    "FLUX.2 klein, one at a time": published(3, 0.15, 70, weight=15, batch=1, d=128 * 32 * 32, source=_DIVGEN),
    "ReNO, one picture": published(
        5, 0.1, 50, weight=5, batch=1, d=4 * 64 * 64, source="ReNO, released code", optimizer="nesterov"
    ),
}
