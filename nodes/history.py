"""What an optimisation did, as a plot, in words and as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from ..noise.history import Result, Step
from .plots import COLOURS, figure_to_image, label_axes, new_figure

BANDS = ("lowest third", "middle third", "highest third")
PANELS = {"diversity": "score (0 to 1)", "quality": "score"}
Part = tuple[Sequence[int], Result]


def plot(parts: Sequence[Part], panel: Mapping[str, str]) -> Tensor:
    """(1, H, W, 3) every score, the radius and the share of change per band, over the iterations of all parts.

    parts: the places in the set and the result of each batch, in the order they were made. panel: that each score is
    drawn in, by its name.
    """
    parts = [part for part in parts if part[1].history]
    steps = [step for _, result in parts for step in result.history]
    kept, edges, first = [], [], 0
    for _, result in parts:
        kept.append(first + result.best)
        first += len(result.history)
        edges.append(first - 0.5)
    panels = [
        (title, unit, {name: line(steps, name) for name, drawn_in in panel.items() if drawn_in == title})
        for title, unit in PANELS.items()
    ]
    panels += [
        ("noise radius", "share of the likeliest", {"": [step.radius for step in steps]}),
        (
            "where the noise changed",
            "share of the change",
            {band: [step.change[i] if step.iteration else math.nan for step in steps] for i, band in enumerate(BANDS)},
        ),
    ]
    panels = [panel for panel in panels if panel[2]]
    figure = new_figure(1024, 320 * len(panels) + 80)
    figure.suptitle(f"Stopped: {parts[-1][1].stopped}", fontsize=16, wrap=True)
    for axes, (title, unit, lines) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        draw(axes, lines, kept, edges[:-1])
        label_axes(axes, title, "iteration", unit)
    return figure_to_image(figure)


def line(steps: Sequence[Step], name: str) -> list[float]:
    return [step.scores.get(name, math.nan) for step in steps]


def draw(axes: Any, lines: dict[str, list[float]], kept: Sequence[int], edges: Sequence[float]) -> None:
    """Lines with a dot at the iterations that were kept, and a rule between batches."""
    for (name, values), colour in zip(lines.items(), COLOURS * 3, strict=False):
        axes.plot(values, color=colour, label=name or None, linewidth=2.5, marker="." if len(values) < 3 else None)
        axes.plot(kept, [values[i] for i in kept], "o", color=colour, markersize=9)
    for edge in edges:
        axes.axvline(edge, color="#999999", linestyle=":")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if any(lines):
        axes.legend(fontsize=13)


def report(parts: Sequence[Part], before: dict[str, float], after: dict[str, float], finished: dict[str, float]) -> str:
    """Before, after, iterations, seconds and why it stopped, in words; of a batch without a history only the latter.

    finished: the scores of the finished pictures, where the others are of predictions.
    """
    lines = []
    for name, value in after.items():
        if name in before:
            more = f" as first predicted, {finished[name]:.4f} finished" if name in finished else ""
            lines.append(f"{name}: {before[name]:.4f} before, {value:.4f} after{more}")
    for samples, result in parts:
        steps = result.history
        if not steps:
            lines.append(f"Pictures {samples[0] + 1} to {samples[-1] + 1} are as they were sampled. {result.stopped}")
            continue
        seconds = sum(step.seconds for step in steps)
        title = f"Pictures {samples[0] + 1} to {samples[-1] + 1}: " if len(parts) > 1 else ""
        each = f", {seconds / len(steps):.2f} s each" if len(steps) > 1 else ""
        lines.append(
            f"{title}{len(steps) - 1} iterations in {seconds:.1f} s{each}; stopped because {result.stopped}; "
            f"kept iteration {result.best}."
        )
        best = steps[result.best]
        if best.iteration:
            lines.append(
                f"The noise has {best.radius:.3f} of its likeliest radius; "
                f"{best.change[0]:.0%} of its change is in the lowest third of the spectrum."
            )
        for sample in sorted({sample for step in steps for sample in step.put_back}):
            times = sum(sample in step.put_back for step in steps)
            lines.append(f"Picture {samples[sample] + 1} was put back {times} x: its quality fell under its floor.")
        lines += [f"Iteration {step.iteration}{pictures(samples, step)}: {step.note}." for step in steps if step.note]
    return "\n".join(lines)


def pictures(places: Sequence[int], step: Step) -> str:
    """Which pictures a note is about, where it is not about all of them."""
    numbers = [str(places[i] + 1) for i in step.failed]
    return f", picture {', '.join(numbers)}" if 0 < len(numbers) < len(places) else ""


def numbers(parts: Sequence[Part]) -> str:
    """JSON: for each batch its pictures, why it stopped, the iteration kept, and every iteration with all that was
    measured (`noise.history.Step`). Pictures count from 1, as in the report; what there is no number for is null."""
    batches = [
        {
            "pictures": [place + 1 for place in places],
            "stopped": result.stopped,
            "kept": result.best,
            "iterations": [
                asdict(step)
                | {"put_back": [places[i] + 1 for i in step.put_back], "failed": [places[i] + 1 for i in step.failed]}
                for step in result.history
            ],
        }
        for places, result in parts
    ]
    return json.dumps(finite(batches), indent=1, allow_nan=False)


def finite(value: Any) -> Any:
    """A value for JSON: NaN and infinity, which it has no words for, are null."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
