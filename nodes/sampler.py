"""The Differentiable Sampler node: how the gradient through a SAMPLER is taken."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from . import host
from .node import Node


class NoiseOptimizeDifferentiableSampler(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDifferentiableSampler",
            display_name="Differentiable Sampler",
            category="noise optimize/sampling",
            search_aliases=["gradient", "backpropagation", "low memory", "checkpointing"],
            description="Sets how Noise Optimize takes the gradient through a sampler. "
            "Anywhere else it samples exactly as the sampler it wraps.",
            inputs=[
                io.Sampler.Input("sampler", tooltip="Any sampler, the host's own or of another pack."),
                io.Combo.Input(
                    "memory",
                    options=list(host.MEMORY),
                    default="auto",
                    tooltip="fast keeps the whole graph. low computes each model call again in the backward pass, "
                    "as many samples at a time as fit, so that memory does not grow with the batch or the steps. "
                    "auto measures, chooses, and says in the log what it chose.",
                ),
                io.Int.Input(
                    "gradient_steps",
                    default=0,
                    min=0,
                    max=10000,
                    advanced=True,
                    tooltip="0: exact gradient through all steps. k: the model is differentiated in the last k steps "
                    "only and held fixed in the earlier ones, which makes long schedules affordable. Unused where "
                    "Noise Optimize looks at the first prediction, which is one step.",
                ),
            ],
            outputs=[io.Sampler.Output(tooltip="For Noise Optimize; elsewhere it is the wrapped sampler.")],
        )

    @classmethod
    def execute(cls, sampler: Any, memory: str = "auto", gradient_steps: int = 0) -> io.NodeOutput:
        return io.NodeOutput(host.DifferentiableSampler(sampler, memory, gradient_steps))


NODES = [NoiseOptimizeDifferentiableSampler]
