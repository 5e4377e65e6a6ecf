"""Some samples of a set: their conditionings, masks and random state, as the whole set would have them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.utils
import torch
from torch import Tensor

from .controlnets import chain, pictures


@dataclass
class Whole:
    """A set of `total` samples that is made part by part.

    owed: what its samples owe to their places (`Sampling.place`), once that is known.
    """

    total: int
    owed: str | None = None


def random_state(samples: Tensor, total: int, seed: int, batch_index: Any) -> dict[str, Tensor]:
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng():
        comfy.sample.prepare_noise(comfy.utils.repeat_to_batch_size(samples, total), seed, batch_index)
        return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if cuda else {})


@contextlib.contextmanager
def fixed_randomness(state: dict[str, Tensor], device: torch.device) -> Iterator[Callable[[], None]]:
    """The global random state as core's RandomNoise leaves it for a seed, for samplers that draw from it.

    Yields what brings it back to this start."""
    devices = [device] if device.type == "cuda" else []

    def start() -> None:
        torch.set_rng_state(state["cpu"])
        if devices:
            torch.cuda.set_rng_state(state["cuda"], device)

    with torch.random.fork_rng(devices=devices):
        start()
        yield start


def of_members(cond: dict[str, Any], indices: list[int], total: int) -> dict[str, Any]:
    """A conditioning of a set of total samples, for some of them: what differs per sample is picked."""
    if indices == list(range(total)):
        return dict(cond)
    if any(pictures(control) > 1 for control in chain(cond.get("control"))):
        raise ValueError("A ControlNet picture per sample needs the whole set at once; give ControlNet one picture.")

    def pick(value: Any, name: str = "") -> Any:
        if isinstance(value, list):
            return [pick(v) for v in value]
        return comfy.utils.repeat_to_batch_size(value, total)[indices] if _batched(value, name) else value

    return {name: pick(value, name) for name, value in cond.items()}


def varied(conds: dict[str, list[dict[str, Any]]], samples: Tensor, mask: Tensor | None) -> bool:
    """Whether conditionings, latents or masks differ from sample to sample of a set."""

    def differs(value: Any, name: str) -> bool:
        return any(differs(v, "") for v in value) if isinstance(value, list) else _batched(value, name)

    every = [cond for conditioning in conds.values() for cond in conditioning]
    return (
        any(differs(value, name) for cond in every for name, value in cond.items())
        or any(pictures(control) > 1 for cond in every for control in chain(cond.get("control")))
        or bool((samples != samples[:1]).any())
        or (mask is not None and mask.ndim > 2 and len(mask) > 1)
    )


def _batched(value: Any, name: str) -> bool:
    """Whether a value of a conditioning holds a row for each sample."""
    return isinstance(value, Tensor) and value.ndim > (2 if name == "mask" else 1) and len(value) > 1


def mask_of_members(mask: Tensor | None, samples: Tensor, indices: list[int], total: int) -> Tensor | None:
    if mask is None or samples.ndim != 4 or indices == list(range(total)):
        return mask
    return comfy.utils.repeat_to_batch_size(mask.reshape(-1, 1, *mask.shape[-2:]), total)[indices]
