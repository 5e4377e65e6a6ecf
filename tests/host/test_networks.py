"""The nodes with pretrained networks inside the host: CLIP_VISION with a gradient, folders, precision, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.clip_vision
import comfy.model_management
import folder_paths
import pytest
import torch
import torchvision
from determinism import unordered
from pictures import gradient_error, natural
from tiny_networks import clip_vision_model
from torch import nn

from noise_optimize.nodes import networks, quality
from noise_optimize.nodes.clip_vision import CLIPVisionFeaturesNode
from noise_optimize.nodes.dino import DINOFeaturesNode
from noise_optimize.nodes.host.clip_vision import CLIPVisionFeatures
from noise_optimize.nodes.lpips import LPIPSNode
from noise_optimize.nodes.quality import PreferenceNode
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.features import dino

VIT = {
    "num_channels": 3,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "hidden_act": "gelu",
    "patch_size": 8,
    "image_size": 32,
}
DINO = {**VIT, "layer_norm_eps": 1e-6, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CONFIGS: dict[str, dict[str, Any]] = {
    "clip_vision_model": {**VIT, "projection_dim": 32},
    "siglip_vision_model": {**VIT, **HALF},
    "siglip2_vision_model": {**VIT, **HALF, "image_size": -1, "num_patches": 16},
    "dinov2": {**DINO, "use_swiglu_ffn": False},
    "dinov3": {**DINO, "num_register_tokens": 4, "rope_theta": 100.0},
}


def clip_vision(kind: str) -> Any:
    """A CLIP_VISION of the host's own classes with random weights, loaded in inference mode as a node would."""
    with torch.inference_mode():
        model = clip_vision_model({**CONFIGS[kind], "model_type": kind})
        generator = torch.Generator().manual_seed(0)
        state = {name: 0.1 * torch.randn(v.shape, generator=generator) for name, v in model.get_sd().items()}
        model.load_sd({name: v + 1 if "norm" in name and name.endswith("weight") else v for name, v in state.items()})
    return model


def host_pixels(model: Any, pictures: torch.Tensor, crop: bool) -> torch.Tensor:
    """What CLIP Vision Encode gives to the network."""
    options = {"mean": model.image_mean, "std": model.image_std, "crop": crop}
    if model.model_type == "siglip2_vision_model":
        return comfy.clip_model.siglip2_preprocess(pictures.movedim(1, -1), -1, 8, 16, **options)
    return comfy.clip_model.clip_preprocess(pictures.movedim(1, -1), 32, **options)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_clip_vision_is_seen_as_the_host_sees_it_with_a_gradient(kind: str) -> None:
    model, pictures = clip_vision(kind), natural(2, 40, 52)
    features = CLIPVisionFeatures(model, "patches", crop=True, chunk=1)
    with torch.inference_mode():  # as nodes run
        expected = model.model(pixel_values=host_pixels(model, pictures, crop=True))[0]
        seen = features(pictures)
    assert seen.shape[1] >= 9
    expected = expected[:, -seen.shape[1] :]
    assert torch.cosine_similarity(seen, expected, dim=-1).min() > 0.999
    assert gradient_error(features, pictures, step=3e-2) < 2e-2
    assert not unordered(features(pictures.requires_grad_()))


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("crop", [True, False])
def test_the_preprocessing_is_the_hosts_but_for_half_an_8_bit_step(kind: str, crop: bool) -> None:
    model, pictures = clip_vision(kind), natural(2, 41, 53)
    seen = CLIPVisionFeatures(model, crop=crop).preprocess(pictures)
    steps = (seen - host_pixels(model, pictures, crop)) * torch.tensor(model.image_std)[:, None, None] * 255
    assert steps.abs().max() < 0.51


def test_pooled_features_are_the_hosts_image_embedding() -> None:
    model, pictures = clip_vision("clip_vision_model"), natural(2, 40, 40)
    with torch.inference_mode():
        expected = model.encode_image(pictures.movedim(1, -1))["image_embeds"].float()
    seen = CLIPVisionFeaturesNode.execute(model, "pooled", False, 0, 8).result[0](pictures)
    assert seen.shape == (2, 1, 32)
    assert torch.cosine_similarity(seen[:, 0], expected, dim=-1).min() > 0.999


def test_dino_takes_any_size_and_clip_only_its_own() -> None:
    assert CLIPVisionFeatures(clip_vision("dinov2"), "patches", size=51)(natural(1, 60, 60)).shape == (1, 36, 64)
    with pytest.raises(ValueError, match="set size to 0"):
        CLIPVisionFeatures(clip_vision("clip_vision_model"), size=48)


def test_the_host_keeps_each_network_once() -> None:
    model, network = clip_vision("dinov3"), nn.Linear(2, 2)
    (own,) = networks.patchers(CLIPVisionFeatures(model).networks)
    assert own is model.patcher
    (patcher,) = networks.patchers([network])
    assert networks.patchers([network]) == [patcher]
    comfy.model_management.load_models_gpu([patcher])
    assert network.weight.device == patcher.load_device


def test_precision_is_by_name_and_full_on_the_cpu() -> None:
    assert networks.dtype("auto") == torch.float32
    assert networks.dtype("float16") == torch.float16


def test_weights_are_found_in_the_hosts_folder_while_nodes_run_in_inference_mode() -> None:
    folder = Path(networks.folders()[0])
    assert folder == Path(folder_paths.models_dir, "noise_optimize")
    folder.mkdir(exist_ok=True)
    trunk = torchvision.models.squeezenet1_1().state_dict()
    torch.save(trunk, folder / "squeezenet1_1-b8a52dc0.pth")
    with torch.inference_mode():
        objective = LPIPSNode.execute("SqueezeNet", 2.0, {"target": "at least", "value": 0.3}, 64, "auto", 8).result[0]
    assert (objective.weight, objective.target, objective.name) == (2.0, 0.3, "LPIPS SqueezeNet")
    pictures = natural(2, 70, 70).requires_grad_()
    objective.measure(Batch(pictures=pictures)).backward()
    assert pictures.grad.abs().sum() > 0


def test_offline_the_sentence_names_the_hosts_folder() -> None:
    folder = str(Path(folder_paths.models_dir, "noise_optimize"))
    with pytest.raises(FileNotFoundError, match=r"DINOv2 ViT-B/14 .* Apache-2.0") as caught:
        DINOFeaturesNode.execute("DINOv2 ViT-B/14", "patches", 252, "auto", 8)
    assert folder in str(caught.value)
    with pytest.raises(FileNotFoundError, match="PickScore_v1"):
        PreferenceNode.execute("a cat", "PickScore", 1.0, {"target": "none"}, "auto", 8)


@pytest.mark.parametrize(("form", "published"), [("its own", False), ("published", True)])
def test_the_form_reaches_what_looks_at_pictures(form: str, published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(dino, "load_dino", lambda *args: seen.append(args[-1]))
    monkeypatch.setattr(dino, "DINOFeatures", lambda *args: seen.append(args[-1]))
    DINOFeaturesNode.execute("DINOv2 ViT-B/14", "class", 252, "float32", 8, form)
    monkeypatch.setattr(quality, "load_clip", lambda *args, **options: None)
    monkeypatch.setattr(quality, "clip_score", lambda *args, published: seen.append(published))
    quality.CLIPScoreNode.execute("a cat", "ViT-B-32/openai", 1.0, {"target": "none"}, "", "float32", 8, form)
    assert seen == [published] * 3
