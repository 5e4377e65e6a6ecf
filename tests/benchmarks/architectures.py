"""The README's table: the gradient through every model class of the host against central finite differences.

    python tests/benchmarks/architectures.py

A tiny model with random weights of each class, in float64: two steps of Euler, CFG 2, batch 2, a prompt for each.
The directional derivative against (f(z + h d) - f(z - h d)) / 2h, as a share of it: recomputed sample by sample with
memory `low`, and with its graph kept in `fast`, where an attention without a derivative has been patched in.
"""

from __future__ import annotations

import logging
import warnings

import host_script  # isort: skip
import architectures

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"<!-- {host_script.machine()} -->")
    print("| model class | low | fast | what is special |\n|---|---|---|---|")
    for name, row in architectures.ROWS.items():
        low, fast = (f"{architectures.error(name, memory):.0e}" for memory in ("low", "fast"))
        print(f"| {name} | {low} | {fast} | {row.special} |", flush=True)
    for name, other in architectures.SIBLINGS.items():
        print(f"| {name} | as {other} | | |")
    for name, sentence in architectures.REFUSED.items():
        print(f"| {name} | refused: {sentence} | | |")
    for name, reason in architectures.NO_PICTURES.items():
        print(f"| {name} | no pictures: {reason} | | |")
