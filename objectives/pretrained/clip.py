"""CLIP (arXiv 2103.00020): pictures and a prompt as vectors of one space, by any model of open_clip, loaded once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import run, shared
from .preprocess import CLIP, Preprocess
from .transformers_clip import is_transformers_layout, to_open_clip
from .weights import Progress, Weights, locate, read

LICENCES = {"openai": "MIT", "laion": "MIT", "datacomp": "MIT", "commonpool": "MIT", "webli": "Apache-2.0"}


@dataclass(frozen=True, eq=False)
class Clip:
    """An open_clip model with the preprocessing of its weights.

    chunk: pictures whose activations are alive at once.
    """

    network: Any
    preprocess: Preprocess
    architecture: str
    title: str
    chunk: int = 8

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The image tower; the text tower works once and stays where it is."""
        return (self.network.visual,)

    def images(self, pictures: Tensor) -> Tensor:
        """(B, D) float32 unit vectors of pictures (B, 3, H, W) in 0..1, with a gradient."""
        weight = next(self.network.visual.parameters())
        return F.normalize(run(self.network.encode_image, self.preprocess(pictures), weight, self.chunk), dim=-1)

    def text(self, prompt: str) -> Tensor:
        """(D,) float32 unit vector of a prompt. Raises ValueError where there is no text tower or no text."""
        if not self.network.has_text:
            raise ValueError(f"{self.title} has no text tower: to score a prompt, choose weights of the whole model.")
        if not prompt.strip():
            raise ValueError(f"{self.title} scores pictures against a prompt, and the prompt is empty: write one.")
        import open_clip

        try:
            tokenize = open_clip.get_tokenizer(self.architecture)
        except OSError as error:  # SigLIP and the multilingual models keep their vocabulary on the hub
            raise FileNotFoundError(
                f"The vocabulary of {self.title} is not here and could not be fetched: go online once, or choose a ViT "
                "model of OpenAI or LAION, whose vocabulary comes with open_clip."
            ) from error
        with torch.inference_mode(False), torch.no_grad():
            tokens = tokenize([prompt]).to(self.network.logit_scale.device)
            return F.normalize(self.network.encode_text(tokens)[0].float(), dim=-1)

    @property
    def logit_scale(self) -> float:
        """The learned factor that turns cosines into logits."""
        return float(self.network.logit_scale.detach().exp())


def load_clip(
    name: str,
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    *,
    text: bool = False,
    chunk: int = 8,
) -> Clip:
    """A model "architecture/pretrained tag" of open_clip, such as "ViT-B-32/laion2b_s34b_b79k".

    text: whether the text tower is needed too; without, a file that holds the image tower alone will do.
    """
    import open_clip

    architecture, _, tag = name.strip().rpartition("/")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config:
        raise ValueError(f"open_clip has no model {name[:60]!r}; the nearest are {_nearest(name)}.")
    repository, file = os.path.split(config["hf_hub"])
    weights = Weights(
        f"CLIP {name}",
        f"{architecture}-{tag}",
        next((licence for start, licence in LICENCES.items() if tag.startswith(start)), "on the model's page"),
        repository,
        (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        aliases=() if text else (repository.rpartition("/")[2],),
    )
    clip = load_tower(architecture, weights, folders, dtype, progress, config.get("quick_gelu", False), chunk)
    look = {key: config[key] for key in ("mean", "std", "interpolation")}
    return replace(clip, preprocess=replace(clip.preprocess, resize=config["resize_mode"], **look))


def load_tower(
    architecture: str,
    weights: Weights,
    folders: Sequence[str | Path] = (),
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    quick_gelu: bool = False,
    chunk: int = 8,
) -> Clip:
    """An architecture of open_clip with these weights, in open_clip's layout or in that of transformers."""
    path = locate(weights, folders, progress)
    network = shared(
        (architecture, quick_gelu, path, path.stat().st_mtime_ns, dtype),
        lambda: _build(architecture, path, dtype, quick_gelu, weights.title),
    )
    size = network.visual.image_size
    preprocess = Preprocess(size if isinstance(size, int) else size[0], mean=CLIP[0], std=CLIP[1])
    return Clip(network, preprocess, architecture, weights.title, chunk)


def _build(architecture: str, path: Path, dtype: torch.dtype, quick_gelu: bool, title: str) -> Any:
    """The model of a file, its image tower in dtype; `has_text` says whether the file had a text tower."""
    import open_clip

    state = read(path)
    foreign = is_transformers_layout(state)
    has_text = any("token_embedding" in name or "text" in name for name in state)
    options = {"force_quick_gelu": quick_gelu, "pretrained_text": False}
    try:
        if foreign or not has_text:
            network = open_clip.create_model(architecture, **options)
            missing, _ = network.load_state_dict(to_open_clip(state) if foreign else state, strict=False)
            if lost := [name for name in missing if name.startswith("visual.")]:
                raise RuntimeError(f"no {lost[0]}")
        else:
            network = open_clip.create_model(architecture, str(path), weights_only=True, **options)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold {title} ({architecture}): put the right file there.") from error
    network.has_text = has_text
    network.visual.to(dtype)
    return network


def _nearest(name: str) -> str:
    import open_clip

    models = open_clip.list_pretrained(as_str=True)
    return ", ".join(get_close_matches(name, [model.replace(":", "/") for model in models], 3, 0))
