"""The inputs that every objective node shares: how much it counts, and the score at which it is content."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

NO_TARGET, WITH_TARGET = "none", "at least"


def weight_input(default: float = 1.0) -> io.Float.Input:
    """The widget `weight`."""
    return io.Float.Input(
        "weight",
        default=default,
        min=-1000.0,
        max=1000.0,
        step=0.1,
        round=0.001,
        tooltip="How much this objective counts beside the others. Negative lowers its score; 0 only reports it.",
    )


def target_input(
    value: float, low: float, high: float, scale: str, wanted: bool = False, step: float = 0.01
) -> io.DynamicCombo.Input:
    """The widget `target`: "none", or "at least" with a number of its own, `target.value`.

    value, low, high, step: of the number; scale: what the number means, for its tooltip; wanted: "at least" by default.
    """
    number = io.Float.Input(
        "value", default=value, min=low, max=high, step=step, round=0.0001, tooltip=f"The score to reach: {scale}."
    )
    options = [io.DynamicCombo.Option(NO_TARGET, []), io.DynamicCombo.Option(WITH_TARGET, [number])]
    return io.DynamicCombo.Input(
        "target",
        options=options[::-1] if wanted else options,
        tooltip=f"{NO_TARGET}: raise the score as far as it goes. {WITH_TARGET}: raise it to the value and no further; "
        "when every diversity and quality with a target is there, the optimization stops. With a negative weight the "
        "score is lowered to the value and no further.",
    )


def read_target(target: dict[str, Any]) -> float | None:
    """The number that `target_input` delivers, or None where there is none."""
    return target["value"] if target["target"] == WITH_TARGET else None


PRECISIONS = {"auto": None, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def precision_input() -> io.Combo.Input:
    return io.Combo.Input(
        "precision",
        options=list(PRECISIONS),
        default="auto",
        advanced=True,
        tooltip="Of the network's weights. auto: float16 on a GPU, float32 on the CPU. Gradients are scaled so that "
        "they do not vanish in float16.",
    )


def chunk_input() -> io.Int.Input:
    return io.Int.Input(
        "chunk",
        default=8,
        min=1,
        max=1024,
        advanced=True,
        tooltip="Pictures that go through the network at once; fewer need less memory and give the same gradient.",
    )


ITS_OWN, PUBLISHED = "its own", "published"


def form_input(published: str) -> io.Combo.Input:
    """The widget `form`: how pictures are seen. published: what is different there, for its tooltip."""
    return io.Combo.Input(
        "form",
        options=[ITS_OWN, PUBLISHED],
        default=ITS_OWN,
        advanced=True,
        optional=True,
        tooltip=f"its own: pictures are prepared as the model was trained. published: {published}, to compare with the "
        "figures of arXiv 2601.00090.",
    )
