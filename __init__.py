"""Noise Optimize: different pictures from few-step models, by gradient steps on their starting noise."""

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """ComfyUI's entry point: the extension that lists the nodes of this pack."""
    from .nodes import NoiseOptimizeExtension

    return NoiseOptimizeExtension()
