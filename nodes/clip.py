"""CLIP Features: the image embedding of any model of open_clip."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..objectives.features.clip import CLIPFeatures
from ..objectives.pretrained.clip import load_clip
from .inputs import chunk_input, precision_input
from .networks import dtype, folders, progress
from .node import Node
from .sockets import features_output

MODELS = (
    "ViT-B-32/laion2b_s34b_b79k",
    "ViT-B-32/openai",
    "ViT-B-16/datacomp_xl_s13b_b90k",
    "ViT-L-14/openai",
    "ViT-L-14/datacomp_xl_s13b_b90k",
    "ViT-H-14/laion2b_s32b_b79k",
    "ViT-B-16-SigLIP/webli",
    "ViT-SO400M-14-SigLIP-384/webli",
)


def model_input() -> io.Combo.Input:
    return io.Combo.Input(
        "model",
        options=list(MODELS),
        default=MODELS[0],
        tooltip="Architecture and weights, as open_clip names them. The file may be named like this in "
        "models/noise_optimize, with - for /.",
    )


def other_model_input() -> io.String.Input:
    return io.String.Input(
        "other_model",
        default="",
        advanced=True,
        tooltip="Any other model of open_clip as architecture/weights, for example ViT-bigG-14/laion2b_s39b_b160k; "
        "empty takes the one chosen above.",
    )


class CLIPFeaturesNode(Node):
    """Pooled image embedding."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeCLIPFeatures",
            display_name="CLIP Features",
            category="noise optimize/features",
            description=(
                "Sees what a caption would say: one vector for each picture, by any model of open_clip. Its weights "
                "are looked for in models/noise_optimize, then in the Hugging Face cache, and fetched when it runs."
            ),
            search_aliases=["open_clip", "siglip", "image embedding", "semantic features"],
            inputs=[model_input(), other_model_input(), precision_input(), chunk_input()],
            outputs=[features_output()],
        )

    @classmethod
    def execute(cls, model: str, other_model: str, precision: str, chunk: int) -> io.NodeOutput:
        clip = load_clip(other_model.strip() or model, folders(), dtype(precision), progress(), chunk=chunk)
        return io.NodeOutput(CLIPFeatures(clip))


NODES = [CLIPFeaturesNode]
