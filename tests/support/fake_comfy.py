"""A ComfyUI for tests of what drives one: no graph is computed, and each is written down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from study.comfy import Refused


def picture(colour: str | tuple[int, int, int] = "grey") -> bytes:
    written = BytesIO()
    Image.new("RGB", (8, 8), colour).save(written, "PNG")
    return written.getvalue()


@dataclass
class FakeComfy:
    """log: a file with a line [process, "make" or "measure", what, when it began, and ended] for each graph.

    refuses: classes of nodes that are refused, and why. kills: (n, file): its process is killed before the n-th graph,
    once, and leaves that file. seconds: that a graph takes.
    """

    log: Path
    refuses: dict[str, str]
    kills: tuple[int, Path] | None = None
    seconds: float = 0.0
    ran: int = 0

    def run(self, graph: dict[str, Any]) -> dict[str, Any]:
        self.ran += 1
        if self.kills and self.ran == self.kills[0]:
            with contextlib.suppress(FileExistsError):
                self.kills[1].touch(exist_ok=False)
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows kills by either
        began = time.monotonic()
        time.sleep(self.seconds)
        for part in graph.values():
            if reason := self.refuses.get(part["class_type"]):
                raise Refused(reason)
        made = "pictures" in graph
        with self.log.open("a") as file:
            what = graph["noise of study"]["inputs"] if made else sorted(n for n in graph if n.startswith("is "))
            line = [os.getpid(), "make" if made else "measure", what, began, time.monotonic()]
            file.write(json.dumps(line) + "\n")
        if made:
            return {"pictures": {"images": [{"filename": str(i)} for i in range(4)]}}
        return {name: {"text": ["0.5"]} for name in graph if name.startswith("is ")}

    def fetch(self, entry: dict[str, str]) -> bytes:
        return picture()

    def upload(self, name: str, content: bytes) -> str:
        return name


@contextlib.contextmanager
def fake(
    log: Path, refuses: dict[str, str] | None = None, kills: tuple[int, Path] | None = None, seconds: float = 0.0
) -> Iterator[FakeComfy]:
    yield FakeComfy(log, refuses or {}, kills, seconds)
