"""The pack's nodes for ComfyUI: one small module for each group, listed here in the order of a graph."""

from comfy_api.v0_0_2 import ComfyExtension, io

from . import files, noise, spectrum

GROUPS: tuple = (noise, spectrum, files)


class NoiseOptimizeExtension(ComfyExtension):
    """Lists every node of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for group in GROUPS for node in group.NODES]
