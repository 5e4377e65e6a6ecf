"""A problem for the loop whose answer is known: to turn noise towards a goal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noise_optimize.noise.basis import norms, per_sample
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.objective import Objective

D = 4 * 8 * 8


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def likely(*shape, seed=0):
    """Noise whose radius is sqrt(d - 1) exactly, so that the prior is content with it."""
    z = draw(*shape, seed=seed)
    return z * per_sample(math.sqrt(z[0].numel() - 1) / norms(z), z)


START, GOAL = likely(3, 4, 8, 8), draw(1, 4, 8, 8, seed=9)
COARSE = torch.nn.functional.interpolate(draw(1, 4, 2, 2, seed=5), (8, 8), mode="bilinear")


@dataclass(frozen=True, kw_only=True)
class Measured(Objective):
    """An objective by a function of the latents."""

    by: Callable[[Tensor], Tensor]
    name: str = "measured"
    span: float = 1.0
    kind: str = "diversity"
    needs = "latents"
    bound: list = field(default_factory=list)

    def measure(self, batch):
        return self.by(batch.latents)

    def bind(self, start=None, references=None):
        self.bound.append(start)
        return self


def identity(noise):
    return Batch(latents=noise)


def cosine(z, goal=GOAL):
    return torch.nn.functional.cosine_similarity(z.flatten(1), goal.flatten(1))


def towards(goal=GOAL, **options):
    return Measured(name="towards", by=lambda z: cosine(z, goal), **options)
