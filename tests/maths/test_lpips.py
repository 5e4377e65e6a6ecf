"""LPIPS features: the lpips package's networks and calibration, on random trunks."""

from __future__ import annotations

import warnings
from pathlib import Path

import lpips
import pytest
import torch
import torchvision
from pictures import climb, gradient_error, natural

from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.lpips import NETWORKS, LPIPSFeatures, load_lpips
from noise_optimize.objectives.pretrained.weights import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random trunks under torchvision's published names: the layers that LPIPS uses."""
    folder = tmp_path_factory.mktemp("weights")
    generator = torch.Generator().manual_seed(0)
    for short, name in NETWORKS.values():
        state = {"features." + key.split(".", 1)[1]: value for key, value in trunk(short).items()}
        for key, value in state.items():  # He's initialisation keeps the activations' scale
            state[key] = torch.randn(value.shape, generator=generator) * (2 / max(1, value[0].numel())) ** 0.5
        url = getattr(torchvision.models, f"{name}_Weights").IMAGENET1K_V1.url
        torch.save(state, folder / url.rpartition("/")[2])
    return folder


def trunk(short: str) -> dict[str, torch.Tensor]:
    """The names and sizes of the layers that LPIPS uses, without values."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lpips.LPIPS(net=short, pretrained=False, pnet_rand=True, verbose=False).net.state_dict()


@pytest.mark.parametrize("title", NETWORKS)
def test_distances_are_those_of_the_package(title: str, folder: Path) -> None:
    network, pictures = load_lpips(title, [folder]), natural(2, 33, 40)
    with torch.no_grad():
        expected = torch.stack([network(pictures, one[None], normalize=True).flatten() for one in pictures])
        phi = LPIPSFeatures(network, size=0).encode(pictures)[:, 0]
        seen = torch.stack([(phi - one).square().sum(dim=1) for one in phi])
    assert seen.max() > 1e-3
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-4)


def test_the_calibration_is_the_one_that_people_judged(folder: Path) -> None:
    state = read(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth")
    network = load_lpips("AlexNet", [folder])
    assert torch.equal(network.lin2.model[-1].weight, state["lin2.model.1.weight"])


def test_the_score_is_0_for_equal_pictures_and_lpips_over_its_largest_value(folder: Path) -> None:
    features = LPIPSFeatures(load_lpips("AlexNet", [folder]), size=0)
    objective = Diversity(features=features, statistic="pairwise")
    equal = natural(1, 64, 64).expand(3, -1, -1, -1)
    assert float(objective.measure(Batch(pictures=equal))) == pytest.approx(0, abs=1e-5)
    a, b = features.encode(pictures := natural(2, 64, 64))[:, 0]
    score = float(objective.measure(Batch(pictures=pictures)))
    assert score == pytest.approx(float(1 - a @ b / (a.norm() * b.norm())), abs=1e-5)
    assert 0 < score < 1


def test_the_gradient_reaches_the_pixels(folder: Path) -> None:
    features = LPIPSFeatures(load_lpips("SqueezeNet", [folder], torch.float64), size=48)
    assert gradient_error(features, natural(2, 50, 70).double(), step=1e-6) < 1e-4  # ReLUs have kinks


def test_a_blank_picture_has_a_finite_gradient(folder: Path) -> None:
    """The package's own normalisation gives NaN where no channel is active."""
    network = load_lpips("AlexNet", [folder])
    network_blind = LPIPSFeatures(network, size=0)
    for layer in network.net.slice1:
        if isinstance(layer, torch.nn.Conv2d):
            layer.bias.data.fill_(-100.0)
    x = natural(2, 64, 64).requires_grad_()
    network_blind(x).sum().backward()
    assert x.grad.isfinite().all()


def test_half_precision_and_chunks_agree(folder: Path) -> None:
    seen = []
    for dtype, chunk in ((torch.float32, 8), (torch.float32, 1), (torch.float16, 8), (torch.bfloat16, 8)):
        x = natural(2, 40, 50).requires_grad_()
        out = LPIPSFeatures(load_lpips("SqueezeNet", [folder], dtype), size=32, chunk=chunk)(x)
        (1e-7 * (out[0] * out[1]).sum()).backward()
        seen.append(x.grad.flatten() / x.grad.norm())
    assert seen[0] @ seen[1] > 0.9999
    assert min(seen[0] @ half for half in seen[2:]) > 0.9


def test_ten_steps_make_pictures_more_different(folder: Path) -> None:
    objective = Diversity(features=LPIPSFeatures(load_lpips("AlexNet", [folder]), size=0), statistic="pairwise")
    before, after = climb(lambda pictures: objective.measure(Batch(pictures=pictures)), natural(3, 64, 64))
    assert after > before * 1.05


def test_a_size_too_small_for_the_network_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="size is 8 px"):
        LPIPSFeatures(load_lpips("AlexNet", [folder]), size=8)


def test_missing_trunks_are_named_with_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(FileNotFoundError, match=r"vgg16-397923af\.safetensors .* BSD-3-Clause, source https"):
        load_lpips("VGG", [tmp_path])
