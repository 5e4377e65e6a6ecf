"""What was made: a folder with results.jsonl, a line for each prompt and way, and pictures by the key of their job."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .jobs import Job

Line = dict[str, Any]


class Store:
    """The lines of a folder by key. Of two lines with one key the later holds, so nothing is counted twice.

    A line that was cut off, as by a crash, is none. Only one process may write to a folder at a time.
    """

    def __init__(self, folder: str | Path, wanted: Iterable[str] = ()) -> None:
        """wanted: keys of the jobs of which it is told how many are made."""
        self.folder, self.wanted = Path(folder), frozenset(wanted)
        self.file, self.pictures = self.folder / "results.jsonl", self.folder / "pictures"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.lines: dict[str, Line] = {}
        whole = self.file.read_bytes() if self.file.exists() else b""
        for text in whole.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            self.lines[line["key"]] = line
        if whole and not whole.endswith(b"\n"):
            with self.file.open("ab") as file:
                file.write(b"\n")

    def made(self, job: Job) -> bool:
        """Whether its pictures are here."""
        line = self.lines.get(job.key, {})
        return bool(line.get("pictures")) and all((self.folder / name).exists() for name in line["pictures"])

    def lacks(self, job: Job) -> bool:
        """Whether there is anything left to do."""
        return not self.made(job) or not set(job.metrics) <= self.lines[job.key]["scores"].keys()

    def line(self, key: str) -> Line:
        return self.lines[key]

    def read(self, key: str) -> list[bytes]:
        """The pictures of a job, as PNG."""
        return [(self.folder / name).read_bytes() for name in self.lines[key]["pictures"]]

    def add(self, line: Line, pictures: list[bytes] | None = None) -> None:
        """Keep a line, and the pictures that were made; those first, so that a line never names what is not there."""
        if pictures is not None:
            line = line | {"pictures": [f"pictures/{line['key']}_{i}.png" for i in range(len(pictures))]}
            for name, content in zip(line["pictures"], pictures):
                (self.folder / name).write_bytes(content)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.lines[line["key"]] = line
        if self.wanted:
            made = sum("pictures" in self.lines.get(key, {}) for key in self.wanted)
            what = line.get("failed") or f"{line['seconds']:.1f} s"
            print(f"{made} of {len(self.wanted)}  {line['prompt']} | {line['way']}: {what}", flush=True)

    def compact(self) -> None:
        """Leave one line of each key, the later one."""
        with self.file.with_suffix(".new").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines.values())
        self.file.with_suffix(".new").replace(self.file)
