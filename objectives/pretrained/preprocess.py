"""What a network's own transform does to a picture (resize, crop or pad, normalise), in float and with a gradient.

The libraries' transforms work on 8-bit pictures and round after resizing: gradient 0 everywhere. Here nothing is
rounded, so values differ from theirs by about one 8-bit step (1/255 before the division by std).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .resize import resize

Resize = Literal["shortest", "longest", "squash", "whole"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AS_PUBLISHED = " as published"  # ends the name of what looks at pictures as released code does
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Preprocess:
    """Pictures (B, 3, H, W) in 0..1 to normalised (B, 3, h, w).

    size: pixels a side. resize: "shortest" brings the shorter side to size and crops the centre; "longest" the longer
    one, padded with black; "squash" both; "whole" brings the shorter side to size and keeps all of the picture, both
    sides rounded to a multiple of `multiple`. interpolation: a row of `resize.FILTERS`. clip: cut what cubic
    interpolation overshoots, as 8-bit pictures do. twice: normalise, take the result for a picture in -1..1, and
    normalise again: a slip of released code (`quality.clip_score`) that its figures were made with.
    """

    size: int
    resize: Resize = "shortest"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    multiple: int = 1
    clip: bool = True
    twice: bool = False

    def __call__(self, pictures: Tensor) -> Tensor:
        x = pictures if pictures.dtype == torch.float64 else pictures.float()
        height, width = self.resized(*x.shape[-2:])
        if x.shape[-2:] != (height, width):
            x = resize(x, height, width, self.interpolation)
            x = x.clamp(0, 1) if self.clip else x
        if self.resize == "shortest":
            top, left = round((height - self.size) / 2), round((width - self.size) / 2)
            x = x[..., top : top + self.size, left : left + self.size]
        elif self.resize == "longest":
            rows, columns = self.size - height, self.size - width
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        mean, std = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        x = (x - mean) / std
        return ((x / 2 + 0.5).clamp(0, 1) - mean) / std if self.twice else x

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size that pictures of this size are brought to, before the crop or the padding."""
        if self.resize == "squash":
            return self.size, self.size
        if self.resize == "longest":
            scale = self.size / max(height, width)
            return round(height * scale), round(width * scale)
        rows, columns = (self.size * side / min(height, width) for side in (height, width))
        if self.resize == "shortest":
            return int(rows), int(columns)
        return round(rows / self.multiple) * self.multiple, round(columns / self.multiple) * self.multiple
