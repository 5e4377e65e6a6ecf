"""DreamSim features by the package dreamsim, which is not a dependency: its interface stands in for it here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pictures import climb, gradient_error, natural
from torch import Tensor, nn

from noise_optimize.objectives.batch import Batch
from noise_optimize.objectives.diversity import Diversity
from noise_optimize.objectives.features.dreamsim import DreamSimFeatures, load_dreamsim


class Perceptual(nn.Module):
    """`embed` of dreamsim's PerceptualModel: (B, 3, 224, 224) in 0..1 to centred unit vectors (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 16, 32, 32)
        self.out = nn.Linear(16 * 49, 24)

    def embed(self, pictures: Tensor) -> Tensor:
        assert pictures.shape[1:] == (3, 224, 224)
        seen = self.out(self.patches(pictures).tanh().flatten(1))
        seen = seen - seen.mean(dim=1, keepdim=True)
        return seen / seen.norm(dim=1, keepdim=True)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module dreamsim; the calls of its `dreamsim` function."""
    calls: list[dict[str, Any]] = []

    def dreamsim(**options: Any) -> tuple[nn.Module, None]:
        calls.append(options)
        torch.hub.set_dir("/nowhere")  # as the package does
        return Perceptual(), None

    module = ModuleType("dreamsim")
    module.dreamsim = dreamsim
    monkeypatch.setitem(sys.modules, "dreamsim", module)
    return calls


def test_without_the_package_one_sentence_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dreamsim", None)
    with pytest.raises(ValueError, match="pip install dreamsim"):
        load_dreamsim("ensemble", tmp_path)


def test_the_package_loads_into_our_folder_and_torchs_stays_where_it_was(package: list, tmp_path: Path) -> None:
    before = torch.hub.get_dir()
    network = load_dreamsim("dinov2_vitb14", tmp_path)
    assert load_dreamsim("dinov2_vitb14", tmp_path) is network
    expected = {"pretrained": True, "device": "cpu", "cache_dir": str(tmp_path), "dreamsim_type": "dinov2_vitb14"}
    assert package == [expected]
    assert torch.hub.get_dir() == before


def test_the_gradient_reaches_the_pixels_and_ten_steps_improve_it(package: list, tmp_path: Path) -> None:
    features = DreamSimFeatures(load_dreamsim("ensemble", tmp_path).double(), chunk=1)
    assert gradient_error(features, natural(2, 50, 70).double()) < 1e-6
    objective = Diversity(features=features, statistic="pairwise")
    before, after = climb(lambda x: objective.measure(Batch(pictures=x)), natural(3, 60, 60).double())
    assert after > before


def test_missing_weights_are_named_with_folder_licence_and_source(package: list, tmp_path: Path, monkeypatch) -> None:
    def offline(**_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(sys.modules["dreamsim"], "dreamsim", offline)
    with pytest.raises(FileNotFoundError, match=f"into {tmp_path}; license MIT, source .*ssundaram21/dreamsim"):
        load_dreamsim("ensemble", tmp_path)
