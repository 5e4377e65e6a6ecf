"""Import this first: makes the pack, ComfyUI and the tests' helpers importable from a plain script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import comfyui  # noqa: E402
import pack  # noqa: E402

if str(comfyui.COMFYUI) not in sys.path:
    sys.path.insert(0, str(comfyui.COMFYUI))
if "noise_optimize" not in sys.modules:
    pack.register()
