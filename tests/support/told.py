"""Objectives by a function, for nodes inside the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from noise_optimize.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Told(Objective):
    """An objective by a function of the latents and of how often it was asked."""

    by: Callable
    name: str = "told"
    kind: str = "diversity"
    needs = "latents"
    asked: list = field(default_factory=list)

    def measure(self, batch):
        self.asked.append(len(batch))
        return self.by(batch.latents, len(self.asked) - 1)


def spread(latents, _=0):
    return latents.flatten(1).std(dim=0).mean()
