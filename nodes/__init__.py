"""The pack's nodes for ComfyUI, one small module for each group: every module in this folder that has NODES."""

from __future__ import annotations

import logging
from importlib import import_module
from pkgutil import iter_modules

from comfy_api.v0_0_2 import ComfyExtension, io

from . import host

MODULES = tuple(import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__) if not found.ispkg)
GROUPS = tuple(module for module in MODULES if hasattr(module, "NODES"))


class NoiseOptimizeExtension(ComfyExtension):
    """Lists every node of the pack; in a ComfyUI that is too old it says so, and lists those that can be shown."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        nodes = [node for group in GROUPS for node in group.NODES]
        if why := host.too_old():
            logging.warning(why)
            nodes = [node for node in nodes if _shown(node)]
        return nodes


def _shown(node: type[io.ComfyNode]) -> bool:
    """Whether this ComfyUI knows all that a node says of its inputs."""
    try:
        node.GET_SCHEMA()
    except TypeError:
        return False
    return True
