"""What the nodes with pretrained networks share: folders, progress, precision, and a place in the host's memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.v0_0_2 import io
from torch import nn

FOLDER = "noise_optimize"
FOLDERS = (FOLDER, "clip_vision", "text_encoders")
PRECISIONS = {"auto": None, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def folders() -> list[str]:
    """Where weights are looked for, models/noise_optimize first; extra_model_paths.yaml can add to each."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    return [path for name in FOLDERS for path in folder_paths.get_folder_paths(name)]


def progress() -> Any:
    """Shows a download on the node that runs."""
    bar = comfy.utils.ProgressBar(1)
    return lambda done, total: bar.update_absolute(done, max(total, 1))


def dtype(precision: str) -> torch.dtype:
    """The precision by name; auto is float16 where the host would use it, else float32."""
    chosen = PRECISIONS[precision]
    if chosen is not None:
        return chosen
    half = comfy.model_management.should_use_fp16(comfy.model_management.get_torch_device())
    return torch.float16 if half else torch.float32


def precision_input() -> io.Combo.Input:
    return io.Combo.Input(
        "precision",
        options=list(PRECISIONS),
        default="auto",
        advanced=True,
        tooltip="Of the network's weights. auto: float16 on a GPU, float32 on the CPU. Gradients are scaled so that "
        "they do not vanish in float16.",
    )


def chunk_input() -> io.Int.Input:
    return io.Int.Input(
        "chunk",
        default=8,
        min=1,
        max=1024,
        advanced=True,
        tooltip="Pictures that go through the network at once; fewer need less memory and give the same gradient.",
    )


def patchers(networks: Iterable[Any]) -> list[ModelPatcher]:
    """The networks of features and objectives as the host keeps models, each wrapped once."""
    return [network if hasattr(network, "load_device") else _patcher(network) for network in networks]


def _patcher(network: nn.Module) -> ModelPatcher:
    """Kept on the network itself: the host's list of loaded models keeps no patcher alive."""
    if not hasattr(network, "host_patcher"):
        device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        network.host_patcher = ModelPatcher(network, load_device=device, offload_device=offload)
    return network.host_patcher
