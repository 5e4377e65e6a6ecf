"""LPIPS Diversity: perceptual distances between the pictures of a batch."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..objectives.diversity import Diversity
from ..objectives.features.lpips import NETWORKS, LPIPSFeatures, load_lpips
from .inputs import chunk_input, precision_input, read_target, target_input, weight_input
from .networks import dtype, folders, progress
from .node import Node
from .sockets import objective_output


class LPIPSNode(Node):
    """The mean over pairs on LPIPS features."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeLPIPS",
            display_name="LPIPS Diversity",
            category="noise optimize/objectives",
            description=(
                "Asks for pictures that look different place by place, by LPIPS, averaged over all pairs: 0 for "
                "identical pictures, 1 where nothing is in common. It spreads what is there, no new content."
            ),
            search_aliases=["lpips", "perceptual distance", "alexnet", "vgg", "squeezenet"],
            inputs=[
                io.Combo.Input(
                    "network",
                    options=list(NETWORKS),
                    default="AlexNet",
                    tooltip="AlexNet: the usual one, fast. VGG: needs most time and memory. SqueezeNet: smallest.",
                ),
                weight_input(),
                target_input(0.4, 0.0, 1.0, "0 for identical pictures, 1 where nothing is in common"),
                io.Int.Input(
                    "size",
                    default=256,
                    min=0,
                    max=2048,
                    advanced=True,
                    tooltip="Pixels that the shorter side is resized to; 0 keeps the size of the pictures.",
                ),
                precision_input(),
                chunk_input(),
            ],
            outputs=[objective_output()],
        )

    @classmethod
    def execute(
        cls, network: str, weight: float, target: dict[str, Any], size: int, precision: str, chunk: int
    ) -> io.NodeOutput:
        features = LPIPSFeatures(load_lpips(network, folders(), dtype(precision), progress()), size, chunk)
        objective = Diversity(
            name=f"LPIPS {network}",
            features=features,
            statistic="pairwise",
            weight=weight,
            target=read_target(target),
        )
        return io.NodeOutput(objective)


NODES = [LPIPSNode]
