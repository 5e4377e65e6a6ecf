"""The gradient through ControlNets, and that nothing of them is kept or left behind."""

import comfy.model_management
import comfy.samplers
import host_gradients as gradients
import pytest
import tiny_models
import torch
from memory import live_bytes
from tiny_controlnets import control_lora, control_of, controlnet, wire

STEP = 3e-2


def run(wired, latent, body, steps=2, **settings):
    return gradients.run(wired, "euler", gradients.sigmas(wired, steps), latent, body, **settings)


def error(wired, latent, **settings):
    def body(session):
        with torch.enable_grad():
            return gradients.relative_error(session, torch.float32, STEP)

    return run(wired, latent, body, **settings)


def gradient(session):
    noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
    latents = session.generate(noise)
    weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
    return torch.autograd.grad((latents * weight).sum(), noise)[0]


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux_schnell"])
@pytest.mark.parametrize("memory", ["low", "fast"])
def test_the_gradient_is_that_of_finite_differences(name, memory):
    wired, latent = wire(name, batch=2)
    assert error(wired, latent, memory=memory) < 1e-2
    without = gradients.tiny_guider(name, 2.0, 2)
    with_it, plain = (run(w, latent, gradient) for w in (wired, without))
    assert (with_it - plain).norm() > 0.05 * plain.norm(), "the ControlNet counts"


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_a_chain_of_three_that_each_end_half_way(memory):
    wired, latent = wire("sd15", batch=2, chain=3, percent=(0.0, 0.5))
    assert error(wired, latent, memory=memory) < 1e-2


@pytest.mark.parametrize("pictures", [1, 3])
def test_low_and_fast_have_the_same_gradient_in_any_chunk_and_a_picture_stays_with_its_sample(pictures, monkeypatch):
    wired, latent = wire("sd15", pictures)
    kept = run(wired, latent, gradient, memory="fast")
    seen = []
    network = control_of(wired).control_model
    monkeypatch.setattr(network, "forward", count(network.forward, seen))
    for chunk, samples in ((1, {1}), (2, {2, 1}), (3, {3})):

        def body(session, chunk=chunk):
            session.memory.model.per_sample = 1
            session.memory.model.limit = chunk
            return gradient(session)

        seen.clear()
        low = run(wired, latent, body, memory="low")
        assert (low - kept).norm() < 1e-5 * kept.norm(), chunk
        assert set(seen) == (samples if pictures == 1 else {3}), "samples at once"


def count(forward, seen):
    def counted(x, hint, *args, **kwargs):
        seen.append(len(x) // 2)  # with and without the prompt
        return forward(x, hint, *args, **kwargs)

    return counted


def test_each_picture_moves_its_own_sample_alone():
    wired, latent = wire("sd15", pictures=3, prompts=1)
    before = run(wired, latent, gradient)
    hint = control_of(wired).cond_hint_original
    control_of(wired).cond_hint_original = torch.cat([hint[:1], 1 - hint[1:2], hint[2:]])
    moved = (run(wired, latent, gradient) - before).flatten(1).norm(dim=1)
    assert moved[1] > 100 * moved[[0, 2]].max()


def test_no_graph_of_a_controlnet_is_kept_from_step_to_step():
    def growth(wired, latent):
        few, many = (run(wired, latent, held, steps, memory="low") for steps in (2, 4))
        return many - few

    with_it, without = growth(*wire("sd15")), growth(gradients.tiny_guider("sd15", 2.0, 3), wire("sd15")[1])
    assert with_it < 1.5 * without


def held(session):
    noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
    before = live_bytes()
    latents = session.generate(noise)
    return live_bytes() - before + 0 * len(latents)


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_nothing_is_left_behind(memory):
    wired, latent = wire("sd15")
    control = control_of(wired)
    noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator())

    def plain():
        with torch.inference_mode():
            sampler = comfy.samplers.sampler_object("euler")
            return wired.sample(noise, latent["samples"], sampler, gradients.sigmas(wired, 2), seed=1).clone()

    weights = {key: (id(w), w.requires_grad, w.clone()) for key, w in control.control_model.named_parameters()}
    before = plain()
    for failing in (False, True):

        def body(session, failing=failing):
            gradient(session)
            if failing:
                raise KeyError("simulated")

        try:
            run(wired, latent, body, memory=memory)
        except KeyError as simulated:
            assert failing and "simulated" in str(simulated)
        after = dict(control.control_model.named_parameters())
        assert weights.keys() == after.keys()
        for key, (identity, asks, value) in weights.items():
            assert id(after[key]) == identity and after[key].requires_grad == asks and torch.equal(after[key], value)
        assert "get_control" not in vars(control) and control.cond_hint is None
        assert not comfy.model_management.in_training and not torch.is_inference_mode_enabled()
        assert torch.equal(plain(), before)


def test_a_wrapper_of_another_pack_sees_what_the_controlnet_gives():
    wired, latent = wire("sd15", batch=2)
    seen = []

    def wrapper(apply_model, given):
        seen.append(type(given["c"]["control"]))
        return apply_model(given["input"], given["timestep"], **given["c"])

    wired.model_patcher.set_model_unet_function_wrapper(wrapper)
    wired.model_options = wired.model_patcher.model_options
    assert error(wired, latent, memory="low") < 1e-2
    assert set(seen) == {dict}


@pytest.mark.parametrize("memory", ["low", "fast"])
@pytest.mark.parametrize("make", [controlnet, control_lora])
def test_a_gradient_may_be_taken_after_another_run(make, memory):
    """The host cleans ControlNets up after a run, and a Control-LoRA builds its network anew in each."""
    expected = run(*wire("sd15", batch=2, make=make), gradient, memory=memory)

    def body(session):
        noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
        latents = session.generate(noise)
        session.generate(noise.detach() * 0.5)
        weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
        return torch.autograd.grad((latents * weight).sum(), noise)[0]

    assert torch.equal(run(*wire("sd15", batch=2, make=make), body, memory=memory), expected)


def test_a_picture_for_each_sample_needs_the_whole_set():
    wired, latent = wire("sd15", pictures=3, chain=2, prompts=1)
    with pytest.raises(ValueError, match="ControlNet picture per sample needs the whole set"):
        run(wired, latent, gradient, members=([1], 3))


@pytest.mark.parametrize("memory", ["low", "fast"])
@pytest.mark.parametrize("chain", [1, 3])
def test_the_gradient_of_a_control_lora_is_that_of_finite_differences(memory, chain):
    wired, latent = wire("sd15", batch=2, chain=chain, make=control_lora)
    with_it, plain = (run(w, latent, gradient) for w in (wired, gradients.tiny_guider("sd15", 2.0, 2)))
    assert (with_it - plain).norm() > 0.05 * plain.norm(), "the ControlNet counts"
    with torch.inference_mode():  # as nodes run: the host builds this ControlNet within the session
        assert error(wired, latent, memory=memory) < 1e-2
