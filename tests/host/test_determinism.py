"""What the host's models and samplers add to a graph has a deterministic gradient, too."""

from __future__ import annotations

import host_gradients as gradients
import pytest
import tiny_models
import torch
from determinism import unordered


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_sampling_has_a_deterministic_gradient(name: str, memory: str) -> None:
    wired, latent = gradients.tiny_guider(name, cfg=2.0), tiny_models.latent(name, 8, 8, batch=2)

    def body(session):
        noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
        return unordered(session.generate(noise))

    assert not gradients.run(wired, "euler", gradients.sigmas(wired, 2), latent, body, memory=memory)
