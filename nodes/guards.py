"""Detail Guard: pictures may not differ by getting blurred or flat."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..objectives.guards import DetailGuard
from .inputs import read_target, target_input, weight_input
from .node import Node
from .sockets import Objective


class DetailGuardNode(Node):
    """Detail no poorer than in the starting pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDetailGuard",
            display_name="Detail Guard",
            category="noise optimize/objectives",
            description=(
                "Keeps the sharpness and the local contrast of each picture at no less than its starting picture had, "
                "so that pictures cannot become different by becoming blurred or plain. Combine it with Diversity."
            ),
            search_aliases=["sharpness", "blur", "flat background", "contrast", "regularization"],
            inputs=[
                weight_input(),
                target_input(
                    1.0, 0.0, 10.0, "detail as a share of the starting picture's; 1 is as much, 0 none", wanted=True
                ),
            ],
            outputs=[Objective.Output(display_name="objective", tooltip="For Combine, together with a Diversity.")],
        )

    @classmethod
    def execute(cls, weight: float, target: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(DetailGuard(weight=weight, target=read_target(target)))


NODES = [DetailGuardNode]
