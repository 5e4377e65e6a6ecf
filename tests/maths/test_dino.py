"""DINO features: timm's networks with their real code and preprocessing, two blocks deep, on random weights."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from pictures import climb, gradient_error, natural
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model

from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.dino import MODELS, DINOFeatures, load_dino

WIDTH = 64
V2, REGISTERS, V3 = "DINOv2 ViT-S/14", "DINOv2 ViT-S/14 with registers", "DINOv3 ViT-S/16"


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    """timm makes its networks narrow and two blocks deep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", partial(timm.create_model, depth=2, embed_dim=WIDTH, num_heads=2))
        yield


@pytest.fixture(scope="module")
def folder(small_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest networks, each in a file of its published name and layout."""
    folder = tmp_path_factory.mktemp("weights")
    for title in (V2, REGISTERS, V3):
        torch.manual_seed(0)
        network = timm.create_model(MODELS[title].stem, num_classes=0)
        for parameter in network.parameters():  # timm starts layer scale near 0, which would hide the blocks
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        save_file(network.state_dict(), folder / f"{MODELS[title].stem}.safetensors")
    return folder


@pytest.mark.parametrize(("title", "size"), [(V2, 56), (REGISTERS, 56), (V3, 64)])
def test_tokens_are_timms_own(title: str, size: int, folder: Path) -> None:
    network = load_dino(title, [folder])
    square = natural(2, 120, 120)
    transform = timm.data.create_transform((3, size, size), interpolation="bicubic", crop_pct=1.0)
    with torch.no_grad():
        tokens = network.forward_features(torch.stack([transform(picture) for picture in square]))
        tokens = tokens / tokens.norm(dim=-1, keepdim=True)
        patches = DINOFeatures(network, title, size=size)(square)
        whole = DINOFeatures(network, title, "class", size=size)(square)
    assert patches.shape == (2, 16, WIDTH) and whole.shape == (2, 1, WIDTH)
    torch.testing.assert_close(patches, tokens[:, -16:], atol=1e-3, rtol=0)
    torch.testing.assert_close(whole, tokens[:, :1], atol=1e-3, rtol=0)


def test_any_size_and_shape_of_picture_works(folder: Path) -> None:
    features = DINOFeatures(load_dino(V2, [folder]), V2, size=56)
    assert features(natural(1, 61, 97)).shape == (1, 4 * 6, WIDTH)
    assert features(natural(1, 97, 61)).shape == (1, 6 * 4, WIDTH)
    with pytest.raises(ValueError, match="size is 3 px"):
        DINOFeatures(load_dino(V2, [folder]), V2, size=3)


@pytest.mark.parametrize("title", [REGISTERS, V3])
def test_the_gradient_reaches_the_pixels(title: str, folder: Path) -> None:
    features = DINOFeatures(load_dino(title, [folder], torch.float64), title, size=64)
    assert gradient_error(features, natural(2, 50, 66).double()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_agrees_and_small_gradients_survive(dtype: torch.dtype, folder: Path) -> None:
    pictures = natural(2, 70, 70)
    gradients, seen = [], []
    for precision in (torch.float32, dtype):
        x = pictures.clone().requires_grad_()
        out = DINOFeatures(load_dino(V2, [folder], precision), V2, size=56)(x)
        assert out.dtype == torch.float32
        (1e-7 * (out[0] - out[1]).square().sum()).backward()
        gradients.append(x.grad.flatten())
        seen.append(out.detach())
    assert (seen[0] - seen[1]).norm(dim=-1).max() < 0.1
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95


def test_chunks_give_the_gradient_of_the_whole(folder: Path) -> None:
    network, gradients = load_dino(V2, [folder]), []
    for chunk in (1, 8):
        x = natural(3, 60, 60).requires_grad_()
        features = DINOFeatures(network, V2, size=56, chunk=chunk)(x)
        torch.einsum("ipd,jpd->", features, features).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-3)


def test_ten_steps_make_pictures_more_different(folder: Path) -> None:
    objective = Diversity(features=DINOFeatures(load_dino(V2, [folder]), V2, size=56), statistic="pairwise")
    near = natural(1, 60, 60) + 0.02 * natural(3, 60, 60, seed=1)
    before, after = climb(lambda pictures: objective.measure(Batch(pictures=pictures)), near)
    assert after > before + 0.01


def test_a_file_of_metas_own_layout_is_read(folder: Path, tmp_path: Path) -> None:
    state = load_dino(V2, [folder]).state_dict()
    torch.save({**state, "mask_token": torch.zeros(1, WIDTH)}, tmp_path / "dinov2_vits14_pretrain.pth")
    loaded = load_dino(V2, [tmp_path]).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_one_network_serves_all_that_ask_and_none_is_kept(folder: Path) -> None:
    network = load_dino(V2, [folder])
    assert load_dino(V2, [folder]) is network
    assert load_dino(V2, [folder], torch.bfloat16) is not network
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    remembered = weakref.ref(network)
    del network
    gc.collect()
    assert remembered() is None


def test_a_network_loaded_in_inference_mode_still_gives_a_gradient(folder: Path) -> None:
    with torch.inference_mode():
        features = DINOFeatures(load_dino(REGISTERS, [folder], torch.float32), REGISTERS, size=56)
    x = natural(1, 60, 60).requires_grad_()
    features(x)[..., 0].sum().backward()
    assert x.grad.abs().sum() > 0


def test_dinov3_is_not_fetched_for_its_licence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="DINOv3 License"):
        load_dino(V3, [tmp_path])


def divgen_tokens(model: Dinov2Model, pictures: torch.Tensor) -> torch.Tensor:
    """(B, 1 + P, D) as arXiv 2601.00090's released code sees pictures in 0..1."""
    x = torch.nn.functional.interpolate(2 * pictures - 1, size=(256, 256), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return model(pixel_values=(x / 2 + 0.5 - mean) / std).last_hidden_state


def test_the_published_form_is_that_of_the_released_code(folder: Path, tmp_path: Path) -> None:
    network = load_dino(V2, [folder], published=True)
    state, size = load_file(folder / f"{MODELS[V2].stem}.safetensors"), {"image_size": 518, "patch_size": 14}
    config = Dinov2Config(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, **size)
    config.save_pretrained(tmp_path)
    save_file(in_transformers_layout(state), tmp_path / "model.safetensors", {"format": "pt"})
    model = Dinov2Model.from_pretrained(tmp_path).eval()
    for pictures in (natural(2, 512, 512), natural(2, 300, 420)):
        with torch.no_grad():
            expected = torch.nn.functional.normalize(divgen_tokens(model, pictures), dim=-1)
            patches = DINOFeatures(network, V2, published=True)(pictures)
            whole = DINOFeatures(network, V2, "class", published=True)(pictures)
        torch.testing.assert_close(patches, expected[:, 1:], atol=2e-5, rtol=0)
        torch.testing.assert_close(whole, expected[:, :1], atol=2e-5, rtol=0)
    assert DINOFeatures(network, V2, "class", published=True).name == f"{V2} class as published"
    assert load_dino(V2, [folder]) is not network


def in_transformers_layout(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's weights under the names of the published file, facebook/dinov2-base."""
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
        "blocks.": "encoder.layer.",
        "attn.proj.": "attention.output.dense.",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
    }
    renamed = {"embeddings.mask_token": torch.zeros(1, WIDTH)}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        name = f"layernorm{name[4:]}" if name.startswith("norm.") else name
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{part}")] = rows.clone()
        else:
            renamed[name] = value
    return renamed


def test_the_published_form_is_of_dinov2(folder: Path) -> None:
    with pytest.raises(ValueError, match="choose a DINOv2"):
        load_dino(V3, [folder], published=True)
