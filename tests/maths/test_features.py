"""Colour and latent features: what they see, what they are blind to, and their gradients."""

import pytest
import torch
import torch.nn.functional as F
from pictures import natural

from noise_optimize.objectives.features.base import Features
from noise_optimize.objectives.features.colour import RANGES, ColourFeatures
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.features.pooling import area_pool
from noise_optimize.objectives.statistics import kernel

COLOURS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.1, 0.9], [0.9, 0.9, 0.1]])
SPACES = pytest.mark.parametrize("space", RANGES)


def flat(colours: torch.Tensor, height: int = 8, width: int = 12) -> torch.Tensor:
    """Pictures of one colour each."""
    return colours[:, :, None, None].expand(-1, -1, height, width).clone()


@SPACES
def test_colours_far_apart_are_orthogonal_and_the_same_colours_anywhere_identical(space):
    features = ColourFeatures(space=space)
    assert kernel(features(flat(COLOURS))).fill_diagonal_(0).abs().max() < 0.1
    pictures = natural(1, 64, 64)
    shuffled = pictures.flatten(2)[:, :, torch.randperm(64 * 64)].view_as(pictures)
    assert float(kernel(features(torch.cat([pictures, shuffled])))[0, 1]) == pytest.approx(1, abs=1e-5)


def test_the_histogram_is_joint():
    """Red beside cyan has the same amounts of each channel as green beside magenta."""
    halves = [torch.tensor([[1.0, 0, 0], [0, 1, 1]]), torch.tensor([[0, 1.0, 0], [1, 0, 1]])]
    pictures = torch.stack([F.interpolate(half.T[None], size=16)[0, :, None].expand(-1, 16, -1) for half in halves])
    assert float(kernel(ColourFeatures(space="rgb")(pictures))[0, 1]) < 0.1


def test_more_different_shades_are_further_apart():
    shades = flat(torch.linspace(0.2, 0.8, 5)[:, None].expand(-1, 3))
    similarity = kernel(ColourFeatures()(shades))[0]
    assert (similarity.diff() < 0).all()


@SPACES
def test_a_histogram_of_a_large_picture_is_that_of_its_areas(space):
    pictures = natural(2, 64, 64)
    enlarged = F.interpolate(pictures, scale_factor=3, mode="nearest")
    torch.testing.assert_close(ColourFeatures(space=space)(enlarged), ColourFeatures(space=space)(pictures))


@SPACES
def test_the_gradient_of_the_histogram_is_that_of_finite_differences(space):
    pictures = natural(2, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(ColourFeatures(space=space, bins=3), pictures, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_pictures_have_a_finite_gradient(level):
    pictures = torch.full((2, 3, 8, 8), level, requires_grad=True)
    ColourFeatures()(pictures)[0, 0, :3].sum().backward()
    assert pictures.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 4, 16, 24), (3, 4, 13, 21), (3, 4, 5, 6), (3, 16, 3, 16, 24)])
def test_latents_of_any_size_are_pooled_to_one_unit_vector(shape):
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    features = LatentFeatures()(latents)
    assert features.shape[:2] == (3, 1)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3, 1))


def test_latent_features_forget_texture_and_keep_layout():
    generator = torch.Generator().manual_seed(0)
    layout = torch.randn(2, 4, 4, 4, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    textured = layout + torch.randn(2, 4, 32, 32, generator=generator)
    similarity = kernel(LatentFeatures(grid=4)(torch.cat([layout, textured])))
    assert similarity[0, 2] > 0.95 and similarity[1, 3] > 0.95 and similarity[0, 1].abs() < 0.5


def test_the_gradient_of_latent_features_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(LatentFeatures(grid=2), torch.randn(2, 2, 3, 5).double().requires_grad_())


def test_area_pooling_keeps_the_mean_and_agrees_with_torch_where_sizes_divide():
    x = torch.randn(2, 3, 12, 20)
    torch.testing.assert_close(area_pool(x, 4, 5), F.avg_pool2d(x, (3, 4)))
    torch.testing.assert_close(area_pool(x, 12, 20), x)
    torch.testing.assert_close(area_pool(x, 5, 7).mean((2, 3)), x.mean((2, 3)))


class Raw(Features):
    """Features that hand on what they are given."""

    name = "Raw"

    def encode(self, x):
        return x.flatten(2).mT


def test_features_are_of_unit_length_in_single_precision_whatever_the_network_computes_in():
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        features = Raw()(torch.rand(2, 3, 2, 2).to(dtype))
        assert features.shape == (2, 4, 3) and features.dtype == expected
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 4, dtype=expected))


@pytest.mark.parametrize(
    "value, found", [(float("nan"), "not finite"), (float("inf"), "not finite"), (0.0, "all zero")]
)
def test_broken_features_are_refused_with_the_sample(value, found):
    pictures = torch.ones(3, 3, 2, 2)
    pictures[1] = value
    with pytest.raises(ValueError, match=f"Raw: the features of sample 2 are {found}.*pictures are broken"):
        Raw()(pictures)


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: ColourFeatures(space="hsv"), "choose lab or rgb"),
        (lambda: ColourFeatures(bins=1), "set 2 to 32"),
        (lambda: LatentFeatures(grid=0), "set 1 or more"),
        (lambda: LatentFeatures()(torch.ones(2, 4, 9)), "height and width"),
    ],
)
def test_settings_out_of_range_are_refused(build, said):
    with pytest.raises(ValueError, match=said):
        build()
