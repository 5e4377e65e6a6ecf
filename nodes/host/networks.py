"""The networks of features and objectives among the models that the host keeps in memory."""

from __future__ import annotations

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from torch import nn


def patcher(network: nn.Module | ModelPatcher) -> ModelPatcher:
    """The network as the host loads and unloads models, wrapped once; one of the host's own is wrapped already.

    Kept on the network itself: the host's list of loaded models keeps no patcher alive.
    """
    if hasattr(network, "load_device"):
        return network
    if not hasattr(network, "host_patcher"):
        device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        network.host_patcher = ModelPatcher(network, load_device=device, offload_device=offload)
    return network.host_patcher
