"""Tiny models as quantised checkpoints: their linear layers stored in 8 bits, loaded by the host's own layers."""

from __future__ import annotations

import json

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.quant_ops
import comfy.supported_models
import comfyui
import tiny_models
import torch
from torch import nn

FORMATS = ("float8_e4m3fn",)
if comfyui.version() != comfyui.OLDEST_VERSION:  # which has no int8 yet
    FORMATS += ("int8_tensorwise",)


def model(name: str, stored: str, dtype: torch.dtype = torch.float32) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of one row of ARCHITECTURES, computed in dtype."""
    row = tiny_models.ARCHITECTURES[name]
    config = getattr(comfy.supported_models, row.model)(row.network)
    config.set_inference_dtype(dtype, None)
    config.custom_operations = comfy.ops.mixed_precision_ops(compute_dtype=dtype)
    network = config.get_model({}).eval()
    missing = network.diffusion_model.load_state_dict(checkpoint(name, stored, dtype))
    assert not missing.missing_keys and not missing.unexpected_keys
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(network, load_device=device, offload_device=device)


def checkpoint(name: str, stored: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    whole, layout = tiny_models.model(name).model.diffusion_model, comfy.quant_ops.QUANT_ALGOS[stored]
    state = {key: value.to(dtype) for key, value in whole.state_dict().items()}
    note = torch.tensor(list(json.dumps({"format": stored}).encode()), dtype=torch.uint8)
    for layer in [name for name, module in whole.named_modules() if isinstance(module, nn.Linear)]:
        packed = comfy.quant_ops.QuantizedTensor.from_float(
            state[f"{layer}.weight"], layout["comfy_tensor_layout"], scale="recalculate"
        )
        state |= {f"{layer}.weight": packed._qdata, f"{layer}.weight_scale": packed.params.scale}
        state[f"{layer}.comfy_quant"] = note
    return state
