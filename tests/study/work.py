"""Jobs on one ComfyUI, one after another: pictures, then what they measure; only what is missing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .comfy import Client, Refused
from .jobs import Job
from .scores import METRICS, measuring
from .store import Line

COST = re.compile(r"([\d.]+) plain sampling runs?")
KEPT = ("iteration", "scores", "change", "seconds")  # of each iteration of a history
Connect = Callable[[], AbstractContextManager[Client]]


class Keeper(Protocol):
    """What `work` asks of a store, here or in another process."""

    def made(self, job: Job) -> bool: ...
    def lacks(self, job: Job) -> bool: ...
    def line(self, key: str) -> Line: ...
    def read(self, key: str) -> list[bytes]: ...
    def add(self, line: Line, pictures: list[bytes] | None = None) -> None: ...


def work(jobs: Iterable[Job], connect: Connect, store: Keeper) -> None:
    """Do what these jobs lack. A job that ComfyUI refuses has its sentence in its line, and is tried again by the next
    run; OSError where ComfyUI itself is gone, and what was kept so far stays."""
    left = [job for job in jobs if store.lacks(job)]
    if not left:
        return
    without: dict[str, str] = {}  # metrics that this ComfyUI does not have, and why
    with connect() as server:
        for job in left:
            line, pictures = (store.line(job.key), None) if store.made(job) else make(server, job)
            if "failed" not in line:
                had = line["scores"]
                wanted = [metric for metric in job.metrics if metric not in had and metric not in without]
                scores = measure(server, job, pictures or store.read(job.key), wanted, without) if wanted else {}
                unmeasured = {metric: without[metric] for metric in job.metrics if metric in without}
                line = line | {"scores": had | scores, "unmeasured": unmeasured}
            store.add(line, pictures)


def make(server: Client, job: Job) -> tuple[Line, list[bytes] | None]:
    """The line of a job and its pictures; none where it failed."""
    line: Line = {"key": job.key, "way": job.way, "prompt": job.prompt, "seed": job.seed}
    began = time.perf_counter()
    try:
        outputs = server.run(job.graph)
    except Refused as reason:
        return line | {"failed": str(reason)}, None
    line["seconds"] = round(time.perf_counter() - began, 3)
    report, history = ("".join(outputs.get(name, {}).get("text", [])) for name in ("report", "history"))
    line |= {"passes": float(COST.search(report)[1]) if report else 1.0, "report": report, "scores": {}}
    if history:
        line["history"] = [
            [{name: step[name] for name in KEPT} for step in batch["iterations"]] for batch in json.loads(history)
        ]
    return line, [server.fetch(entry) for entry in outputs["pictures"]["images"]]


def measure(
    server: Client, job: Job, pictures: list[bytes], metrics: list[str], without: dict[str, str]
) -> dict[str, float]:
    """The metrics of pictures. One that fails goes, with its reason, to `without`; the others are measured."""
    files = [server.upload(f"{job.key}_{i}.png", content) for i, content in enumerate(pictures)]
    try:
        return counted(server.run(measuring(files, job.prompt, metrics)), metrics, len(pictures))
    except Refused as reason:
        if len(metrics) == 1:
            without[metrics[0]] = str(reason)
            return {}
    found: dict[str, float] = {}
    for metric in metrics:
        found |= measure(server, job, pictures, [metric], without)
    return found


def counted(outputs: dict[str, Any], metrics: list[str], pictures: int) -> dict[str, float]:
    return {
        metric: METRICS[metric].counted(float("".join(outputs[f"is {metric}"]["text"])), pictures) for metric in metrics
    }
