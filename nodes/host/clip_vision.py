"""What a CLIP_VISION of the host sees, with a gradient."""

from __future__ import annotations

import contextlib
from typing import Any

import comfy.clip_model
import torch
from torch import Tensor

from ...noise.gradient.inference import normal_tensors
from ...noise.gradient.recompute import recompute
from ...objectives.features.base import Features
from ...objectives.pretrained.resize import resize

ANY_SIZE = ("dinov2", "dinov3")  # model types whose positions stretch to any number of patches


class CLIPVisionFeatures(Features):
    """(B, P, D) the last tokens of a CLIP_VISION without class and registers, or (B, 1, D) its image embedding.

    The host's own preprocessing rounds to 8 bits, which stops the gradient: here it is the same, unrounded. Its layers
    write in place, so every pass is recomputed. The network computes in float32, as it does in CLIP Vision Encode.
    """

    def __init__(self, clip_vision: Any, tokens: str = "pooled", crop: bool = False, size: int = 0, chunk: int = 8):
        if size and clip_vision.model_type not in ANY_SIZE:
            raise ValueError(
                f"clip_vision is a {clip_vision.model_type}, which sees pictures of one size only: set size to 0."
            )
        self.name = f"CLIP Vision {clip_vision.model_type} {tokens}"
        self.clip_vision, self.tokens, self.crop, self.chunk = clip_vision, tokens, crop, chunk
        self.size = size // self.patch * self.patch or clip_vision.image_size

    @property
    def patch(self) -> int:
        return self.clip_vision.config.get("patch_size", 14)

    @property
    def networks(self) -> tuple[Any, ...]:
        """The host's own patcher of the model."""
        return (self.clip_vision.patcher,)

    def encode(self, x: Tensor) -> Tensor:
        pixels = self.preprocess(x.float().to(self.clip_vision.load_device))
        return recompute(self._forward, pixels, chunk=self.chunk).to(x.device)

    def preprocess(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in 0..1 as `comfy.clip_model.clip_preprocess` or `siglip2_preprocess` resizes them."""
        height, width = x.shape[-2:]
        if self.size > 0:
            scales = (self.size / min(height, width),) * 2 if self.crop else (self.size / height, self.size / width)
            resized, mode = (round(scales[0] * height), round(scales[1] * width)), "bicubic"
            cut = (self.size, self.size)
        else:  # NaFlex: as many patches as it takes, in the proportions of the picture
            patches = self.clip_vision.config.get("num_patches", 256)
            resized = cut = comfy.clip_model.siglip2_flex_calc_resolution(height, width, self.patch, patches)
            mode = "bilinear"
        if resized != (height, width):
            x = resize(x, *resized, mode)
        top, left = ((whole - part) // 2 for whole, part in zip(resized, cut, strict=True))
        x = x[..., top : top + cut[0], left : left + cut[1]].clamp(0, 1)
        mean, std = (x.new_tensor(v)[:, None, None] for v in (self.clip_vision.image_mean, self.clip_vision.image_std))
        return (x - mean) / std

    def _forward(self, pixels: Tensor) -> Tensor:
        model = self.clip_vision.model
        graph = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with normal_tensors(model) if graph else contextlib.nullcontext():
            last, _, embedding = model(pixel_values=pixels, intermediate_output=-2)[:3]
        if self.tokens == "patches":
            places = (pixels.shape[-2] // self.patch) * (pixels.shape[-1] // self.patch)
            return last[:, -places:]
        return embedding.mean(dim=1, keepdim=True) if embedding.ndim == 3 else embedding[:, None]
