"""The sockets of this pack."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

Features = io.Custom("NOISE_OPTIMIZE_FEATURES")
Objective = io.Custom("NOISE_OPTIMIZE_OBJECTIVE")


def features_output(source: str = "pictures") -> io.Output:
    """What a node of features gives. source: what they look at."""
    return Features.Output(display_name="features", tooltip=f"For Diversity; works on {source}.")


def objective_output() -> io.Output:
    """What a node of an objective gives."""
    return Objective.Output(display_name="objective", tooltip="For Noise Optimize, Combine or Measure.")
