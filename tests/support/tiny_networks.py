"""The pretrained networks that objectives look through, in the layouts of the published files, with random weights.

`install` writes a file for each where the pack looks for it, and has the libraries build their largest ones small: it
is for a process that does nothing but test. Import only where the host is importable.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.clip_vision
import torch
from safetensors.torch import save_file
from tiny_models import SEED, randomise
from torch import Tensor, nn

DINO = "vit_small_patch14_dinov2.lvd142m"  # of 22 million weights: small enough as it is
CLIP_FILES = {
    "ViT-B-32": "ViT-B-32-laion2b_s34b_b79k",
    "ViT-L-14": "ViT-L-14-openai",
    "ViT-H-14": "HPS_v2.1_compressed",
}
TRUNKS = {
    "alex": "alexnet-owt-7be5be79",
    "vgg": "vgg16-397923af",
    "squeeze": "squeezenet1_1-b8a52dc0",
}
SIDE, WIDTH, EMBEDDING, VOCABULARY, TEXT_WIDTH = 64, 64, 32, 49408, 32
CLIP = {
    "embed_dim": EMBEDDING,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": WIDTH, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": VOCABULARY, "width": TEXT_WIDTH, "heads": 2, "layers": 2},
}
LOGIT_SCALE = 4.6  # ln 100, which CLIP's training stops at


def install(folder: Path) -> None:
    """Random weights of every network in `folder`, and the libraries made to build these instead of the real sizes."""
    import lpips
    import open_clip
    import timm

    folder.mkdir(parents=True, exist_ok=True)
    for seed, (architecture, file) in enumerate(CLIP_FILES.items()):
        (folder / f"{architecture}.json").write_text(json.dumps(CLIP), encoding="utf-8")
        open_clip.add_model_config(folder / f"{architecture}.json")
        _save(open_clip.create_model(architecture), folder / file, seed)
    _save(_transformers_clip(), folder / "PickScore_v1")
    _save(timm.create_model(DINO, num_classes=0), folder / DINO)
    for short, file in TRUNKS.items():
        with warnings.catch_warnings(), torch.device("meta"):  # torchvision's classifiers, which LPIPS drops, are large
            warnings.simplefilter("ignore")  # lpips calls torchvision with arguments that it calls deprecated
            trunk = lpips.LPIPS(net=short, pretrained=False, pnet_rand=True, verbose=False).net
        trunk.to_empty(device="cpu")
        state = {"features." + name.split(".", 1)[1]: value for name, value in randomise(trunk).state_dict().items()}
        torch.save(state, folder / f"{file}.pth")
    torch.save(_aesthetic_head().state_dict(), folder / "sac+logos+ava1-l14-linearMSE.pth")
    sys.modules["dreamsim"] = _dreamsim()


def clip_vision() -> Any:
    """A CLIP_VISION of the host's own class, as Load CLIP Vision would give it."""
    config = {
        "model_type": "clip_vision_model",
        "num_channels": 3,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "hidden_act": "gelu",
        "patch_size": 16,
        "image_size": SIDE,
        "projection_dim": EMBEDDING,
    }
    model = clip_vision_model(config)
    randomise(model.model)
    return model


def clip_vision_model(config: dict[str, Any]) -> Any:
    """The host's own class, its weights not filled; older hosts read its configuration from a file only."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return comfy.clip_vision.ClipVisionModel(str(file))


def _save(network: nn.Module, path: Path, seed: int = SEED) -> None:
    randomise(network, seed)
    if hasattr(network, "logit_scale"):
        network.logit_scale.data.fill_(LOGIT_SCALE)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, f"{path}.safetensors")


def _transformers_clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    text = {"hidden_size": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH, "vocab_size": VOCABULARY}
    vision = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "image_size": SIDE, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text | tower, vision_config=vision | tower, projection_dim=EMBEDDING))


def _aesthetic_head() -> nn.Module:
    """Linear layers and nothing between them; pictures that are quite different differ by some units of its score."""
    sizes = (EMBEDDING, 64, 16, 1)
    head = randomise(nn.ModuleDict({"layers": nn.Sequential(*map(nn.Linear, sizes, sizes[1:]))}))
    head["layers"][-1].weight.data.mul_(20)
    return head


class _Perceptual(nn.Module):
    """`embed` of dreamsim's PerceptualModel: (B, 3, 224, 224) in 0..1 to centred unit vectors (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.out = nn.Conv2d(3, 16, 32, 32), nn.Linear(16 * 49, EMBEDDING)

    def embed(self, pictures: Tensor) -> Tensor:
        seen = self.out((4 * self.patches(pictures - 0.5)).tanh().flatten(1))
        return nn.functional.normalize(seen - seen.mean(dim=1, keepdim=True), dim=1)


def _dreamsim() -> ModuleType:
    """The package, which is no dependency: its interface."""
    module = ModuleType("dreamsim")
    module.dreamsim = lambda **_: (randomise(_Perceptual()), None)
    return module
