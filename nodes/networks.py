"""What the nodes with pretrained networks share: folders, progress, precision, and a place in the host's memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from . import host
from .inputs import PRECISIONS

FOLDER = "noise_optimize"
FOLDERS = (FOLDER, "clip_vision", "text_encoders")


def own_folders() -> list[str]:
    """models/noise_optimize, and what extra_model_paths.yaml adds to it."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    return list(folder_paths.get_folder_paths(FOLDER))


def folders() -> list[str]:
    """Where weights are looked for, models/noise_optimize first; extra_model_paths.yaml can add to each."""
    return [*own_folders(), *(path for name in FOLDERS[1:] for path in folder_paths.get_folder_paths(name))]


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


def patchers(networks: Iterable[Any]) -> list[Any]:
    """The networks of features and objectives as the host keeps models."""
    return [host.patcher(network) for network in networks]
