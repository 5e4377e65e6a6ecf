"""Every model class with which the host samples pictures: its gradient is right, or it is refused in a sentence."""

from dataclasses import replace

import architectures
import comfy.nested_tensor
import comfy.sample
import comfy.samplers
import comfy.supported_models
import host_gradients as gradients
import pytest
import tiny_models
import torch
import video_models
from architectures import BATCH, KNOWN, NO_PICTURES, REFUSED, ROWS, SIBLINGS, STEPS

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__", "ignore:To copy construct")  # of an old class
EULER = comfy.samplers.sampler_object("euler")


def gradient(wired, memory, noise, weight):
    """Of the latents, weighted, with respect to the noise they are made of."""

    def body(session):
        leaf = noise.clone().requires_grad_()
        return torch.autograd.grad((session.generate(leaf) * weight).sum(), leaf)[0]

    sigmas = gradients.sigmas(wired, STEPS).to(noise)
    return gradients.run(wired, EULER, sigmas, {"samples": torch.zeros_like(noise)}, body, memory=memory)


@pytest.mark.parametrize("memory", ["low", "fast"])
@pytest.mark.parametrize("name", ROWS)
def test_the_gradient_is_that_of_finite_differences(name, memory):
    assert architectures.error(name, memory) < 1e-6


@pytest.mark.parametrize("name", ROWS)
def test_a_model_as_a_graph_hands_it_over_samples_as_the_host_does_and_has_the_gradient_that_was_checked(name):
    """Made in inference mode, in float32: bit for bit without a gradient, and the gradient is that of float64."""
    with torch.inference_mode():
        wired, latent = architectures.wire(name)
        noise = comfy.sample.prepare_noise(latent["samples"], 3)
        sigmas = gradients.sigmas(wired, STEPS)
        wired.sample(noise, latent["samples"], EULER, sigmas, seed=gradients.SEED)  # fills what a model remembers
        theirs = wired.sample(noise, latent["samples"], EULER, sigmas, seed=gradients.SEED)
    ours = gradients.run(wired, EULER, sigmas, latent, lambda session: session.generate(noise))
    assert torch.equal(ours, theirs) and theirs.isfinite().all() and theirs.std() > 0
    weight = torch.randn(theirs.shape, generator=tiny_models.generator(4))
    exactly, _ = architectures.wire(name)
    with gradients.double_precision(exactly):
        exact = gradient(exactly, "fast", noise.double(), weight.double())
    for memory in ("low", "fast"):
        assert (gradient(wired, memory, noise, weight) - exact).norm() < 1e-3 * exact.norm()


def test_every_class_of_the_host_is_in_the_table():
    """A class that the host has gained needs a row, a sibling, a refusal, or a word on why it makes no pictures."""
    known = [*KNOWN, *SIBLINGS, *REFUSED, *NO_PICTURES]
    assert len(known) == len(set(known))
    assert set(known) == {model.__name__ for model in comfy.supported_models.models}


@pytest.mark.parametrize("name", SIBLINGS)
def test_a_sibling_is_the_class_of_its_row_but_for_its_sizes(name):
    row = ROWS[SIBLINGS[name]]
    theirs, ours = (tiny_models.build(replace(row, model=model)) for model in (name, row.model))
    assert type(theirs) is type(ours) and type(theirs.diffusion_model) is type(ours.diffusion_model)
    assert theirs.model_type == ours.model_type and type(theirs.latent_format) is type(ours.latent_format)


@pytest.mark.parametrize("name", ["LTXAV", "MiniMaxH3"])
def test_a_model_of_picture_and_sound_is_refused_by_its_latent(name):
    latent = {"samples": comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 4, 4), torch.zeros(1, 8, 4)])}
    wired = gradients.small_guider()
    with pytest.raises(ValueError, match=REFUSED[name]):
        gradients.run(wired, EULER, gradients.sigmas(wired), latent, lambda session: None)


def test_a_model_that_never_sees_the_noise_is_refused_and_samples_as_the_host_does():
    with torch.inference_mode():
        wired, latent = architectures.wire(video_models.FLOW_RVS)
        noise = comfy.sample.prepare_noise(latent["samples"], 3)
        sigmas = gradients.sigmas(wired, STEPS)
        theirs = wired.sample(noise, latent["samples"], EULER, sigmas, seed=gradients.SEED)

    def body(session):
        with pytest.raises(ValueError, match=REFUSED["WAN21_FlowRVS"]):
            session.generate(noise.clone().requires_grad_())
        return session.generate(noise)

    assert torch.equal(gradients.run(wired, EULER, sigmas, latent, body), theirs)


@pytest.mark.parametrize("name", ["SVD_img2vid", "SV3D_u"])
def test_no_part_of_a_batch_that_is_one_video_is_made_alone(name):
    wired, latent = architectures.wire(name)
    with pytest.raises(ValueError, match="makes one video of the batch"):
        gradients.run(wired, EULER, gradients.sigmas(wired), latent, lambda session: None, members=([0], BATCH))


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_what_a_model_remembers_of_its_prompt_is_neither_used_nor_changed_by_a_gradient(memory):
    """Filled in inference mode by an ordinary run, with values that would show."""
    gradients_of = []
    for remembered in (0.0, 100.0):
        with torch.inference_mode():
            wired, latent = architectures.wire("HiDreamO1")
            network, sigmas = wired.model_patcher.model.diffusion_model, gradients.sigmas(wired, STEPS)
            wired.sample(torch.zeros_like(latent["samples"]), latent["samples"], EULER, sigmas, seed=1)
            for entry in network._kv_cache_entries:
                entry["kv"] = [(key + remembered, value + remembered) for key, value in entry["kv"]]
        before = network._kv_cache_entries

        def body(session):
            leaf = torch.randn(session.shape, generator=tiny_models.generator(3)).requires_grad_()
            return torch.autograd.grad(session.generate(leaf).square().sum(), leaf)[0]

        gradients_of.append(gradients.run(wired, EULER, sigmas, latent, body, memory=memory))
        assert before and network._kv_cache_entries is before
    assert torch.equal(*gradients_of)
