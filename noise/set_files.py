"""Files of noise sets: the patterns, with where they come from and what they did to prompts that they never saw."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .patterns import NoiseSet
from .tensor_files import Unreadable, is_a, read, short, write

FORMAT, VERSION = "noise_optimize.set", "1"
TENSOR = "coefficients"
FIELDS: dict[str, type] = {
    "order": int, "size": int, "model": str, "latent_format": str, "prompts": str, "unseen": str,
    "scores": dict, "settings": dict,
}  # fmt: skip
LISTS = ("order", "size", "prompts", "unseen")  # of what FIELDS says


def save_set(path: str | os.PathLike[str], found: NoiseSet) -> Path:
    """Write a noise set whole or not at all. Raises OSError where the folder cannot be written.

    >>> import torch
    >>> path = save_set("set.safetensors", NoiseSet(torch.randn(16, 4, 3, 3), model="my model"))
    >>> load_set(path).model
    'my model'
    """
    return write(path, FORMAT, VERSION, {TENSOR: found.coefficients}, {name: getattr(found, name) for name in FIELDS})


def load_set(path: str | os.PathLike[str]) -> NoiseSet:
    """Read a noise set; raises ValueError with one sentence where it is missing, damaged or something else."""
    name = short(path)
    if not os.path.isfile(path):
        raise ValueError(f"{name}: there is no such noise set; choose one of the list or save one with Save Noise.")
    damaged = f"{name} is damaged or no safetensors file; get the noise set again, or find it anew."
    try:
        metadata, tensors, fields = read(path, FORMAT, VERSION, tuple(FIELDS))
    except Unreadable as error:
        raise ValueError(damaged) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{name} holds no noise set; choose a file of Find Noise Set, written by Save Noise.")
    if metadata.get("version") != VERSION:
        raise ValueError(f"{name} was written by another version of this node pack; update the pack to load it.")
    if set(tensors) != {TENSOR} or tensors[TENSOR].dtype != torch.float32 or not _sound(fields):
        raise ValueError(damaged)
    return _made(tensors[TENSOR], fields, damaged)


def is_set(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds a noise set."""
    return is_a(FORMAT, path)


def _made(coefficients: Tensor, fields: dict[str, Any], damaged: str) -> NoiseSet:
    given: dict[str, Any] = {name: tuple(value) if name in LISTS else value for name, value in fields.items()}
    try:
        return NoiseSet(coefficients, **given)
    except ValueError as error:
        raise ValueError(damaged) from error


def _sound(fields: dict[str, Any]) -> bool:
    """Whether the fields are what `save_set` would have written."""
    for name, kind in FIELDS.items():
        values = fields[name] if name in LISTS and isinstance(fields[name], list) else [fields[name]]
        if isinstance(fields[name], list) != (name in LISTS) or not all(type(value) is kind for value in values):
            return False
    return bool(fields["order"])
