"""DINO Features and DreamSim Features: networks trained to see what pictures show, without text."""

from __future__ import annotations

import os

from comfy_api.v0_0_2 import io

from ..objectives.features import dino, dreamsim
from .inputs import ITS_OWN, PUBLISHED, chunk_input, form_input, precision_input
from .networks import dtype, folders, progress
from .node import Node
from .sockets import features_output


class DINOFeaturesNode(Node):
    """Patch tokens or class token of DINOv2 or DINOv3."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDINOFeatures",
            display_name="DINO Features",
            category="noise optimize/features",
            description=(
                "Sees objects, parts and layout with a self-supervised network (DINOv2, DINOv3). Its weights are "
                "looked for in models/noise_optimize, then in the Hugging Face cache, and fetched when the node runs."
            ),
            search_aliases=["dinov2", "dinov3", "patch features", "semantic features"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(dino.MODELS),
                    default="DINOv2 ViT-B/14",
                    tooltip="S is fastest, L sees most. Registers smooth the patch tokens. DINOv3 has a license of its "
                    "own and is never fetched: put its file into models/noise_optimize.",
                ),
                io.Combo.Input(
                    "tokens",
                    options=["patches", "class"],
                    default="patches",
                    tooltip="patches: compares pictures place by place. class: compares them as a whole.",
                ),
                io.Int.Input(
                    "size",
                    default=252,
                    min=28,
                    max=1024,
                    step=14,
                    advanced=True,
                    tooltip="Pixels of the shorter side, rounded to whole patches; 252 are 18 patches of 14.",
                ),
                precision_input(),
                chunk_input(),
                form_input("256 x 256 pixels by bilinear interpolation without filtering, whatever size says"),
            ],
            outputs=[features_output()],
        )

    @classmethod
    def execute(
        cls, model: str, tokens: dino.Tokens, size: int, precision: str, chunk: int, form: str = ITS_OWN
    ) -> io.NodeOutput:
        published = form == PUBLISHED
        network = dino.load_dino(model, folders(), dtype(precision), progress(), published)
        return io.NodeOutput(dino.DINOFeatures(network, model, tokens, size, chunk, published))


class DreamSimFeaturesNode(Node):
    """The embedding of the package dreamsim."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDreamSimFeatures",
            display_name="DreamSim Features",
            category="noise optimize/features",
            description=(
                "Sees pictures as people judge their similarity. Needs the package dreamsim (pip install dreamsim), "
                "which fetches its weights itself. Optimized alone it tends to blur: add Detail Guard."
            ),
            search_aliases=["dreamsim", "perceptual similarity"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(dreamsim.MODELS),
                    default="ensemble",
                    tooltip="ensemble: three networks, the published default; the others are one network each.",
                ),
                chunk_input(),
            ],
            outputs=[features_output()],
        )

    @classmethod
    def execute(cls, model: str, chunk: int) -> io.NodeOutput:
        network = dreamsim.load_dreamsim(model, os.path.join(folders()[0], "dreamsim"))
        return io.NodeOutput(dreamsim.DreamSimFeatures(network, model, chunk))


NODES = [DINOFeaturesNode, DreamSimFeaturesNode]
