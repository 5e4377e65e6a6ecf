"""Plots as IMAGE tensors: matplotlib figures drawn off screen, without pyplot and its global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 100
POINTS = 16  # size of the text
# Okabe and Ito's, told apart by the colour-blind too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#555555"


def new_figure(width: int = 1024, height: int = 704) -> Figure:
    """An empty white figure of width x height pixels whose parts never overlap.

    With the defaults the text of `label_axes` is readable when the picture is shown 512 pixels wide.
    """
    from matplotlib.figure import Figure

    return Figure((width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH, layout="constrained")


def label_axes(axes: Axes, title: str, x: str, y: str) -> Axes:
    """Title, axis labels (with their units), ticks and a light grid."""
    axes.set_title(title, fontsize=1.1 * POINTS)
    axes.set_xlabel(x, fontsize=POINTS)
    axes.set_ylabel(y, fontsize=POINTS)
    axes.tick_params(labelsize=0.9 * POINTS)
    axes.grid(True, color="#dddddd", linewidth=1)
    axes.set_axisbelow(True)
    return axes


def figure_to_image(figure: Figure) -> torch.Tensor:
    """(1, H, W, 3) float32 in 0..1: the figure as ComfyUI's IMAGE."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(rgb.astype(np.float32) / 255)[None]
