"""The ends of sampling runs, put off to the start of the next: a graph needs what the host takes away there."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from .layers import overridden

PATCHER_ENDS = ("cleanup", "restore_hook_patches")  # the hooks' weights, and that they are known at all
CONTROL_ENDS = ("cleanup",)  # the picture that a ControlNet was given, and of a Control-LoRA the network


class Endings:
    """`come` lets happen what runs within `put_off` left to do."""

    def __init__(self) -> None:
        self.due: dict[tuple[int, str], Callable[[], Any]] = {}

    @contextlib.contextmanager
    def put_off(self, patchers: Iterable[Any], controls: Iterable[Any]) -> Iterator[None]:
        ends = [(patchers, name) for name in PATCHER_ENDS] + [(controls, name) for name in CONTROL_ENDS]
        with contextlib.ExitStack() as stack:
            for holders, name in ends:
                stack.enter_context(overridden(holders, name, functools.partial(self._later, name)))
            try:
                yield
            finally:
                self.come()

    def come(self) -> None:
        """As at the end of a run of the host, in inference mode."""
        with torch.inference_mode():
            while self.due:
                self.due.pop(next(iter(self.due)))()

    def _later(self, name: str, holder: Any, end: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.due[id(holder), name] = functools.partial(end, *args, **kwargs)
