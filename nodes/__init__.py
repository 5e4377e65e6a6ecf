"""The pack's nodes for ComfyUI, one small module for each group: every module in this folder that has NODES."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from comfy_api.v0_0_2 import ComfyExtension, io

MODULES = tuple(import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__) if not found.ispkg)
GROUPS = tuple(module for module in MODULES if hasattr(module, "NODES"))


class NoiseOptimizeExtension(ComfyExtension):
    """Lists every node of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for group in GROUPS for node in group.NODES]
