"""The optimisers, as rows of a table, in one unit of step.

A step is a share of the noise radius sqrt(d) of each sample, so that one setting serves every latent size and batch. It
is taken along s_i = sqrt(d) dL/dz_i, the change of the loss for a move by one radius, of each sample at most 1 long:

    u_i = s_i / max(||s_i||, clip)        z_i <- z_i - lr sqrt(d) * update(u)_i
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .basis import norms, per_sample

DECAY, EPSILON = 0.999, 1e-8  # of Adam, as published
PATIENCE = 3  # iterations in a row that may fail with NaN or infinity before a run is given up
State = dict[str, Tensor]
Update = Callable[[State, Tensor, float], Tensor]


def clipped(gradient: Tensor, d: Tensor, clip: float) -> Tensor:
    """u of the module's formula: at most 1 long per sample, in proportion to the gradient below `clip`. d: (B,)."""
    scaled = gradient * per_sample(d.sqrt(), gradient)
    return scaled / per_sample(norms(scaled).clamp(min=max(clip, torch.finfo(scaled.dtype).tiny)), scaled)


def large(state: State, u: Tensor, momentum: float) -> Tensor:
    """u itself. Nothing is gathered: the first step is as long as any, see settling.py for what shortens it."""
    return u


def sgd(state: State, u: Tensor, momentum: float) -> Tensor:
    """Heavy ball: v <- m v + u. At most 1 / (1 - m) long."""
    state["v"] = momentum * state["v"] + u if "v" in state else u
    return state["v"]


def nesterov(state: State, u: Tensor, momentum: float) -> Tensor:
    """Nesterov's accelerated gradient in the form of Sutskever et al. 2013: v <- m v + u, then u + m v."""
    return u + momentum * sgd(state, u, momentum)


def adam(state: State, u: Tensor, momentum: float) -> Tensor:
    """Adam (arXiv 1412.6980). Each of k coordinates is at most about 1 / sqrt(k), so a step is about 1 long; steps are
    counted for each sample."""
    if not state:
        state.update(m=torch.zeros_like(u), v=torch.zeros_like(u), t=u.new_zeros(len(u)))
    state["t"] = state["t"] + 1
    state["m"] = momentum * state["m"] + (1 - momentum) * u
    state["v"] = DECAY * state["v"] + (1 - DECAY) * u**2
    m = state["m"] / per_sample(1 - momentum ** state["t"], u)
    v = state["v"] / per_sample(1 - DECAY ** state["t"], u)
    k = u[0].numel()
    return m / (v.sqrt() + EPSILON / math.sqrt(k)) / math.sqrt(k)


@dataclass(frozen=True)
class Optimizer:
    """A row of the table.

    update: None where no gradient is needed. gathers: whether momentum makes its steps longer, up to 1 / (1 - m) times.
    settles: whether steps are shortened, and the run ended, where they bring nothing (settling.py), and a picture whose
    quality fell is put back at once. most: how many frequencies of each side are optimised at most.
    """

    update: Update | None
    gathers: bool = True
    settles: bool = False
    most: int | None = None


OPTIMIZERS: dict[str, Optimizer] = {
    "large steps": Optimizer(large, gathers=False, settles=True),
    "sgd": Optimizer(sgd),
    "nesterov": Optimizer(nesterov),
    "adam": Optimizer(adam, gathers=False),
    "cma": Optimizer(None, most=8),  # an 8x8 DCT of the noise is what a published run of CMA-ES used
}


def only(samples: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """`chosen` for the samples where the mask (B,) is true, `others` elsewhere."""
    return torch.where(per_sample(samples, chosen), chosen, others)


def forget(state: State, samples: Tensor) -> None:
    """Zeroes what the optimiser remembers of the samples where the mask (B,) is true."""
    for name, memory in state.items():
        state[name] = only(samples, torch.zeros_like(memory), memory)
