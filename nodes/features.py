"""Color Features and Latent Features: ways to see pictures that need no download."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..objectives.features.colour import RANGES, ColourFeatures, Space
from ..objectives.features.latent import LatentFeatures
from .node import Node
from .sockets import features_output


class ColorFeaturesNode(Node):
    """A soft joint histogram of colours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeColorFeatures",
            display_name="Color Features",
            category="noise optimize/features",
            description="Sees which colors a picture has and how much of each, not where. No network, no download.",
            search_aliases=["color histogram", "colour histogram", "palette", "lab"],
            inputs=[
                io.Combo.Input(
                    "color_space",
                    options=list(RANGES),
                    default="lab",
                    tooltip="lab: equal distances look equally different. rgb: as the screen mixes them.",
                ),
                io.Int.Input(
                    "bins",
                    default=8,
                    min=2,
                    max=32,
                    advanced=True,
                    tooltip="Shades along each of the three axes; more tells finer shades apart and costs bins^3.",
                ),
            ],
            outputs=[features_output()],
        )

    @classmethod
    def execute(cls, color_space: Space, bins: int) -> io.NodeOutput:
        return io.NodeOutput(ColourFeatures(space=color_space, bins=bins))


class LatentFeaturesNode(Node):
    """Pooled latents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeLatentFeatures",
            display_name="Latent Features",
            category="noise optimize/features",
            description=(
                "Sees the layout and the colors that the latent itself holds. The cheapest features: nothing is "
                "decoded, so no VAE, no network, no download."
            ),
            search_aliases=["latent", "contrastive", "pooled latent", "cheap features"],
            inputs=[
                io.Int.Input(
                    "grid",
                    default=8,
                    min=1,
                    max=64,
                    advanced=True,
                    tooltip="Latents are averaged over a grid of so many cells a side. Coarser sees layout only; finer "
                    "sees texture too, which differs between seeds anyway.",
                ),
            ],
            outputs=[features_output("latents")],
        )

    @classmethod
    def execute(cls, grid: int) -> io.NodeOutput:
        return io.NodeOutput(LatentFeatures(grid=grid))


NODES = [ColorFeaturesNode, LatentFeaturesNode]
