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
from safetensors.torch import save_file

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
