"""Some samples of a set: their conditionings, masks and injected noise, as the whole set would have them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import comfy.sample
import comfy.utils
import torch
from torch import Tensor

from .controlnets import chain, pictures


class MemberNoise:
    """`torch` for a sampler that sees some samples of a set: what it draws are their rows of the whole set's noise.

    So a sample gets the same injected noise whichever samples it is computed with.
    """

    def __init__(self, indices: list[int], total: int) -> None:
        self._indices, self._total = indices, total

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn(self, *size: Any, **options: Any) -> Tensor:
        shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
        if len(shape) < 2 or shape[0] != len(self._indices):
            return torch.randn(shape, **options)
        return torch.randn((self._total, *shape[1:]), **options)[self._indices]

    def randn_like(self, tensor: Tensor, **options: Any) -> Tensor:
        options = {"dtype": tensor.dtype, "device": tensor.device, "layout": tensor.layout} | options
        return self.randn(tensor.shape, **options)

    def brownian(self, noise_sampler: type) -> Callable:
        """noise_sampler(x, ...), a Brownian tree over the whole set."""

        def build(x: Tensor, *args: Any, **options: Any) -> Callable:
            whole = noise_sampler(x.new_empty((self._total, *x.shape[1:])), *args, **options)
            return lambda *sigmas: whole(*sigmas)[self._indices]

        return build


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
        batched = isinstance(value, Tensor) and value.ndim > (2 if name == "mask" else 1) and len(value) > 1
        return comfy.utils.repeat_to_batch_size(value, total)[indices] if batched else value

    return {name: pick(value, name) for name, value in cond.items()}


def mask_of_members(mask: Tensor | None, samples: Tensor, indices: list[int], total: int) -> Tensor | None:
    if mask is None or samples.ndim != 4 or indices == list(range(total)):
        return mask
    return comfy.utils.repeat_to_batch_size(mask.reshape(-1, 1, *mask.shape[-2:]), total)[indices]
