"""What all nodes of this pack share: what comes in is checked first, and what is wrong is said in the node itself.

The frontend shows a toast that says only that a graph failed, and keeps the sentence behind two clicks.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

from comfy_api.v0_0_2 import io
from comfy_execution.utils import get_executing_context

from .checks import check_inputs
from .monitor import write


class Node(io.ComfyNode):
    """Base of all nodes: `execute` gets inputs that were checked, and what it raises is read in the node, too."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        execute = vars(cls).get("execute")
        if execute is not None and not hasattr(execute.__func__, "__wrapped__"):  # the host copies classes that it runs
            cls.execute = classmethod(_checked(execute.__func__))


def _checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def checked(cls: type[Node], *args: Any, **inputs: Any) -> io.NodeOutput:
        with _Failure():
            given = signature.bind(cls, *args, **inputs).arguments
            own = inspect.signature(cls.validate_inputs).parameters  # a node looks at its lists of files itself
            schema = vars(cls).get("SCHEMA") or cls.GET_SCHEMA()
            check_inputs([each for each in schema.inputs if each.id not in own], given | inputs, schema.is_input_list)
            return execute(cls, *args, **inputs)

    return checked


class _Failure(contextlib.AbstractContextManager[None]):
    """Writes what an error says into the node that is running; a Cancel says nothing.

    The frontend keeps a node's text until another comes, so the next run of the node wipes it out.
    """

    shown: ClassVar[set[str]] = set()  # ids of the nodes that show a sentence

    def __enter__(self) -> None:
        running = get_executing_context()
        if running is not None and running.node_id in self.shown:
            write(" ", running.node_id)  # the frontend ignores an empty text
            self.shown.discard(running.node_id)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        running = get_executing_context()
        if running is not None and isinstance(error, Exception):
            write(str(error) or type(error).__name__, running.node_id)
            self.shown.add(running.node_id)
