"""The same inputs give the same gradient, bit for bit: no part of a graph is summed in an order that threads decide.

What that means on CUDA is read off torch's documentation (tests/support/determinism.py), as no GPU is needed for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import lpips
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from determinism import Sums, unordered
from pictures import natural
from torch import Tensor, nn

from noise_optimize.noise.basis import make_basis
from noise_optimize.noise.coloured import Spectrum, colour
from noise_optimize.noise.prior import Whiteness
from noise_optimize.noise.spectrum import band_change
from noise_optimize.objectives import Batch, DetailGuard, Diversity, Features, Objective
from noise_optimize.objectives.demo import DemoScore
from noise_optimize.objectives.features.clip import CLIPFeatures
from noise_optimize.objectives.features.colour import RANGES, ColourFeatures
from noise_optimize.objectives.features.demo import DemoFeatures, Tower
from noise_optimize.objectives.features.dino import DINOFeatures
from noise_optimize.objectives.features.dreamsim import DreamSimFeatures
from noise_optimize.objectives.features.latent import LatentFeatures
from noise_optimize.objectives.features.lpips import NETWORKS, LPIPSFeatures
from noise_optimize.objectives.pretrained.clip import Clip
from noise_optimize.objectives.pretrained.preprocess import Preprocess
from noise_optimize.objectives.quality import ClipQuality
from noise_optimize.objectives.statistics import STATISTICS

PICTURES, LATENTS = natural(3, 80, 96), torch.randn(3, 4, 24, 20, generator=torch.Generator().manual_seed(0))
TOWER = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
POOLED = {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none"}


def dino(model: str) -> DINOFeatures:
    small = {"depth": 2, "embed_dim": 64, "num_heads": 2, "dynamic_img_size": True}
    return DINOFeatures(timm.create_model(model, num_classes=0, **small).requires_grad_(False), size=56)


def clip(resize: str = "shortest") -> Clip:
    network = open_clip.model.CLIP(32, TOWER, TEXT).requires_grad_(False).eval()
    return Clip(network, Preprocess(32, resize), "tiny", "tiny")


def siglip() -> CLIPFeatures:
    network = open_clip.model.CustomTextCLIP(192, POOLED, TEXT).requires_grad_(False).eval()
    return CLIPFeatures(Clip(network, Preprocess(224, "squash"), "tiny", "tiny"))


def trunk(short: str) -> LPIPSFeatures:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision with arguments that it calls deprecated
        network = lpips.LPIPS(net=short, pretrained=False, pnet_rand=True, verbose=False)
    return LPIPSFeatures(network.requires_grad_(False), size=64)


class Perceptual(nn.Module):
    """`embed` of dreamsim's network."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 32, 32).requires_grad_(False)

    def embed(self, pictures: Tensor) -> Tensor:
        return self.patches(pictures).flatten(1)


FEATURES: dict[str, Callable[[], Features]] = {
    **{f"colour {space}": lambda space=space: ColourFeatures(space=space) for space in RANGES},
    "latent": LatentFeatures,
    "DINOv2": lambda: dino("vit_small_patch14_dinov2.lvd142m"),
    "DINOv2 with registers": lambda: dino("vit_small_patch14_reg4_dinov2.lvd142m"),
    "DINOv3": lambda: dino("vit_small_patch16_dinov3.lvd1689m"),
    "CLIP": lambda: CLIPFeatures(clip()),
    "SigLIP": siglip,
    **{f"LPIPS {title}": lambda short=short: trunk(short) for title, (short, _) in NETWORKS.items()},
    "DreamSim": lambda: DreamSimFeatures(Perceptual()),
    "demo": lambda: DemoFeatures(Tower(32).requires_grad_(False)),
}
SCORES: dict[str, Callable[[], Objective]] = {
    "CLIP Score": lambda: ClipQuality(name="CLIP Score", clip=clip(), direction=torch.ones(32)),
    "HPSv2.1": lambda: ClipQuality(name="HPSv2.1", clip=clip("longest"), direction=torch.ones(32)),
    "Demo Score": lambda: DemoScore(network=Tower(8).requires_grad_(False), prompt=2),
    "Detail Guard": lambda: DetailGuard().bind(start=batch()),
}


def batch() -> Batch:
    return Batch(LATENTS.clone().requires_grad_(), PICTURES.clone().requires_grad_())


@pytest.mark.parametrize("chunk", ["whole", "recomputed"])
@pytest.mark.parametrize("name", FEATURES)
def test_features_have_a_deterministic_gradient(name: str, chunk: str) -> None:
    features = FEATURES[name]()
    if chunk == "recomputed" and features.networks:
        features.pictures_at_once = 1
    with Sums() as sums:
        seen = features(batch().get(features.source))
    assert not unordered(seen) and not sums.found


@pytest.mark.parametrize("name", SCORES)
def test_scores_have_a_deterministic_gradient(name: str) -> None:
    with Sums() as sums:
        (score,) = SCORES[name]()(batch())
    assert not unordered(score.loss) and not sums.found


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_have_a_deterministic_gradient(statistic: str) -> None:
    objective = Diversity(features=LatentFeatures(), statistic=statistic)
    assert not unordered(objective.bind(references=batch())(batch())[0].loss)


def test_none_is_forgotten() -> None:
    def made(base: type) -> set[type]:
        below = {each for each in base.__subclasses__() if each.__module__.startswith("noise_optimize.objectives.")}
        return below.union(*map(made, below))

    built = {type(make()) for make in (FEATURES | SCORES).values()}
    assert made(Features) <= built
    assert {leaf for leaf in made(Objective) if leaf.__name__ != "Sum"} <= built | {Diversity}


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash", "whole"])
def test_preprocessing_has_a_deterministic_gradient(mode: str) -> None:
    assert not unordered(Preprocess(48, mode)(batch().pictures))


def test_what_the_noise_goes_through_has_a_deterministic_gradient() -> None:
    noise = LATENTS.clone().requires_grad_()
    with Sums() as sums:
        basis, whiteness = make_basis("low frequency", LATENTS), Whiteness.of(LATENTS)
        assert not unordered(basis.noise(basis.analyse(noise)))
        assert not unordered(whiteness(noise))
        band_change(LATENTS, noise)
        colour(LATENTS, Spectrum(alpha=0.2))
    assert not sums.found


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.interpolate(x, (5, 5), mode="bilinear"),
        lambda x: F.interpolate(x, (5, 5), mode="bicubic", antialias=True),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: x.flatten()[torch.tensor([[0, 1], [1, 2]])],
        lambda x: x.gather(1, torch.zeros(3, 1, 24, 20, dtype=torch.long)),
        lambda x: x.index_select(0, torch.tensor([0, 0])),
        lambda x: x.cumsum(1),
    ],
)
def test_what_torch_calls_nondeterministic_is_found(operation: Callable[[Tensor], Tensor]) -> None:
    assert unordered(operation(LATENTS.clone().requires_grad_()))
