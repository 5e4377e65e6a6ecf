"""Numbers of many lines as the cells of a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from .store import Line

NOT_YET = "not measured yet"


def values(lines: Iterable[Line], metric: str) -> list[float]:
    return [line["scores"][metric] for line in lines if metric in line.get("scores", {})]


def error(numbers: Sequence[float]) -> float | None:
    """The standard error of their mean; None of a single one."""
    return stdev(numbers) / len(numbers) ** 0.5 if len(numbers) > 1 else None


def told(numbers: Sequence[float], sign: str = "") -> str:
    """Mean and standard error in words."""
    if not numbers:
        return NOT_YET
    spread = error(numbers)
    return f"{fmean(numbers):{sign}.3f}" + ("" if spread is None else f" ({spread:.3f})")


def paired(lines: Iterable[Line], plain: Iterable[Line], metric: str) -> list[float]:
    """Differences to the line of the same prompt and seed."""
    before = {
        (line["prompt"], line["seed"]): line["scores"][metric] for line in plain if metric in line.get("scores", {})
    }
    return [
        line["scores"][metric] - before[line["prompt"], line["seed"]]
        for line in lines
        if metric in line.get("scores", {}) and (line["prompt"], line["seed"]) in before
    ]


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
