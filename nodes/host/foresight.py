"""What a sampling run shows after some of its steps, and how it goes on from there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .places import TOLERANCE
from .stand_in import FAILED, Trial
from .wires import sampler_name, through

Sample = Callable[..., Tensor]


@dataclass(frozen=True)
class Begun:
    """Where a run stands that can go on: after so many steps, at these samples (B, C, ...) in the model's own space."""

    steps: int = 0
    samples: Tensor | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a sampling run shows after some of its steps.

    latents: (B, C, ...) the finished latents as the model predicts them now, or as they are after the last step.
    begun: where the run stands, if it can go on from there.
    """

    latents: Tensor
    begun: Begun | None = None


class Enough(Exception):
    """Ends a sampling run after the steps that were asked for."""


def stopped(until: int, name: str) -> Sample:
    """For `through`: the run of any sampler called `name`, ended at its step `until`, with what the model foresees."""

    def run(sample: Sample, model_wrap: Any, sigmas: Tensor, extra: Any, callback: Any, *given: Any) -> Tensor:
        seen: list[Tensor] = []

        def stop(step: int, x0: Tensor, x: Tensor, steps: int) -> None:
            if callback is not None:
                callback(step, x0, x, steps)
            seen[:] = [x0]
            if step + 1 >= until:
                raise Enough

        try:
            sample(model_wrap, sigmas, extra, stop, *given)
        except Enough:
            return seen[0]
        raise RuntimeError(f"The sampler {name} does not tell its predictions; wire another, such as euler.")

    return run


@dataclass
class Leg:
    """For `through`: a sampler that `resumes`, from where it has `begun` to the step `end`, which it then has begun;
    with what the model foresees there."""

    begun: Begun
    end: int

    def __call__(
        self, sample: Sample, model_wrap: Any, sigmas: Tensor, extra: Any, callback: Any, noise: Tensor, *given: Any
    ) -> Tensor:
        done, samples = self.begun.steps, self.begun.samples
        seen: list[Tensor] = []

        def look(step: int, x0: Tensor, x: Tensor, steps: int) -> None:
            callback(done + step, x0, x, len(sigmas) - 1)
            seen[:] = [x0]

        if samples is not None:
            noise, given = torch.zeros_like(noise), (samples.to(noise), *given[1:])
        samples = sample(model_wrap, sigmas[done : self.end + 1], extra, look, noise, *given)
        self.begun = Begun(self.end, samples)
        return samples if self.end + 1 == len(sigmas) else seen[0]


def resumes(stops: Sequence[int], trial: Trial) -> bool:
    """Whether this SAMPLER can stop after these steps and go on later as if it had not.

    It can if it keeps nothing from step to step and draws nothing, as euler and heun do. Under a mask it never can, as
    the host looks at the noise and the latent that a run began with. One picture is sampled at once and leg by leg.
    """
    if trial.mask is not None:
        return False
    noise = torch.randn(trial.noise[:1].shape, generator=torch.Generator().manual_seed(0)).to(trial.noise)
    last = len(trial.sigmas) - 1
    bounds = [0, *(stop for stop in stops if stop < last), last]
    with torch.no_grad():
        state = trial.latent[:1]
        whole = trial(noise, state, None)
        try:
            for begin, end in itertools.pairwise(bounds):
                given = torch.zeros_like(noise) if begin else noise
                state = trial(given, state, None, trial.sigmas[begin : end + 1])
        except FAILED:
            return False
    return bool((state - whole).norm() <= TOLERANCE * whole.norm())


def calls(until: int, trial: Trial) -> int:
    """How often this SAMPLER asks for a prediction until its step `until`; one call a step where it cannot be tried."""
    asked = 0

    def formula(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return trial.formula(x, sigma)

    sampler = trial.sampler
    if until < len(trial.sigmas) - 1:
        sampler = through(sampler, stopped(until, sampler_name(sampler)))
    mask = None if trial.mask is None else trial.mask[:1]
    try:
        with torch.no_grad():
            replace(trial, formula=formula)(trial.noise[:1], trial.latent[:1], mask, sampler=sampler)
    except FAILED:
        return until
    return asked
