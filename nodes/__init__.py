"""The pack's nodes for ComfyUI: one small module for each group, listed here in the order of a graph."""

from comfy_api.v0_0_2 import ComfyExtension, io

from . import (
    clip,
    clip_vision,
    combine,
    demo,
    dino,
    diversity,
    features,
    files,
    guards,
    lpips,
    measure,
    noise,
    optimize,
    quality,
    sampler,
    search,
    spectrum,
)

GROUPS: tuple = (
    noise,
    spectrum,
    files,
    sampler,
    features,
    dino,
    clip,
    clip_vision,
    diversity,
    lpips,
    quality,
    guards,
    combine,
    measure,
    optimize,
    search,
    demo,
)


class NoiseOptimizeExtension(ComfyExtension):
    """Lists every node of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for group in GROUPS for node in group.NODES]
