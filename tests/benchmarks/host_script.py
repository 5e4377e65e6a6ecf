"""Lets a plain script use the host and the pack as the tests do, and says on what it ran."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "benchmarks")]

import comfyui
import pack
import torch

pack.register()

sys.path.insert(0, str(comfyui.COMFYUI))
arguments, sys.argv = sys.argv, sys.argv[:1]
from comfy.cli_args import args

sys.argv = arguments
args.cpu = not torch.cuda.is_available()


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return (
        f"ComfyUI {comfyui.version()}, torch {torch.__version__}, Python {platform.python_version()}, {device}, "
        f"{torch.get_num_threads()} threads; {' '.join(['python', *sys.argv])}"
    )
