"""What people said on the page: for each way how often it was preferred to plain pictures, blind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import comb
from pathlib import Path
from typing import Any

from .cells import grid

QUESTIONS = {"varied": "differ more", "better": "are better pictures of the prompt"}


def read(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The votes of all files; each file is one person's. Of one person's votes on a pair the last counts."""
    found = []
    for file in files:
        votes = json.loads(file.read_text(encoding="utf-8"))["votes"]
        found += {(v["prompt"], v["seed"], v["way"], v["question"]): v for v in votes}.values()
    return found


def chance(wins: int, losses: int) -> float:
    """How often a fair coin is at least as one-sided, ties left out: the exact two-sided sign test."""
    n = wins + losses
    tail = sum(comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n
    return min(1.0, 2 * tail)


def tally(votes: Iterable[dict[str, Any]]) -> str:
    """A row for each way and question."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for vote in votes:
        row = counts.setdefault((vote["way"], vote["question"]), {"way": 0, "same": 0, "plain": 0})
        row[vote["for"]] += 1
    rows = [
        [way, QUESTIONS[question], *map(str, row.values()), f"{chance(row['way'], row['plain']):.3f}"]
        for (way, question), row in counts.items()
    ]
    return grid(["way", "pictures that", "the way", "same", "plain", "chance"], rows)
