"""Measure Images: the scores of any pictures as a table, and how far each is from each as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.model_management import load_models_gpu
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..objectives.batch import PICTURES, Batch
from ..objectives.diversity import Diversity
from ..objectives.features.base import Features
from ..objectives.objective import Objective, Score
from . import sockets
from .networks import patchers
from .node import Node
from .plots import COLOURS, figure_to_image, label_axes, new_figure

LEGIBLE = 16  # up to so many pictures are shown on the diagonal
WRITTEN = 8  # up to so many have their distances written into the plot


class MeasureNode(Node):
    """Scores of pictures, alone or beside those of pictures before."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeMeasure",
            display_name="Measure Images",
            category="noise optimize",
            description=(
                "Measures any batch of pictures with any objectives, for example with ones that were not optimized. "
                "With a second batch as before, both are measured and compared."
            ),
            search_aliases=["evaluate", "score images", "metrics", "distance matrix", "compare"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures to measure, as one batch."),
                sockets.Objective.Input("objective", tooltip="What to measure; Combine Objectives measures several."),
                io.Image.Input(
                    "before",
                    optional=True,
                    tooltip="Pictures to compare with, such as those of the starting noise. Detail Guard needs them, "
                    "one for each picture in images.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The scores as a table."),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="A list: for each row of the table, the score of images, averaged over them.",
                ),
                io.Image.Output(display_name="plot", tooltip="Distance of each picture from each; scores of each one."),
            ],
        )

    @classmethod
    def execute(cls, images: Tensor, objective: Objective, before: Tensor | None = None) -> io.NodeOutput:
        batches = [Batch(pictures=to_pictures(x)) for x in (before, images) if x is not None]
        load_models_gpu(patchers(objective.networks))
        with torch.no_grad():
            leaves, omitted = measurable(objective, batches)
            scores = [[leaf(batch)[0] for leaf in leaves] for batch in batches]
            report = "\n".join([table(scores), *omitted])
            plot = draw(leaves, batches, scores)
        means = [float(score.mean) for score in scores[-1]]
        shown = ui.PreviewImage(plot, cls=cls).as_dict() | ui.PreviewText(report).as_dict()
        return io.NodeOutput(report, means, plot, ui=shown)


def to_pictures(images: Tensor) -> Tensor:
    """(B, 3, H, W) from the host's (B, H, W, 3 or more), or from grey ones (B, H, W, 1)."""
    return (images if images.shape[-1] > 1 else images.expand(-1, -1, -1, 3))[..., :3].movedim(-1, 1)


def measurable(objective: Objective, batches: Sequence[Batch]) -> tuple[list[Objective], list[str]]:
    """The objectives that pictures alone can answer, and a line for each that they cannot."""
    start = batches[0] if len(batches) > 1 else None
    leaves, omitted = [], []
    for leaf in objective.leaves():
        if set(leaf.needs) != {PICTURES}:
            omitted.append(f"{leaf.name} is not measured: it works on latents, and these are pictures.")
        elif leaf.role.compares == "start" and start is None:
            omitted.append(f"{leaf.name} is not measured: wire the starting pictures to before.")
        elif leaf.role.compares == "set" and min(map(len, batches)) == 1:
            omitted.append(
                f"{leaf.name} is not measured: it compares pictures, and there is only one; wire two or more to images."
            )
        else:
            leaves.append(leaf.bind(start))
    if not leaves:
        raise ValueError(f"objective has nothing to measure: {' '.join(omitted)}")
    return leaves, omitted


def table(scores: Sequence[Sequence[Score]]) -> str:
    """The scores of one batch, or of two as before and after, in aligned columns of Markdown."""
    after = scores[-1]
    columns: dict[str, Sequence[str]] = {
        "objective": [score.name for score in after],
        "kind": [score.kind for score in after],
    }
    if len(scores) > 1:
        columns["before"] = [f"{score.mean:.4f}" for score in scores[0]]
    columns["after" if len(scores) > 1 else "score"] = [f"{score.mean:.4f}" for score in after]
    columns["target"] = ["" if score.target is None else f"{score.target:g}" for score in after]
    columns["each picture"] = [
        " ".join(f"{value:.4f}" for value in score.values.tolist()) if score.values.ndim else "" for score in after
    ]
    widths = [max(map(len, (name, *cells))) for name, cells in columns.items()]
    rows = [tuple(columns), tuple("-" * width for width in widths), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def draw(leaves: Sequence[Objective], batches: Sequence[Batch], scores: Sequence[Sequence[Score]]) -> Tensor:
    """(1, H, W, 3) a row of panels for each batch: distance matrices, then the scores that each picture has."""
    matrices = [distinct(leaves, batch) for batch in batches]
    bars = [i for i, score in enumerate(scores[-1]) if score.values.ndim]
    across, labels = max(1, len(matrices[0]) + len(bars)), ["before", "after"] if len(batches) > 1 else [""]
    figure = new_figure(max(768, 640 * across), 560 * len(batches))
    grid = figure.subplots(len(batches), across, squeeze=False)
    for row, batch, found, measured, label in zip(grid, batches, matrices, scores, labels, strict=True):
        for axes, (seen, distance) in zip(row, found.items(), strict=False):
            draw_matrix(axes, distance, batch.get(PICTURES))
            label_axes(axes, f"{seen.name} distance {label}".strip(), "picture", "picture").grid(False)
        for axes, i in zip(row[len(found) :], bars, strict=False):
            draw_bars(axes, measured[i])
            values = torch.cat([other[i].values for other in scores])
            axes.set_ylim(min(0.0, float(values.min())), 1.1 * max(float(values.max()), measured[i].target or 0) or 1.0)
            label_axes(axes, f"{measured[i].name} {label}".strip(), "picture", "score")
    return figure_to_image(figure)


def distinct(leaves: Sequence[Objective], batch: Batch) -> dict[Features | Objective, Tensor]:
    """The distance matrices (B, B) by what they are measured on; statistics of the same features share one."""
    matrices = {leaf.features if isinstance(leaf, Diversity) else leaf: leaf.distances(batch) for leaf in leaves}
    return {seen: distance.cpu() for seen, distance in matrices.items() if distance is not None}


def draw_matrix(axes: Any, distance: Tensor, pictures: Tensor) -> None:
    """Distances as colours on a scale of 0 to 1, the pictures themselves on the diagonal."""
    shown = axes.imshow(distance.numpy(), cmap="viridis", vmin=0, vmax=1)
    axes.figure.colorbar(shown, ax=axes, fraction=0.046)
    count, (height, width) = len(distance), pictures.shape[-2:]
    x, y = 0.5 * min(1, width / height), 0.5 * min(1, height / width)
    axes.set_xticks(range(count), range(1, count + 1))
    axes.set_yticks(range(count), range(1, count + 1))
    for i in range(count if count <= LEGIBLE else 0):
        picture = pictures[i].movedim(0, -1).clamp(0, 1).float().cpu().numpy()
        axes.imshow(picture, extent=(i - x, i + x, i + y, i - y), aspect="auto")
        for j in range(count if count <= WRITTEN else 0):
            if i != j:
                ink = "white" if distance[i, j] < 0.6 else "black"
                axes.text(j, i, f"{distance[i, j]:.2g}", ha="center", va="center", color=ink, fontsize=13)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_aspect("equal")


def draw_bars(axes: Any, score: Score) -> None:
    """The score of each picture, and the target."""
    values = score.values.tolist()
    axes.bar(range(1, len(values) + 1), values, color=COLOURS[0])
    axes.xaxis.get_major_locator().set_params(integer=True)
    if score.target is not None:
        axes.axhline(score.target, color=COLOURS[1], linestyle="--", label="target")
        axes.legend(fontsize=13)


NODES = [MeasureNode]
