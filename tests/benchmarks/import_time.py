"""What the pack adds to a starting ComfyUI: at most 0.15 s and no heavy module, by Python's own -X importtime."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import comfyui

LIMIT = 0.15
RUNS = 3
HEAVY = ("open_clip", "lpips", "timm", "torchvision", "kornia", "matplotlib", "cma")
MARK = "= the pack ="
START = f"""
import asyncio, sys
sys.path[:0] = [{str(comfyui.COMFYUI)!r}, {str(ROOT / "tests" / "support")!r}]
from comfy.cli_args import args
args.cpu = True
import nodes, pack
print({MARK!r}, file=sys.stderr, flush=True)
pack.register()
extension = asyncio.run(sys.modules["noise_optimize"].comfy_entrypoint())
[node.GET_SCHEMA() for node in asyncio.run(extension.get_node_list())]
"""


def measure() -> tuple[float, float, dict[str, float]]:
    """(seconds of the host's imports, of ours, seconds of each module that we brought in)."""
    command = [sys.executable, "-X", "importtime", "-c", START]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    host, ours = done.stderr.split(MARK)
    row = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
    modules = {name: int(microseconds) / 1e6 for microseconds, name in row.findall(ours)}
    return sum(int(microseconds) / 1e6 for microseconds, _ in row.findall(host)), sum(modules.values()), modules


def main() -> int:
    measure()  # the first start compiles the bytecode that every later one finds
    runs = [measure() for _ in range(RUNS)]
    host, ours = (statistics.median(run[column] for run in runs) for column in (0, 1))
    modules = runs[-1][2]
    heavy = sorted({name.split(".")[0] for name in modules} & set(HEAVY))
    print(f"Machine: {platform.platform()}, Python {platform.python_version()}")
    print(f"ComfyUI {comfyui.version()}; command: python tests/benchmarks/import_time.py; median of {RUNS}")
    print(f"the host's own imports {host:.2f} s; the pack adds {ours:.3f} s ({ours / host:.1%}; at most {LIMIT} s)")
    print(f"heavy modules added: {', '.join(heavy) or 'none'}; modules added: {len(modules)}; the slowest five:")
    for name, seconds in sorted(modules.items(), key=lambda item: -item[1])[:5]:
        print(f"  {seconds * 1e3:6.1f} ms  {name}")
    return int(ours > LIMIT or bool(heavy))


if __name__ == "__main__":
    sys.exit(main())
