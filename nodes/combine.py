"""Combine Objectives: several objectives as one."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..objectives.objective import combine
from .node import Node
from .sockets import Objective

MOST = 32


class CombineNode(Node):
    """The sum of objectives."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        each = Objective.Input("objective", tooltip="An objective, with the weight and target of its own node.")
        return io.Schema(
            node_id="NoiseOptimizeCombine",
            display_name="Combine Objectives",
            category="noise optimize/objectives",
            description=(
                "Adds objectives, each with its own weight and target. Inputs grow as wires are added. Objectives on "
                "the same features share them: pictures are seen once."
            ),
            search_aliases=["sum", "add objectives", "merge", "weighted"],
            inputs=[
                io.Autogrow.Input(
                    "objectives",
                    template=io.Autogrow.TemplateNames(each, [f"objective_{i + 1}" for i in range(MOST)], min=1),
                    tooltip="The objectives to add; a new input appears with each wire.",
                )
            ],
            outputs=[Objective.Output(display_name="objective", tooltip="All of them as one objective.")],
        )

    @classmethod
    def execute(cls, objectives: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(combine(list(objectives.values())))


NODES = [CombineNode]
