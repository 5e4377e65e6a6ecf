"""CLIP Vision Features: pictures as a CLIP_VISION of the host sees them."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from . import host
from .inputs import chunk_input
from .node import Node
from .sockets import features_output


class CLIPVisionFeaturesNode(Node):
    """Tokens or embedding of a CLIP_VISION."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeCLIPVisionFeatures",
            display_name="CLIP Vision Features",
            category="noise optimize/features",
            description="Sees pictures with a model from Load CLIP Vision (CLIP-L, -H, -g, SigLIP, DINOv2, DINOv3).",
            search_aliases=["clip vision", "siglip", "dinov2", "dinov3", "ip-adapter"],
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="From Load CLIP Vision."),
                io.Combo.Input(
                    "tokens",
                    options=["pooled", "patches"],
                    default="pooled",
                    tooltip="pooled: pictures are compared as a whole. patches: place by place.",
                ),
                io.Boolean.Input(
                    "crop",
                    default=False,
                    advanced=True,
                    tooltip="On: cut out the center square, as CLIP Vision Encode does by default. Off: squeeze all of "
                    "the picture into the square.",
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Pixels that pictures are resized to, for DINOv2 and DINOv3; 0 is the model's own size. "
                    "Smaller needs less memory.",
                ),
                chunk_input(),
            ],
            outputs=[features_output()],
        )

    @classmethod
    def execute(cls, clip_vision: Any, tokens: str, crop: bool, size: int, chunk: int) -> io.NodeOutput:
        return io.NodeOutput(host.CLIPVisionFeatures(clip_vision, tokens, crop, size, chunk))


NODES = [CLIPVisionFeaturesNode]
