"""When steps have become too long, and when more of them bring nothing.

Long steps need not each bring a gain: on the demo model a run that takes every step finds more than one that takes back
each step which does not (tests/demo/price.py). So a run goes on for TRIES steps without a gain before it returns to its
best, from where it goes on by half the length; the third time it ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

LEAST = 0.02  # of what was gained so far; a smaller gain counts as none
TRIES = 2
HALVINGS = 2
NOTHING = "more steps bring nothing"


@dataclass
class Settling:
    """Where a run was best, and how long it has been without a gain.

    first, best: the loss at the start and the lowest. place: the change of the noise there, and the step from there.
    """

    place: tuple[Tensor, Tensor]
    first: float = math.nan
    best: float = math.inf
    misses: int = field(default=0, init=False)
    halvings: int = field(default=0, init=False)

    def enter(self, loss: float, change: Tensor, step: Tensor) -> bool:
        """Enters an evaluation; whether to go back to `place` and on from there by half the length."""
        if math.isnan(self.first):
            self.first = loss
        gained = loss < self.best - LEAST * max(0.0, self.first - self.best) if self.best < math.inf else True
        if loss < self.best:
            self.best, self.place = loss, (change, step)
        self.misses = 0 if gained else self.misses + 1
        if self.misses < TRIES:
            return False
        self.misses, self.halvings = 0, self.halvings + 1
        return True

    @property
    def done(self) -> bool:
        return self.halvings > HALVINGS
