"""CLIP weights in the layout of transformers, renamed to that of open_clip."""

from __future__ import annotations

import re

import torch
from torch import Tensor

NAMES = (
    (r"^vision_model\.", "visual."),
    (r"^text_model\.", ""),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_projection\.weight$", "text_projection"),
    (r"embeddings\.patch_embedding\.", "conv1."),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.(class_embedding|token_embedding)", r"\1"),
    (r"pre_layrnorm\.", "ln_pre."),
    (r"post_layernorm\.", "ln_post."),
    (r"final_layer_norm\.", "ln_final."),
    (r"encoder\.layers\.(\d+)\.", r"transformer.resblocks.\1."),
    (r"layer_norm([12])\.", r"ln_\1."),
    (r"self_attn\.out_proj\.", "attn.out_proj."),
    (r"mlp\.fc1\.", "mlp.c_fc."),
    (r"mlp\.fc2\.", "mlp.c_proj."),
)
TRANSPOSED = ("visual.proj", "text_projection")


def is_transformers_layout(state: dict[str, Tensor]) -> bool:
    return any(name.startswith("vision_model.") for name in state)


def to_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under open_clip's names: q, k and v become one matrix, the projections are transposed."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value.T.contiguous() if name in TRANSPOSED else value
    for name in [name for name in renamed if ".self_attn.q_proj." in name]:
        parts = [renamed.pop(name.replace("q_proj", letter + "_proj")) for letter in "qkv"]
        renamed[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
    return {name: value for name, value in renamed.items() if not name.endswith("position_ids")}
