"""Where the real ComfyUI is, where the oldest is that the pack supports, and how a folder is linked in; stdlib only.

COMFYUI_PATH, else ~/comfy/ComfyUI; COMFYUI_OLDEST_PATH, else ~/comfy/ and its version.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def folder(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / "comfy" / name).expanduser().resolve()


METADATA = Path(__file__).resolve().parents[2] / "pyproject.toml"
OLDEST_VERSION = re.search(
    r'^requires-comfyui = ">=([\d.]+)"', METADATA.read_text(encoding="utf-8"), re.MULTILINE
).group(1)
COMFYUI, OLDEST = folder("COMFYUI_PATH", "ComfyUI"), folder("COMFYUI_OLDEST_PATH", OLDEST_VERSION)


def version(at: Path = COMFYUI) -> str:
    """The version of a host, e.g. "0.33.0"; raises FileNotFoundError with the remedy where there is none."""
    stated = at / "comfyui_version.py"
    if not (at / "main.py").is_file() or not stated.is_file():
        raise FileNotFoundError(
            f"These tests run inside a real ComfyUI, and there is none at {at}: install it there (`comfy install`) or "
            f"set COMFYUI_{'OLDEST_' if at == OLDEST else ''}PATH to its folder."
        )
    return re.search(r'__version__ = "([^"]+)"', stated.read_text(encoding="utf-8")).group(1)


def link(folder: Path, at: Path) -> None:
    """A link to a folder; on Windows a junction, which needs no privilege."""
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(folder), str(at))
    else:
        at.symlink_to(folder, target_is_directory=True)
