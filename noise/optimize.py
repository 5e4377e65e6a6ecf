"""Gradient steps on the starting noise of a batch (arXiv 2601.00090, Eq. 3), or CMA-ES where there is no gradient.

    minimise over z_1..z_B    total_loss(objective(generate(z)))    with the prior on each z_i

The prior is no part of the loss by which the best iterate is chosen: it is applied after each step as its proximal map,
which has a closed form and is stable for every weight and size. What is returned is never worse than the start, and the
same inputs give the same noise bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..objectives.objective import Objective
from .basis import Basis, make_basis, per_sample
from .evaluation import Evaluator, Generate
from .evolution import evolve
from .history import History, OnStep, Result
from .optimizers import OPTIMIZERS, PATIENCE, State, Update, clipped, forget, only
from .prior import Prior
from .settings import Settings
from .settling import NOTHING, Settling

DROPPED = "NaN or infinity: the step was dropped, the learning rate halved"


def optimize(
    generate: Generate,
    objective: Objective,
    noise: Tensor,
    settings: Settings,
    on_step: OnStep | None = None,
    free: Tensor | None = None,
) -> Result:
    """Optimises the noise of a batch.

    generate: noise (B, C, ...) -> Batch, differentiable unless the optimiser is CMA-ES. noise: float32 or float64.
    on_step: called after each evaluation; what it raises ends the run, and the last progress it saw holds the result.
    free: broadcasts to noise; 0 where a mask holds the picture, and so the noise, and for the samples that are kept as
    they are, which the others still see. None: all of it may move.
    With 0 iterations the start is sampled and scored once. Raises BrokenSamples where the start itself is broken.
    """
    if not noise.isfinite().all():
        raise ValueError("noise contains NaN or infinity; wire a NOISE that is finite.")
    optimizer = OPTIMIZERS[settings.optimizer]
    basis = make_basis(settings.basis, noise, settings.band, optimizer.most, free)
    evaluate, history = Evaluator(generate, objective, settings, noise), History(basis, settings, on_step)
    if optimizer.update is None:
        return history.result(evolve(evaluate, history, basis, settings))
    return history.result(descend(evaluate, history, basis, settings, optimizer.update, optimizer.settles))


def descend(
    evaluate: Evaluator, history: History, basis: Basis, settings: Settings, update: Update, settles: bool
) -> str:
    """Steps along the gradient until there is a reason to stop, which is returned.

    A sample whose quality fell goes back to its last good noise, and begins anew there. One that met NaN or infinity
    goes back too, and tries its last step again at half the length; as does one whose quality fell, if the optimiser
    `settles`. The other samples go on.
    """
    prior = Prior(basis, settings.prior_weight, settings.reach)
    length = settings.learning_rate * basis.d.sqrt()  # (B,) of a full step of each sample
    change = torch.zeros_like(basis.analyse(basis.start))
    good, u = change, change  # of each sample: the last change that held, and the direction of the step from there
    failures = torch.zeros_like(length)
    settling = Settling((good, u)) if settles else None
    state: State = {}
    while True:
        seen = evaluate(basis.noise(change), gradient=history.more)
        if (why := history.enter(seen, DROPPED if seen.failed.any() else "")) or seen.gradient is None:
            return why
        failed, fell = seen.failed, seen.fell
        failures = (failures + 1) * failed
        again = failed | fell if settles else failed
        fell = fell & ~again
        length = only(again, length / 2, length)
        if ((failures >= PATIENCE) | ~basis.moves).all():
            return f"NaN or infinity came {PATIENCE} times in a row"
        good = only(again | fell, good, change)
        u = only(again, u, clipped(basis.analyse(seen.gradient), basis.d, settings.clip))
        u = only(fell, torch.zeros_like(u), u)
        if not (u.any() or failed.any() or fell.any()):
            return "the gradient is zero: nothing is left to gain"
        if settling is not None and settling.enter(seen.loss, good, u):
            if settling.done:
                return NOTHING
            (good, u), length = settling.place, length / 2
        forget(state, again | fell)
        change = prior(good - per_sample(length, u) * update(state, u, settings.momentum))
        change = only(fell | (failures >= PATIENCE), good, change)
