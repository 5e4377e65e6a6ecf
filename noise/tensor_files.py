"""The pack's files: safetensors with JSON beside them, written whole or not at all. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

LONGEST = 100  # letters of a file's name in a message
HEADER = 1 << 20  # bytes of the header of a file of ours at most


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    fields: what it holds as JSON beside its tensors. missing, damaged, other: what is said, after its name, of a file
    that is not there, that cannot be read, and that holds something else.
    """

    format: str
    fields: tuple[str, ...]
    missing: str
    damaged: str
    other: str
    version: str = "1"

    def broken(self, path: str | os.PathLike[str]) -> ValueError:
        """The error of a file that holds what `write` would not have written."""
        return ValueError(f"{short(path)} {self.damaged}")


def write(path: str | os.PathLike[str], kind: Kind, tensors: dict[str, Tensor], fields: Mapping[str, Any]) -> Path:
    """Writes tensors and the fields of a mapping as JSON; the file appears under its name only when it is all on disk.

    Raises OSError where the folder cannot be written.
    """
    path = Path(path)
    metadata = {"format": kind.format, "version": kind.version}
    metadata |= {name: json.dumps(fields[name]) for name in kind.fields}
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


def read(path: str | os.PathLike[str], kind: Kind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and fields of a file; raises ValueError with one sentence where it is missing, damaged or of another
    kind or version."""
    name, tensors, fields = short(path), {}, {}
    if not os.path.isfile(path):
        raise ValueError(f"{name}: {kind.missing}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if (metadata.get("format"), metadata.get("version")) == (kind.format, kind.version):
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                fields = {name: json.loads(metadata[name]) for name in kind.fields}
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise kind.broken(path) from error
    if metadata.get("format") != kind.format:
        raise ValueError(f"{name} {kind.other}")
    if metadata.get("version") != kind.version:
        raise ValueError(f"{name} was written by another version of this node pack; update the pack to load it.")
    return tensors, fields


def short(path: str | os.PathLike[str]) -> str:
    """The name of a file for a message."""
    name = Path(path).name
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."


def is_a(kind: Kind, path: str | os.PathLike[str]) -> bool:
    """Whether the header of a file says that it is of this kind; reads no tensor, and of other files eight bytes."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: Mapping[str, Any] = json.loads(file.read(length)) if length <= HEADER else {}
    except (OSError, ValueError, RecursionError):
        return False
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and metadata.get("format") == kind.format
