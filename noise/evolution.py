"""CMA-ES: optimisation without a gradient, for models that have none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from .basis import Basis
from .evaluation import Evaluator
from .history import History
from .optimizers import PATIENCE
from .prior import Prior
from .settings import Settings


def evolve(evaluate: Evaluator, history: History, basis: Basis, settings: Settings) -> str:
    """Generations of CMA-ES, each entered in the history by its best candidate; returns why it stopped.

    A candidate with NaN or infinity, or with a picture that is to be put back, counts as the worst.
    """
    still, moves = torch.zeros_like(basis.analyse(basis.start)), basis.moves
    best = evaluate(basis.noise(still), gradient=False)
    if why := history.enter(best):
        return why
    prior = Prior(basis, settings.prior_weight, settings.reach)
    sigma = settings.reach * math.sqrt(float(basis.d[moves].mean()) / still[0].numel())
    evolution = Evolution(still[moves].shape, sigma, settings.population, settings.seed)
    failures = 0
    while True:
        losses: list[float] = []
        for candidate in evolution.ask(still):
            seen = evaluate(basis.noise(prior(still.index_put((moves,), candidate))), gradient=False)
            usable = math.isfinite(seen.loss) and not (seen.failed | seen.fell).any()
            losses.append(seen.loss if usable else math.inf)
            if losses[-1] <= min(losses):
                best = seen
        evolution.tell(losses)
        failures = 0 if math.isfinite(min(losses)) else failures + 1
        if why := history.enter(best, "no candidate was usable: the spread was halved" if failures else ""):
            return why
        if failures == PATIENCE:
            return f"no candidate was usable {PATIENCE} times in a row"


class Evolution:
    """CMA-ES with a diagonal covariance (sep-CMA-ES, Ros and Hansen 2008) through the `cma` package.

    shape: of the coefficients, (B, ...). sigma: the standard deviation of the first draw.
    """

    def __init__(self, shape: torch.Size, sigma: float, population: int, seed: int) -> None:
        import cma

        generator = np.random.default_rng(seed)
        options = {
            "CMA_diagonal": True,
            "popsize": population,
            "randn": lambda *size: generator.standard_normal(size),
            "seed": math.nan,
            "verbose": -9,
        }
        self.shape, self.again = shape, False
        self.drawn: list[np.ndarray] = []
        self.strategy = cma.CMAEvolutionStrategy([0.0] * shape.numel(), sigma, options)

    def ask(self, like: Tensor) -> list[Tensor]:
        """The candidates of one generation: where those before were all unusable, the same at half their distance."""
        mean = self.strategy.mean
        self.drawn = [mean + (x - mean) / 2 for x in self.drawn] if self.again else self.strategy.ask()
        return [torch.from_numpy(np.asarray(x)).to(like).reshape(self.shape) for x in self.drawn]

    def tell(self, losses: list[float]) -> None:
        """Learns from the losses of the candidates last asked for; infinite ones count as worst, all so halve sigma."""
        finite = [loss for loss in losses if math.isfinite(loss)]
        self.again = not finite
        if self.again:
            self.strategy.sigma /= 2
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where one coordinate moves far in one direction, as it may here
            self.strategy.tell(self.drawn, [loss if math.isfinite(loss) else max(finite) + 1 for loss in losses])
