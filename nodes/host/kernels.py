"""What a session switches in the host while it differentiates: kernels that have no derivative."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import comfy.model_management

from .kitchen import plain_operations


@contextlib.contextmanager
def training(on: bool = True) -> Iterator[None]:
    """The host's flag that keeps kernels without a derivative out of the way, and plain ones where none looks at it."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = on or before
    try:
        with plain_operations() if on else contextlib.nullcontext():
            yield
    finally:
        comfy.model_management.in_training = before


@contextlib.contextmanager
def no_silent_fallback() -> Iterator[None]:
    """An operation without a derivative is an error, not a warning and a wrong gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        yield
