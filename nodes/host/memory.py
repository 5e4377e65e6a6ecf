"""What gradients may take of a session's memory, and whether their graphs are kept or recomputed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch

from ...noise.gradient.recompute import MemoryBudget

MEMORY = ("auto", "fast", "low")
GRADIENT_SHARE = 0.6  # of the memory beside the weights may hold saved activations; the rest is for temporaries
RESERVED_SAMPLES = 8  # when models are loaded, one sample with gradient is taken to need as much as this many without


class Memory:
    """mode: "fast" keeps the graph of a sampling run, "low" recomputes it; "auto" is settled by what was measured.

    model, decoder: what the activations of one call may take, and what those of one sample do take.
    """

    def __init__(self, mode: str) -> None:
        self.mode, self.model, self.decoder = mode, MemoryBudget(0), MemoryBudget(0)

    def measure(self, device: torch.device, patchers: Sequence[Any]) -> None:
        """Sets the limits that are not set, by what the device has left with these ModelPatchers loaded."""
        limit = free_for_gradients(device, patchers)
        for budget in (self.model, self.decoder):
            budget.limit = budget.limit or limit

    def choose(self, batch: int, calls: int, hooked: bool) -> None:
        """Settles `auto` once a run of so many model calls has measured what a graph takes."""
        if self.mode != "low" and hooked:
            self.mode = "low"
            logging.info("Noise Optimize: memory is low, because a hook on a conditioning changes the model's weights.")
        if self.mode == "auto" and self.model.per_sample and calls:
            graph = batch * (calls * self.model.per_sample + (self.decoder.per_sample or 0))
            self.mode = "fast" if graph < self.model.limit else "low"
            logging.info(
                "Noise Optimize: memory auto chose %s: the graph of %d samples takes %.2f GB, %.2f GB are free for it.",
                self.mode, batch, graph / 1e9, self.model.limit / 1e9,
            )  # fmt: skip


def free_for_gradients(device: torch.device, patchers: Sequence[Any]) -> int:
    """Bytes that saved activations may take. Depends on the size of the device first, so that runs repeat."""
    weights = sum(patcher.model_size() for patcher in patchers)
    total = comfy.model_management.get_total_memory(device)
    return int(GRADIENT_SHARE * max(0, min(total - weights, comfy.model_management.get_free_memory(device))))


def reserved(shape: Sequence[int]) -> list[int]:
    """The shape of noise for which models are loaded so that memory is left for a gradient."""
    return [max(shape[0], RESERVED_SAMPLES), *shape[1:]]
