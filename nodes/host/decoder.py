"""The pictures that a VAE makes of latents, as VAE Decode gives them, with gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...noise.gradient.in_place import Writes
from ...noise.gradient.inference import normal
from ...noise.gradient.recompute import recompute
from ...noise.gradient.scale import rescaled
from .kernels import differentiable
from .memory import Memory
from .probe import check_decoder


class Decoder:
    """decoder(latents): pictures (B, 3, H, W) in 0..1; of a video the middle frame.

    network: the VAE's own, or its twin for gradients.
    """

    def __init__(self, vae: Any, memory: Memory) -> None:
        self.vae, self.memory = vae, memory
        self.network = vae.first_stage_model

    def __call__(self, latents: Tensor) -> Tensor:
        vae = self.vae
        if vae.latent_dim == 2 and latents.ndim == 5:
            latents = latents[:, :, 0]
        if not (torch.is_grad_enabled() and latents.requires_grad):
            needed = vae.memory_used_decode(latents.shape, vae.vae_dtype)
            chunk = max(1, int(vae.patcher.get_free_memory(vae.device) / needed))
            with torch.inference_mode():
                decoded = recompute(partial(self.pictures, vae.first_stage_model), latents, chunk=chunk)
            return normal(decoded)
        pictures = partial(self.pictures, self.network)
        check_decoder(vae.first_stage_model, pictures, latents[:1])
        writes = Writes.of(vae.first_stage_model, self.memory.mode)
        if self.memory.mode == "fast":
            return writes(lambda latents: rescaled(pictures, latents), latents)
        return recompute(pictures, latents, chunk=self.memory.decoder, writes=writes)

    def pictures(self, network: Any, latents: Tensor) -> Tensor:
        vae = self.vae
        comfy.model_management.throw_exception_if_processing_interrupted()
        with differentiable(torch.is_grad_enabled() and latents.requires_grad):
            decoded = network.decode(latents.to(vae.device, vae.vae_dtype))
        decoded = vae.process_output(decoded.to(vae.output_device, vae.vae_output_dtype(), copy=True)).float()
        return decoded[:, :3] if decoded.ndim == 4 else decoded[:, :3, decoded.shape[2] // 2]
