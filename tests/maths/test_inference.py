"""Tensors of inference mode inside a graph: aliased while needed, put back, and nothing kept."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from noise_optimize.noise.gradient.inference import normal_tensors


@pytest.fixture
def network() -> nn.Module:
    with torch.inference_mode():
        return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)).requires_grad_(False)


def test_a_graph_goes_through_and_the_same_weights_are_back(network: nn.Module) -> None:
    weights = list(network.parameters())
    x = torch.randn(2, 3, requires_grad=True)
    with normal_tensors({"wires": (network, [network])}):
        network(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(one is other for one, other in zip(weights, network.parameters(), strict=True))


def test_no_alias_outlives_it_and_nothing_waits_for_the_garbage_collector(network: nn.Module) -> None:
    """An alias keeps the memory of its weight on the device after the host has moved the weight off."""
    gc.disable()
    try:
        with normal_tensors(network):
            alias = weakref.ref(network[0].weight)
        assert alias() is None
    finally:
        gc.enable()
