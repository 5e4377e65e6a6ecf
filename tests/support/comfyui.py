"""Where the real ComfyUI is (COMFYUI_PATH, else ~/comfy/ComfyUI) and how a folder is linked into it; stdlib only."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").expanduser().resolve()


def version() -> str:
    """The version of the host, e.g. "0.33.0"; raises FileNotFoundError with the remedy where there is no host."""
    stated = COMFYUI / "comfyui_version.py"
    if not (COMFYUI / "main.py").is_file() or not stated.is_file():
        raise FileNotFoundError(
            f"These tests run inside a real ComfyUI, and there is none at {COMFYUI}: "
            "install it there (`comfy install`) or set COMFYUI_PATH to its folder."
        )
    return re.search(r'__version__ = "([^"]+)"', stated.read_text(encoding="utf-8")).group(1)


def link(folder: Path, at: Path) -> None:
    """A link to a folder; on Windows a junction, which needs no privilege."""
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(folder), str(at))
    else:
        at.symlink_to(folder, target_is_directory=True)
