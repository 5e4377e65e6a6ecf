"""The pack's nodes for ComfyUI: one small module for each group, listed here in the order of a graph."""

from comfy_api.v0_0_2 import ComfyExtension, io

from . import combine, diversity, features, files, guards, measure, noise, optimize, sampler, search, spectrum

GROUPS: tuple = (noise, spectrum, files, sampler, features, diversity, guards, combine, measure, optimize, search)


class NoiseOptimizeExtension(ComfyExtension):
    """Lists every node of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for group in GROUPS for node in group.NODES]
