"""The judge: reads the attributes off a picture; neither the optimiser nor the features ever see it."""

from __future__ import annotations

from pathlib import Path

import drawings
import here  # noqa: F401
import torch
from torch import Tensor

from noise_optimize.objectives.features.demo import Tower, load_tower
from noise_optimize.objectives.statistics import vendi_score

PATH = Path(__file__).with_name("judge.safetensors")
WHAT = 0  # the column of the attributes that the prompt asks for; the others may vary


@torch.no_grad()
def attributes(judge: Tower, pictures: Tensor) -> Tensor:
    """(N, 3, 64, 64) in 0..1 -> (N, attributes) the value that the judge sees of each."""
    heads = judge(pictures.clamp(0, 1)).split(drawings.COUNTS, 1)
    return torch.stack([head.argmax(1) for head in heads], 1)


def load() -> Tower:
    return load_tower(PATH, sum(drawings.COUNTS))


@torch.no_grad()
def embedding(judge: Tower, pictures: Tensor) -> Tensor:
    """(N, 128) of unit length: what the judge's heads read."""
    hidden = pictures.clamp(0, 1) * 2 - 1
    for layer in list(judge)[:-1]:
        hidden = layer(hidden)
    return torch.nn.functional.normalize(hidden, dim=1)


def agreement(seen: Tensor) -> Tensor:
    """(B, B) share of the free attributes (all but what is shown) that two pictures have in common."""
    free = seen[:, WHAT + 1 :]
    return (free[:, None] == free[None]).double().mean(2)


def variety(seen: Tensor) -> dict[str, float]:
    """Of one set of B pictures: Vendi score 1..B, mean pairwise difference 0..1, distinct combinations 1..B."""
    K, B = agreement(seen), len(seen)
    return {
        "vendi": float(vendi_score(K)),
        "pairwise": float((1 - K).sum() / (B * (B - 1))),
        "distinct": float(len(seen[:, WHAT + 1 :].unique(dim=0))),
    }
