"""Which ComfyUI the pack needs, and what it says of one that is older."""

from __future__ import annotations

import comfyui_version

OLDEST = (0, 22, 0)  # the first in which an empty latent is fitted to models in space and in time


def too_old() -> str:
    """One sentence where this ComfyUI is too old to sample in; empty where it is not."""
    found = comfyui_version.__version__
    numbers = tuple(int(part) for part in found.split(".") if part.isdecimal())
    if numbers >= OLDEST:
        return ""
    return f"Noise Optimize needs ComfyUI {'.'.join(map(str, OLDEST))} or newer, and this is {found}: update ComfyUI."
