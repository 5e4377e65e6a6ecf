"""CLIP features and scores: open_clip's real code and preprocessing, on tiny random towers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from pictures import climb, gradient_error, natural
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize
from transformers import CLIPConfig, CLIPModel

from noise_optimize.objectives import quality
from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.features.clip import CLIPFeatures
from noise_optimize.objectives.pretrained.clip import load_clip
from noise_optimize.objectives.pretrained.preprocess import CLIP

ARCHITECTURE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
}
PROMPT = "a photo of a cat"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model "tiny" that open_clip knows with two sets of weights, and random weights under the published names."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "tiny.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(folder / "tiny.json")
    common = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    tags = {
        "laion_tiny": {"hf_hub": "laion/CLIP-tiny/", **common},
        "openai": {"hf_hub": "timm/clip_tiny.openai/", "quick_gelu": True, **common},
    }
    torch.manual_seed(0)
    state = open_clip.create_model("tiny").state_dict()
    state = {name: (value + 0.05 * torch.randn_like(value)).contiguous() for name, value in state.items()}
    for name in ("tiny-laion_tiny", "tiny-openai"):
        save_file(state, folder / f"{name}.safetensors")
    torch.save({"epoch": 1, "state_dict": state}, folder / "HPS_v2.1_compressed.pt")
    config = CLIPConfig(
        text_config={**TOWER, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406},
        vision_config={**TOWER, "hidden_size": 64, "intermediate_size": 256, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    foreign = CLIPModel(config)
    for parameter in foreign.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    foreign.logit_scale.data.fill_(4.0)
    save_file(
        {name: value.contiguous() for name, value in foreign.state_dict().items()}, folder / "PickScore_v1.safetensors"
    )
    foreign.save_pretrained(folder / "foreign")
    vision = {k: v.contiguous() for k, v in foreign.state_dict().items() if k.startswith(("vision", "visual"))}
    (folder / "vision_only").mkdir()
    save_file(vision, folder / "vision_only" / "CLIP-tiny.safetensors")
    torch.save(head().state_dict(), folder / "sac+logos+ava1-l14-linearMSE.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
        patch.setattr(quality, "AESTHETIC_CLIP", "tiny/openai")
        for name, row in quality.PREFERENCES.items():
            patch.setitem(quality.PREFERENCES, name, replace(row, architecture="tiny"))
        yield folder


def head() -> nn.Module:
    """The published head's layout: linear layers and dropout, nothing between them."""
    torch.manual_seed(1)
    sizes = (32, 64, 16, 8, 4, 1)
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers += [nn.Linear(inner, outer), *([nn.Dropout(0.2)] if i < 3 else [])]
    return nn.ModuleDict({"layers": nn.Sequential(*layers)}).eval()


def score(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> quality.ClipQuality:
    if name == "CLIP Score":
        return quality.clip_score(load_clip("tiny/laion_tiny", [folder], dtype, text=True), PROMPT)
    if name == "Aesthetic":
        return quality.aesthetic([folder], dtype)
    return quality.preference(name, PROMPT, [folder], dtype)


NAMES = ("CLIP Score", "HPSv2.1", "PickScore", "Aesthetic")


def test_the_embedding_is_open_clips_own(folder: Path) -> None:
    clip, pictures = load_clip("tiny/laion_tiny", [folder]), natural(3, 40, 56)
    transform = open_clip.image_transform(32, False, (0.5,) * 3, (0.25,) * 3)
    with torch.no_grad():
        expected = clip.network.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True)
        seen = CLIPFeatures(clip)(pictures)
        text = clip.network.encode_text(open_clip.get_tokenizer("tiny")([PROMPT]), normalize=True)[0]
    torch.testing.assert_close(seen[:, 0], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(clip.text(PROMPT), text, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_the_pixels(name: str, folder: Path) -> None:
    objective = score(name, folder, torch.float64)
    error = gradient_error(lambda x: objective.measure(Batch(pictures=x)), natural(2, 37, 45).double())
    assert error < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_improve_every_picture(name: str, folder: Path) -> None:
    objective, pictures = score(name, folder), natural(3, 40, 40)
    values = objective.measure(Batch(pictures=pictures))
    assert values.shape == (3,)
    before, after = climb(lambda x: objective.measure(Batch(pictures=x)), pictures)
    assert after > before + 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_agrees_and_small_gradients_survive(dtype: torch.dtype, folder: Path) -> None:
    values, gradients = [], []
    for precision in (torch.float32, dtype):
        x = natural(2, 40, 40).requires_grad_()
        value = score("CLIP Score", folder, precision).measure(Batch(pictures=x))
        (1e-7 * value.sum()).backward()
        values.append(value.detach())
        gradients.append(x.grad.flatten())
    torch.testing.assert_close(*values, atol=0.02, rtol=0)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95


def test_hpsv2_is_the_cosine_and_sees_the_whole_picture(folder: Path) -> None:
    objective, wide = quality.preference("HPSv2.1", PROMPT, [folder]), natural(1, 32, 96)
    changed = wide.clone()
    changed[..., :8] = 0
    score, other = (objective.measure(Batch(pictures=x)) for x in (wide, changed))
    cosine = objective.clip.images(wide) @ objective.clip.text(PROMPT)
    torch.testing.assert_close(score, cosine)
    assert not torch.equal(score, other)


def test_pickscore_is_the_logit_of_transformers_clip(folder: Path) -> None:
    foreign, pictures = CLIPModel.from_pretrained(folder / "foreign").eval(), natural(2, 48, 48)
    objective = quality.preference("PickScore", PROMPT, [folder])
    tokens = open_clip.get_tokenizer("tiny")([PROMPT])
    with torch.no_grad():
        out = foreign(input_ids=tokens, pixel_values=objective.clip.preprocess(pictures))
        torch.testing.assert_close(
            objective.measure(Batch(pictures=pictures)), out.logits_per_image[:, 0], atol=1e-4, rtol=0
        )


def test_the_aesthetic_head_is_one_affine_map(folder: Path) -> None:
    objective, pictures = quality.aesthetic([folder]), natural(3, 40, 40)
    with torch.no_grad():
        expected = head()["layers"](objective.clip.images(pictures))[:, 0]
        torch.testing.assert_close(objective.measure(Batch(pictures=pictures)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name, allowed", [("CLIP Score", 0.02), ("HPSv2.1", 0.01), ("PickScore", 1.0), ("Aesthetic", 0.3)]
)
def test_a_rollback_of_a_tenth_is_the_tolerance_of_each_score_on_its_own_scale(name, allowed, folder: Path) -> None:
    (start,) = score(name, folder)(Batch(pictures=natural(1, 32, 32)))
    for lost, fell in ((0.99, False), (1.01, True)):
        assert replace(start, values=start.values - lost * allowed).lost(start, 0.1).tolist() == [fell]


def test_objectives_of_one_model_share_one_network(folder: Path) -> None:
    clip = load_clip("tiny/openai", [folder], text=True)
    assert quality.aesthetic([folder]).networks == quality.clip_score(clip, PROMPT).networks == (clip.network.visual,)
    assert load_clip("tiny/laion_tiny", [folder]).network is not clip.network


def test_a_batch_goes_through_one_network_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, calls = load_clip("tiny/openai", [folder], text=True), []
    encode = clip.network.encode_image
    monkeypatch.setattr(clip.network, "encode_image", lambda x: calls.append(len(x)) or encode(x))
    both = quality.aesthetic([folder]) + quality.clip_score(clip, PROMPT)
    assert len(both(Batch(pictures=natural(2, 32, 32)))) == 2
    assert calls == [2]


def test_the_text_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = quality.clip_score(load_clip("tiny/laion_tiny", [folder], text=True), PROMPT)
    monkeypatch.setattr(objective.clip.network, "encode_text", None)
    for _ in range(2):
        objective.measure(Batch(pictures=natural(1, 32, 32)))


def test_openais_weights_get_their_activation(folder: Path) -> None:
    gelus = [
        load_clip(f"tiny/{tag}", [folder]).network.visual.transformer.resblocks[0].mlp.gelu
        for tag in ("openai", "laion_tiny")
    ]
    assert [type(gelu).__name__ for gelu in gelus] == ["QuickGELU", "GELU"]


def test_an_image_tower_alone_has_features_but_scores_no_prompt(folder: Path) -> None:
    clip = load_clip("tiny/laion_tiny", [folder / "vision_only"])
    assert CLIPFeatures(clip)(natural(1, 40, 40)).shape == (1, 1, 32)
    with pytest.raises(ValueError, match="CLIP tiny/laion_tiny has no text tower"):
        quality.clip_score(clip, PROMPT)


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_the_one_that_is_drawn_or_refused(prompt: str, folder: Path) -> None:
    batch = Batch(pictures=natural(2, 40, 40))
    empty, own = (quality.preference("HPSv2.1", text, [folder]) for text in (prompt, "a dog"))
    with pytest.raises(ValueError, match="HPSv2.1 has no prompt: write one into it, or use it where"):
        empty(batch)
    written = quality.preference("HPSv2.1", PROMPT, [folder])
    assert empty.for_prompt(PROMPT).measure(batch).equal(written.measure(batch))
    assert (empty + own).for_prompt(PROMPT)(batch)[1].values.equal(own.measure(batch))
    with pytest.raises(ValueError, match="the prompt is empty"):
        empty.for_prompt(prompt)


def test_an_unknown_model_is_answered_with_its_nearest(folder: Path) -> None:
    with pytest.raises(ValueError, match="ViT-B-32/laion2b_s34b_b79k"):
        load_clip("ViT-B-32/laion2b_s34b_b79", [folder])


def test_a_file_of_another_model_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    state = open_clip.create_model("tiny").state_dict()
    save_file({**state, "visual.proj": torch.zeros(3, 3)}, tmp_path / "tiny-laion_tiny.safetensors")
    with pytest.raises(ValueError, match=r"tiny-laion_tiny\.safetensors does not hold CLIP tiny/laion_tiny"):
        load_clip("tiny/laion_tiny", [tmp_path])


@pytest.mark.parametrize("name", NAMES)
def test_a_model_loaded_in_inference_mode_still_gives_a_gradient(name: str, folder: Path) -> None:
    with torch.inference_mode():
        objective = score(name, folder)
    x = natural(1, 40, 40).requires_grad_()
    objective.measure(Batch(pictures=x)).sum().backward()
    assert x.grad.abs().sum() > 0


def test_missing_weights_are_named_with_folder_licence_and_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        quality.preference("HPSv2.1", PROMPT, [tmp_path])
    assert all(part in str(caught.value) for part in ("HPS_v2.1_compressed", str(tmp_path), "Apache-2.0", "xswu/HPSv2"))


def test_the_published_clip_score_normalizes_twice(folder: Path) -> None:
    """As `clip_b32` of arXiv 2601.00090's released code: torchvision's transform, then once more from -1..1."""
    clip = load_clip("tiny/openai", [folder], text=True)
    first = Compose([Resize(32, InterpolationMode.BICUBIC), CenterCrop(32), Normalize(*CLIP)])
    pictures = natural(2, 60, 80)
    again = (first(pictures) * 0.5 + 0.5).clamp(0, 1)
    with torch.no_grad():
        seen = torch.nn.functional.normalize(clip.network.encode_image(Normalize(*CLIP)(again)), dim=-1)
        score = quality.clip_score(clip, PROMPT, published=True)
        (found,) = score(Batch(pictures=pictures))
        (plain,) = quality.clip_score(clip, PROMPT)(Batch(pictures=pictures))
    torch.testing.assert_close(found.values, seen @ clip.text(PROMPT), atol=1e-5, rtol=0)
    assert not torch.allclose(found.values, plain.values, atol=1e-3)
    assert score.name == "CLIP Score as published"
