"""What the pack does with each model class of the host: differentiate, refuse, or have nothing to do with it.

Rows are tiny models with random weights, of the layout of the real ones, built by the host's own classes.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import comfy.samplers
import comfy.supported_models
import host_gradients as gradients
import picture_models
import tiny_models
import torch
import video_models
from comfy.ldm.modules import attention
from torch import Tensor

ROWS = {row.model: row for row in (*picture_models.ROWS, *video_models.ROWS)}
ROWS |= {
    f"{name} with a reference": picture_models.with_reference(ROWS[name]) for name in sorted(picture_models.EDITING)
}
KNOWN = [*dict.fromkeys(row.model for row in ROWS.values())]  # to the table; an older host lacks some
ROWS = {name: row for name, row in ROWS.items() if hasattr(comfy.supported_models, row.model)}
SIBLINGS = {
    "SD21UnclipH": "SD21UnclipL",
    "SSD1B": "SDXL",
    "KOALA_700M": "SDXL",
    "KOALA_1B": "SDXL",
    "Segmind_Vega": "SDXL",
    "WAN21_FunControl2V": "WAN21_I2V",
    "WAN22_Camera": "WAN21_Camera",
    "CogVideoX_Inpaint": "CogVideoX_I2V",
}  # of the same code as the class of a row, but for the sizes of the checkpoint
REFUSED = {
    "LTXAV": "several latents in one",
    "MiniMaxH3": "several latents in one",
    "WAN21_FlowRVS": "never sees the noise",
}  # a word of the sentence that says so
NO_PICTURES = {
    "StableAudio": "sound",
    "StableAudio3": "sound",
    "ACEStep": "sound",
    "ACEStep15": "sound",
    "MiniMaxMusic3": "sound",
    "Hunyuan3Dv2": "shapes in space",
    "Hunyuan3Dv2mini": "shapes in space",
    "Hunyuan3Dv2_1": "shapes in space",
    "TripoSplat": "shapes in space",
    "Trellis2": "shapes in space",
    "RT_DETR_v4": "finds things in a picture; nothing is sampled",
    "SAM3": "finds things in a picture; nothing is sampled",
    "SAM31": "finds things in a picture; nothing is sampled",
    "DepthAnything3": "measures depth in a picture; nothing is sampled",
}
BATCH, STEPS = 2, 2


def wire(name: str | tiny_models.Architecture, cfg: float = 2.0) -> tuple[comfy.samplers.CFGGuider, dict[str, Tensor]]:
    """A CFG Guider, with a prompt and a negative of its own for each sample, and an empty LATENT."""
    row = ROWS[name] if isinstance(name, str) else name
    prompts = (tiny_models.conditioning(row, seed, 1 if row.one_prompt else BATCH) for seed in (0, 1))
    return gradients.guider(tiny_models.model(row), *prompts, cfg), tiny_models.latent(row, batch=BATCH)


def without_derivative(kernel: Any, *args: Any, **kwargs: Any) -> Tensor:
    """An attention as SageAttention is one: the same values, outside autograd."""
    with torch.no_grad():
        return kernel(*args, **kwargs)


@contextlib.contextmanager
def another_attention(guider: comfy.samplers.CFGGuider) -> Iterator[None]:
    """`without_derivative`, patched into the guider's model, and where models call it by the name they imported."""
    guider.model_options["transformer_options"]["optimized_attention_override"] = without_derivative
    by_name = attention.wrap_attn(functools.partial(without_derivative, attention.attention_pytorch.__wrapped__))
    with contextlib.ExitStack() as stack:
        for module in [module for name, module in sys.modules.items() if name.startswith("comfy.")]:
            for name in {"optimized_attention", "optimized_attention_masked"} & vars(module).keys():
                stack.enter_context(mock.patch.object(module, name, by_name))
        yield


def error(name: str, memory: str, step: float = 1e-5) -> float:
    """How far the gradient of a row is from finite differences, in float64, as a share of it.

    In `fast`, the model's attention has been replaced by one without a derivative.
    """
    wired, latent = wire(name)
    with (
        another_attention(wired) if memory == "fast" else contextlib.nullcontext(),
        gradients.double_precision(wired),
    ):
        latent = {"samples": latent["samples"].double()}
        sigmas = gradients.sigmas(wired, STEPS).double()
        check = lambda session: gradients.relative_error(session, torch.float64, step)  # noqa: E731
        return gradients.run(wired, "euler", sigmas, latent, check, memory=memory)
