"""The table of docs/samplers.md: the gradient of every sampler of the host against central finite differences.

    python tests/benchmarks/sampler_gradients.py

A two-layer network in the host's own model class, five steps, CFG 2, batch 2, in float64 (float32 for uni_pc): the
directional derivative against (f(z + h d) - f(z - h d)) / 2h, as a share of it.
"""

from __future__ import annotations

import logging
import warnings

import host_script

import comfy.samplers  # isort: skip
import host_gradients  # isort: skip

PREDICTIONS = ("eps", "v", "flow")


def row(name: str) -> str:
    try:
        errors = [f"{host_gradients.sampler_error(name, p, memory='low'):.0e}" for p in PREDICTIONS]
        precision = "float32" if name in host_gradients.SINGLE_PRECISION else "float64"
        return f"| {name} | {' | '.join(errors)} | {precision} |"
    except ValueError as refused:
        return f"| {name} | refused: {str(refused).split(',')[0]} ||||"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"<!-- {host_script.machine()} -->")
    print("| sampler | " + " | ".join(PREDICTIONS) + " | checked in |\n|---|---|---|---|---|")
    for name in comfy.samplers.SAMPLER_NAMES:
        print(row(name), flush=True)
