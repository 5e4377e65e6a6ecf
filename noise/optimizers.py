"""The optimisers, as rows of a table, and the published recipes, converted to one unit of step.

A step is a share of the noise radius sqrt(d) of each sample, so that one setting serves every latent size and batch.
With s_i = sqrt(d) dL/dz_i (the change of the loss for a move by one radius) clipped sample by sample to norm 1,

    u_i = s_i / max(||s_i||, clip)        z_i <- z_i - lr sqrt(d) * update(u)_i

A published recipe with step lr*, gradient norm clipped to clip* over a batch of B, and weight w of its objective has,
in this unit, lr = lr* clip* / sqrt(B d) and clip = clip* sqrt(d / B) / w.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .basis import norms, per_sample

State = dict[str, Tensor]
Update = Callable[[State, Tensor, float], Tensor]


def clipped(gradient: Tensor, d: int, clip: float) -> Tensor:
    """u of the module's formula: at most 1 long per sample, in proportion to the gradient below `clip`."""
    scaled = gradient * math.sqrt(d)
    return scaled / per_sample(norms(scaled).clamp(min=max(clip, torch.finfo(scaled.dtype).tiny)), scaled)


def sgd(state: State, u: Tensor, momentum: float) -> Tensor:
    """Heavy ball: v <- m v + u. At most 1 / (1 - m) long."""
    state["v"] = momentum * state["v"] + u if "v" in state else u
    return state["v"]


def nesterov(state: State, u: Tensor, momentum: float) -> Tensor:
    """Nesterov's accelerated gradient in the form of Sutskever et al. 2013: v <- m v + u, then u + m v."""
    return u + momentum * sgd(state, u, momentum)


def adam(state: State, u: Tensor, momentum: float, decay: float = 0.999, eps: float = 1e-8) -> Tensor:
    """Adam (arXiv 1412.6980), each coordinate at most about 1 / sqrt(k), so about 1 long; steps counted per sample."""
    if not state:
        state.update(m=torch.zeros_like(u), v=torch.zeros_like(u), t=u.new_zeros(len(u)))
    state["t"] = state["t"] + 1
    state["m"] = momentum * state["m"] + (1 - momentum) * u
    state["v"] = decay * state["v"] + (1 - decay) * u**2
    m = state["m"] / per_sample(1 - momentum ** state["t"], u)
    v = state["v"] / per_sample(1 - decay ** state["t"], u)
    k = u[0].numel()
    return m / (v.sqrt() + eps / math.sqrt(k)) / math.sqrt(k)


@dataclass(frozen=True)
class Optimizer:
    """A row of the table. update is None where no gradient is needed; `most` limits the frequencies of each side."""

    update: Update | None
    most: int | None = None


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(sgd),
    "nesterov": Optimizer(nesterov),
    "adam": Optimizer(adam),
    "cma": Optimizer(None, most=8),  # an 8x8 DCT of the noise is what a published run of CMA-ES used
}


def only(samples: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """`chosen` for the samples where the mask (B,) is true, `others` elsewhere."""
    return torch.where(per_sample(samples, chosen), chosen, others)


def forget(state: State, samples: Tensor) -> None:
    """Zeroes what the optimiser remembers of the samples where the mask (B,) is true."""
    for name, memory in state.items():
        state[name] = only(samples, torch.zeros_like(memory), memory)


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
        self.shape = shape
        self.strategy = cma.CMAEvolutionStrategy([0.0] * shape.numel(), sigma, options)

    def ask(self, like: Tensor) -> list[Tensor]:
        """The candidates of one generation."""
        self.drawn = self.strategy.ask()
        return [torch.from_numpy(np.asarray(x)).to(like).reshape(self.shape) for x in self.drawn]

    def tell(self, losses: list[float]) -> None:
        """Learns from the losses of the candidates last asked for; infinite ones count as worst, all so halve sigma."""
        finite = [loss for loss in losses if math.isfinite(loss)]
        if not finite:
            self.strategy.sigma /= 2
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where one coordinate moves far in one direction, as it may here
            self.strategy.tell(self.drawn, [loss if math.isfinite(loss) else max(finite) + 1 for loss in losses])


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
