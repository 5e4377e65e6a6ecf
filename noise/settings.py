"""How to optimise: the numbers of the loop, with what each of them means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .basis import LOWEST_THIRD
from .optimizers import OPTIMIZERS

FEWEST = 3  # candidates of a generation: two that tell how far to go, and one that is new


@dataclass(frozen=True)
class Settings:
    """How to optimise.

    learning_rate: the length of a step as a share of the noise radius sqrt(d) of each sample, before momentum makes it
        up to 1 / (1 - momentum) times as long; d counts the values that may move. For CMA-ES, the standard deviation
        of the first generation is the reach that this gives.
    clip: the gradient norm per sample above which a step is full, in loss per radius (noise/optimizers.py).
    prior_weight: how strongly the noise is held to what noise is, see noise/prior.py. 0: not at all.
    whiteness_weight: of the penalty for values that depend on each other, in nats (`prior.Whiteness`). 0: none.
    rollback: how much of its starting quality a picture may lose before it is put back, as a share of the span of the
        score (objectives/objective.py). 1: never put back.
    seconds: budget of time, checked after each iteration. population: candidates of one generation of CMA-ES.
    """

    iterations: int = 30
    learning_rate: float = 0.004
    optimizer: str = "sgd"
    momentum: float = 0.9
    clip: float = 0.1
    prior_weight: float = 4.0
    whiteness_weight: float = 0.0
    basis: str = "full"
    band: float = LOWEST_THIRD
    rollback: float = 0.1
    seconds: float = math.inf
    population: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
        for name in ("iterations", "learning_rate", "clip", "prior_weight", "whiteness_weight", "rollback", "seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; set 0 or more.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; set 0 or more and less than 1.")
        if self.population < FEWEST:
            raise ValueError(f"population is {self.population}; set at least {FEWEST}.")

    @property
    def reach(self) -> float:
        """How far one iteration can move a sample at most, as a share of its radius."""
        momentum = self.momentum if OPTIMIZERS[self.optimizer].gathers else 0.0
        return self.learning_rate / (1 - momentum)
