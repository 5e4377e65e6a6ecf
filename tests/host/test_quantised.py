"""Checkpoints of the host in 8 bits, loaded in inference mode as a graph loads them."""

import comfy.quant_ops
import comfy_extras.nodes_custom_sampler as samplers
import host_gradients as gradients
import pytest
import tiny_models
import tiny_quantised
import torch

from noise_optimize.nodes.latents import FixedNoise
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.noise.gradient.inference import normal
from noise_optimize.objectives import Diversity, LatentFeatures

OPTIMIZE = NoiseOptimize.PREPARE_CLASS_CLONE(None)
SPREAD = Diversity(features=LatentFeatures(), statistic="pairwise")
STEPS = 2


def gradient(patcher, name, **settings):
    prompts = [tiny_models.conditioning(name, seed, 2) for seed in (0, 1)]
    wired, latent = gradients.guider(patcher, *prompts, 2.0), tiny_models.latent(name, 8, 8, 2)
    noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator())

    def body(session):
        latents = session.generate(leaf := noise.clone().requires_grad_())
        weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
        return torch.autograd.grad((latents * weight).sum(), leaf)[0]

    return gradients.run(wired, "euler", gradients.sigmas(wired, STEPS), latent, body, **settings)


@pytest.mark.parametrize(
    ("name", "stored", "memory"),
    [
        ("flux_schnell", "float8_e4m3fn", "fast"),
        ("flux_schnell", "float8_e4m3fn", "low"),
        ("flux_schnell", "int8_tensorwise", "low"),
        ("sd15", "float8_e4m3fn", "fast"),
        ("sd15", "float8_e4m3fn", "low"),
        ("sd15", "int8_tensorwise", "fast"),
        ("sd15", "int8_tensorwise", "low"),
    ],
)
def test_a_quantised_checkpoint_has_nearly_the_gradient_of_the_whole(name, stored, memory):
    """FLUX writes in place into what its layers give."""
    with torch.inference_mode():
        packed = tiny_quantised.model(name, stored)
    layers = [
        m for m in packed.model.modules() if isinstance(getattr(m, "weight", None), comfy.quant_ops.QuantizedTensor)
    ]
    assert len(layers) > 10 and all(layer.weight.is_inference() for layer in layers)
    before = [layer.weight._qdata.clone() for layer in layers]
    whole, grad = (gradient(patcher, name, memory=memory) for patcher in (tiny_models.model(name), packed))
    assert torch.cosine_similarity(grad.flatten(), whole.flatten(), 0) > 0.98
    assert all(layer.weight.is_inference() for layer in layers), "the host's own weights are back"
    assert all(torch.equal(layer.weight._qdata, data) for layer, data in zip(layers, before, strict=True))
    assert not any("forward" in vars(layer) for layer in layers)


@pytest.mark.parametrize("stored", tiny_quantised.FORMATS)
@pytest.mark.parametrize("name", ["flux_schnell", "sd15"])
@torch.inference_mode()
def test_a_quantised_checkpoint_samples_bit_for_bit_as_in_the_host_before_and_after_a_gradient(name, stored):
    """Outside inference mode, the host computes some of these layers in another way."""
    model = tiny_quantised.model(name, stored)
    prompts = [tiny_models.conditioning(name, seed, 2) for seed in (0, 1)]
    wires = {
        "guider": gradients.guider(model, *prompts, 2.0),
        "sampler": samplers.KSamplerSelect.execute("euler").args[0],
        "sigmas": samplers.BasicScheduler.execute(model, "simple", STEPS, 1.0).args[0],
        "latent_image": tiny_models.latent(name, 8, 8, 2),
    }

    def host(noise):
        return samplers.SamplerCustomAdvanced.execute(noise=noise, **wires).args[0]["samples"]

    def body(session):
        before, leaf = session.generate(noise), noise.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(session.generate(leaf).sum(), leaf)
        moved = noise + gradient / gradient.std()
        return before, moved, session.generate(moved)

    start = samplers.RandomNoise.execute(gradients.SEED).args[0]
    theirs, noise = host(start), normal(start.generate_noise(wires["latent_image"]))
    made = OPTIMIZE.execute(noise=start, **wires, objective=SPREAD, iterations=0).args[1]["samples"]
    before, moved, after = gradients.run(*wires.values(), body, memory="fast")
    assert torch.equal(made, theirs) and torch.equal(before, theirs)
    assert torch.equal(after, host(FixedNoise(moved, gradients.SEED))) and not torch.equal(after, before)
    assert torch.equal(host(start), theirs)
