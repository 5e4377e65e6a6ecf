"""plan.json: which lines of a folder belong to which row of which experiment, so that tables need no ComfyUI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .jobs import Job
from .scores import METRICS
from .store import Line, Store
from .ways import Way

FILE = "plan.json"


def write(folder: Path, jobs: Sequence[Job], experiments: Mapping[str, Sequence[Way]], facts: dict[str, Any]) -> None:
    """facts: what a table says of the whole study, and "model", a hash of the graph whatever its prompt and seed.

    Experiments of earlier runs of that graph stay in the plan. ValueError where the folder has a study of another.
    """
    keys: dict[str, list[str]] = {}
    for job in jobs:
        keys.setdefault(job.way, []).append(job.key)
    rows = {
        name: {way.name: {"keys": keys.get(way.name, []), "eyes": sorted(way.eyes)} for way in ways}
        for name, ways in experiments.items()
    }
    if (folder / FILE).exists():
        before = read(folder)
        if before["model"] != facts["model"]:
            raise ValueError(f"{folder} has a study of another graph, {before['graph']}: give another by --out.")
        rows = before["experiments"] | rows
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts | {"experiments": rows}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """FileNotFoundError where nothing was run in the folder."""
    return json.loads((folder / FILE).read_text(encoding="utf-8"))


class Results:
    """The lines of a folder by experiment and way."""

    def __init__(self, folder: Path) -> None:
        self.plan = read(folder)
        self.store = Store(folder)
        lines = self.store.lines
        self.experiments: dict[str, dict[str, list[Line]]] = {
            name: {way: [lines[key] for key in row["keys"] if key in lines] for way, row in rows.items()}
            for name, rows in self.plan["experiments"].items()
        }

    def planned(self, experiment: str, way: str) -> int:
        return len(self.plan["experiments"][experiment][way]["keys"])

    def eyes(self, experiment: str, way: str) -> list[str]:
        return self.plan["experiments"][experiment][way]["eyes"]

    @property
    def metrics(self) -> list[str]:
        """Those that any line has, in the order of the tables."""
        found = {metric for line in self.store.lines.values() for metric in line.get("scores", {})}
        return [metric for metric in METRICS if metric in found] + sorted(found - METRICS.keys())
