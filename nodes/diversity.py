"""Diversity: how different the pictures of a batch are, on any features, by any statistic."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..objectives.diversity import Diversity
from ..objectives.statistics import STATISTICS
from .inputs import read_target, target_input, weight_input
from .node import Node
from .sockets import Features, objective_output


class DiversityNode(Node):
    """Features and a statistic of their similarities."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDiversity",
            display_name="Diversity",
            category="noise optimize/objectives",
            description=(
                "Asks for pictures that differ from each other, and from the references if Noise Optimize has some. "
                "The features say how pictures are seen, the statistic how the differences are summed up; every "
                "statistic is 0 for identical pictures and 1 for pictures as different as can be."
            ),
            search_aliases=["dpp", "vendi", "mode collapse", "dissimilarity", "repulsion"],
            inputs=[
                Features.Input("features", tooltip="How pictures are seen: DINO, CLIP, Color, Latent... Features."),
                io.Combo.Input(
                    "statistic",
                    options=list(STATISTICS),
                    default="vendi",
                    tooltip="pairwise: the mean distance; one outlier can raise it. dpp: the volume that the pictures "
                    "span; no two may coincide. vendi: how many effectively different pictures there are. "
                    "contrastive: drives near duplicates apart first.",
                ),
                weight_input(),
                target_input(0.5, 0.0, 1.0, "0 for identical pictures, 1 for pictures as different as can be"),
            ],
            outputs=[objective_output()],
        )

    @classmethod
    def execute(cls, features: Any, statistic: str, weight: float, target: dict[str, Any]) -> io.NodeOutput:
        objective = Diversity(features=features, statistic=statistic, weight=weight, target=read_target(target))
        return io.NodeOutput(objective)


NODES = [DiversityNode]
