"""Noise files: the noise itself, with what is needed to make the pictures again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .tensor_files import Kind, read, write

NOISE = Kind(
    "noise_optimize.noise",
    ("seed", "batch_index", "spectrum", "scores", "settings", "shape"),
    missing="there is no such noise file; choose one of the list or save one with Save Noise.",
    damaged="is damaged or no safetensors file; save the noise again with Save Noise.",
    other="holds no noise; choose a file written by Save Noise.",
)
PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SEEDS = range(-(2**63), 2**64)  # what torch.manual_seed takes


@dataclass(frozen=True)
class NoiseFile:
    """What a noise file holds. Raises ValueError where the noise is not finite.

    samples: the noise, (B, C, ...); more than one tensor where a latent has several parts (a video and its sound).
    seed: for the noise that a sampler injects itself. batch_index: which samples of a larger batch these are.
    spectrum, scores, settings: anything that JSON can hold.
    """

    samples: tuple[Tensor, ...]
    seed: int = 0
    batch_index: list[int] | None = None
    spectrum: dict[str, Any] | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(bool(part.isfinite().all()) for part in self.samples):
            raise ValueError("noise holds values that are not finite; make it anew.")


def save(path: str | os.PathLike[str], noise: NoiseFile) -> Path:
    """Write a noise file whole or not at all: it appears under its name only when all of it is on disk.

    Raises OSError where the folder cannot be written.

    >>> import torch
    >>> path = save("found.safetensors", NoiseFile(samples=(torch.zeros(2, 4, 8, 8),), seed=7))
    >>> load(path).seed
    7
    """
    fields = vars(noise) | {"shape": [list(part.shape) for part in noise.samples]}
    return write(path, NOISE, {f"noise_{i}": part for i, part in enumerate(noise.samples)}, fields)


def load(path: str | os.PathLike[str]) -> NoiseFile:
    """Read a noise file; raises ValueError with one sentence where it is missing, damaged or something else."""
    tensors, fields = read(path, NOISE)
    names, shapes = [f"noise_{i}" for i in range(len(tensors))], fields.pop("shape")
    parts = tuple(tensors[name] for name in names if name in tensors)
    whole = 0 < len(parts) == len(tensors) and shapes == [list(part.shape) for part in parts]
    if not whole or not _sound(parts, **fields):
        raise NOISE.broken(path)
    return NoiseFile(parts, **fields)


def _sound(parts: tuple[Tensor, ...], seed: Any, batch_index: Any, spectrum: Any, scores: Any, settings: Any) -> bool:
    """Whether tensors and fields are what `save` would have written."""
    return (
        all(part.dtype in PRECISIONS and part.ndim >= 3 for part in parts)
        and type(seed) is int
        and seed in SEEDS
        and (batch_index is None or _is_index(batch_index, len(parts[0])))
        and isinstance(spectrum, dict | None)
        and isinstance(scores, dict)
        and isinstance(settings, dict)
    )


def _is_index(index: Any, count: int) -> bool:
    return isinstance(index, list) and len(index) == count and all(type(i) is int and i >= 0 for i in index)
