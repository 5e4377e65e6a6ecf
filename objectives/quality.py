"""Quality of single pictures: CLIP Score, human preference (HPSv2.1, PickScore) and LAION's aesthetic predictor.

All are a CLIP tower and at most a linear head. Scores are (B,), on the scale on which their authors report them. The
loop lets a picture lose a tenth of the span of its score: 0.01 of HPSv2.1, as published, and 1 of PickScore, which is
such a cosine times 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .batch import PICTURES, Batch
from .features.clip import CLIPFeatures
from .objective import UNPROMPTED, Objective
from .pretrained.clip import Clip, load_clip, load_tower
from .pretrained.preprocess import AS_PUBLISHED, CLIP, Preprocess
from .pretrained.weights import Progress, Weights, locate, read


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipQuality(Objective):
    """scale * <image, direction> + offset, with the unit vector of each picture in CLIP's space.

    direction: (D,) the unit vector of a prompt, or the weights of a linear head; None where the prompt is yet to come.
    """

    kind = "quality"
    needs = PICTURES
    name: str = "CLIP Quality"
    span: float = 1.0
    clip: Clip
    direction: Tensor | None = field(repr=False)
    scale: float = 1.0
    offset: float = 0.0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return self.clip.networks

    def for_prompt(self, prompt: str) -> ClipQuality:
        return self if self.direction is not None else replace(self, direction=self.clip.text(prompt))

    def measure(self, batch: Batch) -> Tensor:
        """(B,)"""
        if self.direction is None:
            raise ValueError(f"{self.name} has no prompt: {UNPROMPTED}")
        seen = batch.features(CLIPFeatures(self.clip))[:, 0]
        return self.scale * (seen @ self.direction.to(seen)) + self.offset


def direction_of(clip: Clip, prompt: str) -> Tensor | None:
    """(D,) the unit vector of a prompt; None for an empty one, which is yet to come."""
    return clip.text(prompt) if prompt.strip() else None


CLIP_SPAN = 0.2  # most pictures have a CLIP Score of 0.2 to 0.4


def clip_score(
    clip: Clip, prompt: str, weight: float = 1.0, target: float | None = None, published: bool = False
) -> ClipQuality:
    """CLIP Score: the cosine of picture and prompt (arXiv 2104.08718 multiplies it by 2.5), about 0.2 to 0.4.

    published: as the reward `clip_b32` in the released code of arXiv 2601.00090, with ViT-B-32/openai. It normalizes
    twice: pictures come normalized for CLIP, are taken for pictures in -1..1, cut to that and normalized again.
    """
    name = "CLIP Score"
    if published:
        size, name = clip.preprocess.size, f"{name}{AS_PUBLISHED}"
        clip = replace(clip, preprocess=Preprocess(size, mean=CLIP[0], std=CLIP[1], clip=False, twice=True))
    direction = direction_of(clip, prompt)
    return ClipQuality(name=name, clip=clip, direction=direction, weight=weight, target=target, span=CLIP_SPAN)


@dataclass(frozen=True)
class Preference:
    """A CLIP model fine-tuned on people's choices between pictures of one prompt.

    logits: whether the published score is the cosine times the model's logit scale. span: of the score, see Objective.
    """

    weights: Weights
    look: dict[str, Any]
    logits: bool
    span: float
    architecture: str = "ViT-H-14"


PREFERENCES = {
    # arXiv 2306.09341, tgxs002/HPSv2: cosine, about 0.2 to 0.35; the whole picture on black, resized in float
    "HPSv2.1": Preference(
        Weights("HPSv2.1", "HPS_v2.1_compressed", "Apache-2.0", "xswu/HPSv2", ("HPS_v2.1_compressed.pt",)),
        {"resize": "longest", "clip": False},
        logits=False,
        span=0.1,
    ),
    # arXiv 2305.01569, yuvalkirstain/PickScore: logit, about 15 to 25; the centre of the picture
    "PickScore": Preference(
        Weights("PickScore", "PickScore_v1", "MIT", "yuvalkirstain/PickScore_v1"),
        {"resize": "shortest"},
        logits=True,
        span=10.0,
    ),
}


def preference(
    model: str,
    prompt: str,
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    *,
    weight: float = 1.0,
    target: float | None = None,
    chunk: int = 8,
) -> ClipQuality:
    """How much people would prefer a picture for this prompt: a model of PREFERENCES, on its own scale."""
    row = PREFERENCES[model]
    clip = load_tower(row.architecture, row.weights, folders, dtype, progress, chunk=chunk)
    clip = replace(clip, preprocess=replace(clip.preprocess, **row.look))
    return ClipQuality(
        name=model,
        clip=clip,
        direction=direction_of(clip, prompt),
        scale=clip.logit_scale if row.logits else 1.0,
        weight=weight,
        target=target,
        span=row.span,
    )


AESTHETIC_CLIP = "ViT-L-14/openai"
AESTHETIC_SPAN = 3.0
AESTHETIC_HEAD = Weights(  # christophschuhmann/improved-aesthetic-predictor; trl gets it from this repository
    "LAION's aesthetic predictor",
    "sac+logos+ava1-l14-linearMSE",
    "Apache-2.0",
    "trl-lib/ddpo-aesthetic-predictor",
    ("aesthetic-model.pth",),
)


def aesthetic(
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    *,
    weight: float = 1.0,
    target: float | None = None,
    chunk: int = 8,
) -> ClipQuality:
    """LAION's aesthetic score, 1 to 10 and about 4 to 7 in practice, its span; it knows no prompt."""
    clip = load_clip(AESTHETIC_CLIP, folders, dtype, progress, chunk=chunk)
    with torch.inference_mode(False), torch.no_grad():  # nodes run in inference mode, and a gradient goes through it
        direction, offset = linear_head(read(locate(AESTHETIC_HEAD, folders, progress)))
    return ClipQuality(
        name="Aesthetic",
        clip=clip,
        direction=direction,
        offset=offset,
        weight=weight,
        target=target,
        span=AESTHETIC_SPAN,
    )


def linear_head(state: dict[str, Tensor]) -> tuple[Tensor, float]:
    """(D,) and a number: the layers of the head as one affine map, for there is no nonlinearity between them."""
    names = sorted((name for name in state if name.endswith(".weight")), key=lambda name: int(name.split(".")[-2]))
    if not names:
        raise ValueError(f"The file of {AESTHETIC_HEAD.title} holds no layers: get it from {AESTHETIC_HEAD.source}.")
    matrix, bias = torch.eye(state[names[0]].shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for name in names:
        layer = state[name].double()
        matrix, bias = layer @ matrix, layer @ bias.expand(layer.shape[1]) + state[name[:-6] + "bias"].double()
    return matrix[0].float(), float(bias)
