"""The host inside the test's own process: on the CPU, with a base directory of its own.

Arguments are set before any other module of the host is imported, because the host reads them while it is imported.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

import comfyui

sys.path.insert(0, str(comfyui.COMFYUI))

from comfy.cli_args import args

base = Path(tempfile.mkdtemp(prefix="noise_optimize_host_"))
atexit.register(shutil.rmtree, base, ignore_errors=True)
for folder in ("models", "input", "output", "temp", "user", "custom_nodes"):
    (base / folder).mkdir()

args.cpu = True
args.base_directory = str(base)
