"""Our preprocessing is the libraries' own, without its rounding to 8 bits."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision.transforms.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from pictures import natural
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import Normalize

from noise_optimize.objectives.pretrained.preprocess import CLIP, IMAGENET, Preprocess
from noise_optimize.objectives.pretrained.resize import FILTERS, resize

SIZES = [(300, 300), (131, 97), (64, 80)]


def timm_transform(size: int):
    return timm.data.create_transform((3, size, size), interpolation="bicubic", crop_pct=1.0)


def open_clip_transform(mode: str, interpolation: str = "bicubic"):
    return image_transform_v2(PreprocessCfg(size=96, resize_mode=mode, interpolation=interpolation), is_train=False)


def hps_transform(picture: Tensor) -> Tensor:
    """tgxs002/HPSv2, its ResizeMaxSize on a float tensor: the longer side to 96, on black, in the middle."""
    scale = 96 / max(picture.shape[-2:])
    height, width = (round(side * scale) for side in picture.shape[-2:])
    picture = F.resize(picture, [height, width], F.InterpolationMode.BICUBIC)
    rows, columns = 96 - height, 96 - width
    return Normalize(*CLIP)(F.pad(picture, [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]))


def transformers_processor(picture: Tensor) -> Tensor:
    from transformers import CLIPImageProcessor

    sizes = {"size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}}
    return CLIPImageProcessor(**sizes, do_rescale=False)(picture, return_tensors="pt")["pixel_values"][0]


LIBRARIES = {
    "timm": (timm_transform(98), Preprocess(98, "shortest", mean=IMAGENET[0], std=IMAGENET[1])),
    "open_clip": (open_clip_transform("shortest"), Preprocess(96, "shortest", mean=CLIP[0], std=CLIP[1])),
    "open_clip squash": (
        open_clip_transform("squash", "bilinear"),
        Preprocess(96, "squash", "bilinear", mean=CLIP[0], std=CLIP[1]),
    ),
    "HPSv2": (hps_transform, Preprocess(96, "longest", mean=CLIP[0], std=CLIP[1], clip=False)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_agrees_with_the_float_path_of_the_library(library: str, size: tuple[int, int]) -> None:
    transform, preprocess = LIBRARIES[library]
    pictures = natural(2, *size)
    expected = torch.stack([transform(picture) for picture in pictures])
    torch.testing.assert_close(preprocess(pictures), expected, atol=1e-3, rtol=0)


def test_agrees_with_the_processor_that_pickscore_is_published_with() -> None:
    pictures = natural(2, 180, 240)
    expected = torch.stack([transformers_processor(picture) for picture in pictures])
    torch.testing.assert_close(Preprocess(96, mean=CLIP[0], std=CLIP[1])(pictures), expected, atol=1e-3, rtol=0)


def test_differs_from_the_8_bit_path_by_its_rounding_alone() -> None:
    (picture,) = natural(1, 180, 240).mul(255).round().div(255)
    rounded = open_clip_transform("shortest")(F.to_pil_image(picture))
    steps = (
        (Preprocess(96, mean=CLIP[0], std=CLIP[1])(picture[None])[0] - rounded)
        * torch.tensor(CLIP[1])[:, None, None]
        * 255
    )
    assert steps.abs().max() < 1.01
    assert steps.abs().mean() < 0.3  # a uniform rounding error has 0.25


def test_whole_pictures_are_timms_when_square_and_keep_everything_otherwise() -> None:
    whole = Preprocess(98, "whole", multiple=14)
    square = natural(1, 300, 300)
    torch.testing.assert_close(whole(square)[0], timm_transform(98)(square[0]), atol=1e-3, rtol=0)
    assert whole(natural(1, 97, 131)).shape == (1, 3, 98, 126)  # 132.3 px are 9.45 patches
    corner = torch.zeros(1, 3, 97, 131)
    corner[..., -8:] = 1
    assert whole(corner)[..., -1].mean() > whole(corner)[..., 60].mean() + 1


def test_nothing_is_resized_where_the_size_fits() -> None:
    pictures = natural(2, 96, 96)
    plain = Preprocess(96, mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(plain(pictures), pictures)


def test_overshoot_is_cut_as_8_bit_pictures_cut_it() -> None:
    step = torch.zeros(1, 3, 64, 64)
    step[..., 32:] = 1
    plain = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    assert Preprocess(96, **plain)(step).aminmax() == (0, 1)
    assert Preprocess(96, **plain, clip=False)(step).max() > 1


@pytest.mark.parametrize("to", [(98, 98), (252, 186), (33, 200)])
@pytest.mark.parametrize("interpolation", FILTERS)
def test_resizing_is_torchs_to_the_last_digits(interpolation: str, to: tuple[int, int]) -> None:
    pictures, (mode, *plain) = natural(2, 131, 97).double(), interpolation.split(", ")
    expected = interpolate(pictures, to, mode=mode, antialias=not plain, align_corners=False)
    torch.testing.assert_close(resize(pictures, *to, interpolation), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("interpolation", FILTERS)
def test_resizing_to_the_same_size_changes_nothing(interpolation: str) -> None:
    pictures = natural(2, 13, 17)
    assert torch.equal(resize(pictures, 13, 17, interpolation), pictures)


def test_the_gradient_of_resizing_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda x: resize(x, 5, 9), natural(1, 7, 6).double().requires_grad_())
