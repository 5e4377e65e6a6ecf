"""What a session switches in the host while it differentiates: kernels that have no derivative.

A kernel that autograd does not know gives no gradient or, without a word, a wrong one: SageAttention fills a fresh
tensor, and the gradient goes round attention. Plain sampling keeps the user's kernels.
"""

from __future__ import annotations

import contextlib
import re
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import comfy.cli_args
import comfy.model_management
from comfy.ldm.modules import attention

from .kitchen import plain_operations

OVERRIDE = "optimized_attention_override"  # in transformer_options: outranks every other choice of attention
PLAIN_TORCH = ("attention_pytorch", "attention_basic", "attention_split", "attention_sub_quad")
NO_DERIVATIVE = (
    "derivative for",
    "not implemented for",
    "no autograd formula",
    "autograd kernel",
    "implement either the backward",
    "support automatic differentiation",
    "does not require grad",
    "that requires grad",
    "cannot be saved for backward",
    "inplace",
    "in-place operation",
)  # what torch says of operations that cannot be differentiated
SENTENCE_END = re.compile(r"(?<!\.)\. ")


@contextlib.contextmanager
def differentiable(on: bool = True) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Within it, if on, the host computes with kernels that have a derivative; afterwards all is as before.

    Yields what makes of transformer_options those to use within, whatever attention others have installed there.
    """
    before = []
    try:
        for holder, name, value in list(_switches()) if on else ():
            before.append((holder, name, getattr(holder, name)))
            setattr(holder, name, value)
        with plain_operations() if on else contextlib.nullcontext():
            yield (lambda options: options | {OVERRIDE: _attention}) if on else dict
    finally:
        for holder, name, value in reversed(before):
            setattr(holder, name, value)


def cannot_differentiate(error: BaseException) -> str | None:
    """What torch says of an operation without a derivative, in one sentence; None if error is about something else."""
    said = str(error).partition("\n")[0]
    return SENTENCE_END.split(said)[0] if any(reason in said for reason in NO_DERIVATIVE) else None


@contextlib.contextmanager
def no_silent_fallback() -> Iterator[None]:
    """An operation without a derivative is an error, not a warning and a wrong gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        yield


def _switches() -> Iterator[tuple[Any, str, Any]]:
    """(holder, attribute, value while differentiating)"""
    yield comfy.model_management, "in_training", True  # most models then leave out fused operators
    if hasattr(comfy.cli_args.args, "disable_comfy_compiler"):  # what it records must not outlive a call; a graph does
        yield comfy.cli_args.args, "disable_comfy_compiler", True
    for kernel in (*vars(attention).values(), *attention.REGISTERED_ATTENTION_FUNCTIONS.values()):
        if isinstance(kernel, types.FunctionType) and getattr(kernel, "__wrapped__", None) not in (None, *_plain()):
            yield from _by_pytorch(kernel)


def _by_pytorch(kernel: Any) -> Iterator[tuple[Any, str, Any]]:
    """Makes an attention function answer as `attention_pytorch` for all who hold it, by whatever name.

    Many models call it without transformer_options, where the override does not reach. The host's `wrap_attn` keeps
    the kernel in a cell of its wrapper.
    """
    for cell in kernel.__closure__ or ():
        if cell.cell_contents is kernel.__wrapped__:
            yield cell, "cell_contents", attention.attention_pytorch.__wrapped__
            if hasattr(kernel, "container_function"):
                yield kernel, "container_function", None


def _attention(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """The override: the kernel that the model asked for if it is plain torch, else `attention_pytorch`."""
    return (kernel if kernel in _plain() else attention.attention_pytorch)(*args, **kwargs)


def _plain() -> list[Any]:
    return [getattr(attention, name).__wrapped__ for name in PLAIN_TORCH]
