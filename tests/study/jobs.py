"""What a study has to do: one job for each prompt, way and seed, known by a hash of the graph that it runs."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .graphs import Graph, Layout

if TYPE_CHECKING:
    from .ways import Way  # which needs the pack, as a worker of a cluster does not


@dataclass(frozen=True)
class Job:
    """A graph to run once, with prompt and seed in it. key: of the graph. metrics: what measures its pictures."""

    key: str
    way: str
    prompt: str
    seed: int
    graph: Graph
    metrics: tuple[str, ...] = ()


def key_of(graph: Graph) -> str:
    """The same for the same graph, wherever and whenever; another for any other."""
    return hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest()[:24]


def seed_of(prompt: str, number: int) -> int:
    """The seed of a prompt's set with this number: the same for all ways, so that they compare by pairs, and another
    for other prompts, so that no noise decides the mean."""
    return zlib.crc32(f"{number} {prompt}".encode())


def jobs_of(
    layout: Layout, ways: Iterable[Way], prompts: Sequence[str], sets: Sequence[int], metrics: Sequence[str]
) -> list[Job]:
    """Prompt by prompt; ways that are the same graph have jobs of one key. sets: numbers of the prompts' sets."""
    found, ways = [], list(ways)
    for index, prompt in enumerate(prompts):
        for number in sets:
            for way in (way for way in ways if way.prompts is None or index < way.prompts):
                seed = seed_of(prompt, number)
                graph = way.graph(layout, prompt, seed)
                found.append(Job(key_of(graph), way.name, prompt, seed, graph, tuple(metrics) * way.measured))
    return found


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each key once."""
    return list({job.key: job for job in jobs}.values())
