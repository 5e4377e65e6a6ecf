"""Noise Optimize: different pictures from few-step models, by gradient steps on their starting noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import NoiseOptimizeExtension

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> NoiseOptimizeExtension:
    """ComfyUI's entry point: the extension that lists the nodes of this pack."""
    from .nodes import NoiseOptimizeExtension

    return NoiseOptimizeExtension()
