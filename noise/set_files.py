"""Files of noise sets: the patterns, with where they come from and what they did to prompts that they never saw."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .patterns import NoiseSet
from .tensor_files import Kind, is_a, read, write

TENSOR = "coefficients"
FIELDS: dict[str, type] = {
    "order": int, "size": int, "model": str, "latent_format": str, "prompts": str, "unseen": str,
    "scores": dict, "settings": dict,
}  # fmt: skip
LISTS = ("order", "size", "prompts", "unseen")  # of what FIELDS says
SET = Kind(
    "noise_optimize.set",
    tuple(FIELDS),
    missing="there is no such noise set; choose one of the list or save one with Save Noise.",
    damaged="is damaged or no safetensors file; get the noise set again, or find it anew.",
    other="holds no noise set; choose a file of Find Noise Set, written by Save Noise.",
)


def save_set(path: str | os.PathLike[str], found: NoiseSet) -> Path:
    """Write a noise set whole or not at all. Raises OSError where the folder cannot be written.

    >>> import torch
    >>> path = save_set("set.safetensors", NoiseSet(torch.randn(16, 4, 3, 3), model="my model"))
    >>> load_set(path).model
    'my model'
    """
    return write(path, SET, {TENSOR: found.coefficients}, vars(found))


def load_set(path: str | os.PathLike[str]) -> NoiseSet:
    """Read a noise set; raises ValueError with one sentence where it is missing, damaged or something else."""
    tensors, fields = read(path, SET)
    if set(tensors) != {TENSOR} or tensors[TENSOR].dtype != torch.float32 or not _sound(fields):
        raise SET.broken(path)
    given: dict[str, Any] = {name: tuple(value) if name in LISTS else value for name, value in fields.items()}
    try:
        return NoiseSet(tensors[TENSOR], **given)
    except ValueError as error:
        raise SET.broken(path) from error


def is_set(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds a noise set."""
    return is_a(SET, path)


def _sound(fields: dict[str, Any]) -> bool:
    """Whether the fields are what `save_set` would have written."""
    for name, kind in FIELDS.items():
        values = fields[name] if name in LISTS and isinstance(fields[name], list) else [fields[name]]
        if isinstance(fields[name], list) != (name in LISTS) or not all(type(value) is kind for value in values):
            return False
    return bool(fields["order"])
