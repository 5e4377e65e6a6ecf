"""What is done where memory runs out: once more, with a gradient that takes less."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import comfy.model_management

from . import host

T = TypeVar("T")


def saving_memory(sampler: host.DifferentiableSampler, body: Callable[[host.DifferentiableSampler], T]) -> T:
    """body(sampler); where memory `auto` runs out in it, body of the same sampler with memory `low`."""
    try:
        return body(sampler)
    except RuntimeError as error:
        if sampler.memory != "auto" or not comfy.model_management.is_oom(error):
            raise
    logging.warning("Noise Optimize ran out of memory; it begins again with memory low.")
    comfy.model_management.soft_empty_cache()
    return body(host.DifferentiableSampler(sampler, "low", sampler.gradient_steps))
