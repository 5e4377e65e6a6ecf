"""What a running node shows: a contact sheet of the batch, its scores, and how far it is. Cancel is heard here too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.utils
from PIL import Image
from torch import Tensor

from ..objectives.objective import Objective

SIDE = 1024  # pixels of the longer side of a contact sheet at most
THUMBNAIL = 256  # of a picture that is finished
FORMAT = "JPEG"
LETTERS = 60  # of a line that fits into a node
LINE = "noise_optimize.line"  # the event by which the browser hears of it


def to_pil(pictures: Tensor) -> list[Image.Image]:
    """PIL pictures of (B, 3, H, W) in 0..1."""
    levels = (pictures.detach().nan_to_num().clamp(0, 1) * 255).round().byte().movedim(1, -1).cpu().numpy()
    return [Image.fromarray(picture) for picture in levels]


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image | None:
    """The pictures side by side in a grid that is nearly square, made small enough to send."""
    if not images:
        return None
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    scale = min(1.0, SIDE / max(columns * width, rows * height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new("RGB", (columns * width, rows * height))
    for i, image in enumerate(images):
        sheet.paste(image.convert("RGB").resize((width, height)), (i % columns * width, i // columns * height))
    return sheet


class Monitor:
    """The progress bar, preview and text of one node. total: how many times `show` will be called at most."""

    def __init__(self, node_id: str | None, total: int) -> None:
        self.node_id, self.total, self.count = node_id, total, 0
        self.bar = comfy.utils.ProgressBar(total, node_id=node_id)
        self.finished: list[Image.Image] = []

    def finish(self, images: Sequence[Image.Image]) -> None:
        """Pictures to show before all that follow."""
        for image in images:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            self.finished.append(image)

    def show(self, images: Sequence[Image.Image], text: str, count: int | None = None) -> None:
        """Shows the pictures after those already finished; raises the host's interruption where Cancel was pressed."""
        self.count = min(self.count + 1 if count is None else count, self.total)
        sheet = contact_sheet([*self.finished, *images])
        self.bar.update_absolute(self.count, self.total, (FORMAT, sheet, SIDE) if sheet else None)
        write(text, self.node_id)
        comfy.model_management.throw_exception_if_processing_interrupted()


def fitting(words: Sequence[str]) -> str:
    """The first of these words and what more of them fits into a node, in one line."""
    line = words[0]
    for word in words[1:]:
        if len(line) + len(word) + 3 > LETTERS:
            break
        line = f"{line} · {word}"
    return line


def write(text: str, node_id: str | None) -> None:
    """Text in a node, in place of what was written there before; nothing where no node is running.

    Nodes 2.0 reads it as Markdown, where only two spaces at its end break a line.
    """
    if node_id is None:
        return
    from server import PromptServer

    PromptServer.instance.send_progress_text(text.replace("\n", "  \n"), node_id)


@dataclass
class Line:
    """The score that the browser draws beside the pictures, at each iteration: of the first diversity, else the first.

    name: of the score. label: what the node calls it.
    """

    name: str
    label: str
    values: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, objective: Objective) -> Line:
        leaves = objective.leaves()
        drawn = next((leaf for leaf in leaves if leaf.role.panel == "diversity"), leaves[0])
        return cls(drawn.name, "variety" if drawn.role.panel == "diversity" else drawn.name)

    def enter(self, scores: Mapping[str, float]) -> None:
        if math.isfinite(value := scores.get(self.name, math.nan)):
            self.values.append(value)

    @property
    def shown(self) -> dict[str, Any]:
        """For the browser."""
        return {"label": self.label, "line": self.values}


def tell(line: Line, node_id: str | None) -> None:
    """Sends a line to web/js/keep.js while its node is running; nothing where none is."""
    if node_id is None:
        return
    from server import PromptServer

    PromptServer.instance.send_sync(LINE, {"node": node_id, **line.shown}, PromptServer.instance.client_id)
