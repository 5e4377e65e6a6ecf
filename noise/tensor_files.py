"""The pack's files: safetensors with JSON beside them, written whole or not at all. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

LONGEST = 100  # letters of a file's name in a message
HEADER = 1 << 20  # bytes of the header of a file of ours at most


def write(path: str | os.PathLike[str], format: str, version: str, tensors: dict[str, Tensor], fields: Any) -> Path:
    """Writes tensors and the fields of a mapping as JSON; the file appears under its name only when it is all on disk.

    Raises OSError where the folder cannot be written.
    """
    path = Path(path)
    metadata = {"format": format, "version": version, **{name: json.dumps(value) for name, value in fields.items()}}
    data = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(unfinished, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


class Unreadable(ValueError):
    """A file is no safetensors file, or lacks a field that it should have."""


def read(
    path: str | os.PathLike[str], format: str, version: str, fields: Sequence[str]
) -> tuple[dict[str, str], dict[str, Tensor], dict[str, Any]]:
    """(metadata, tensors, fields) of a file; tensors and fields are empty where it is of another format or version.

    Raises Unreadable where it is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("format") != format or metadata.get("version") != version:
                return metadata, {}, {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return metadata, tensors, {name: json.loads(metadata[name]) for name in fields}
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def short(path: str | os.PathLike[str]) -> str:
    """The name of a file for a message."""
    name = Path(path).name
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."


def is_a(format: str, path: str | os.PathLike[str]) -> bool:
    """Whether the header of a file says that it has this format; reads no tensor, and of other files eight bytes."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: Mapping[str, Any] = json.loads(file.read(length)) if length <= HEADER else {}
    except (OSError, ValueError, RecursionError):
        return False
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and metadata.get("format") == format
