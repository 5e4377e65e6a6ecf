"""Hooks of the host that change the model's weights for one prompt, at a strength that may follow the steps."""

import comfy.hooks
import comfy.samplers
import host_gradients as gradients
import pytest
import tiny_models
import torch

STEPS = 5
RANK = 2


def lora(model):
    """Create Hook LoRA, with weights drawn here."""
    source, weights = tiny_models.generator(9), {}
    for key, weight in model.model.state_dict().items():
        if key.startswith("diffusion_model.") and key.endswith(".weight") and weight.ndim > 1:
            layer = key.removesuffix(".weight")
            kernel = weight.shape[2:]
            up = torch.randn(len(weight), RANK, *(1 for _ in kernel), generator=source)
            down = torch.randn(RANK, *weight.shape[1:], generator=source) / weight[0].numel() ** 0.5
            weights |= {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
    return comfy.hooks.create_hook_lora(weights, 0.5, 0.0)


def model_as_lora(model):
    """Create Hook Model as LoRA, with the weights of another model."""
    weights = {key: value * 1.3 for key, value in model.model.state_dict().items() if key.startswith("diffusion_model")}
    return comfy.hooks.create_hook_model_as_lora(weights, None, 0.8, 0.0)


def wire(make=lora, scheduled=False, batch=2):
    """Guider and latent as earlier nodes hand them over: a hook on the prompt, none on the negative prompt."""
    wired = gradients.small_guider("eps", 2.0, batch)
    hooks = make(wired.model_patcher)
    if scheduled:
        schedule = comfy.hooks.HookKeyframeGroup()
        for strength, start in ((1.0, 0.0), (0.3, 0.3), (-0.5, 0.7)):
            schedule.add(comfy.hooks.HookKeyframe(strength, start))
        hooks.set_keyframes_on_hooks(schedule)
    positive, negative = (tiny_models.conditioning("sd15", seed, batch) for seed in (0, 1))
    wired.set_conds(comfy.hooks.set_hooks_for_conditioning(positive, hooks), negative)
    return wired, tiny_models.latent("sd15", 4, 4, batch)


def run(wired, latent, body, **settings):
    return gradients.run(wired, "euler", gradients.sigmas(wired, STEPS), latent, body, **settings)


@pytest.mark.parametrize("scheduled", [False, True], ids=["", "scheduled"])
@pytest.mark.parametrize("make", [lora, model_as_lora])
@pytest.mark.parametrize("memory", ["low", "fast"])
def test_the_gradient_is_that_of_finite_differences(make, memory, scheduled):
    wired, latent = wire(make, scheduled)

    def body(session):
        return gradients.relative_error(session, torch.float64, 1e-4)

    with gradients.double_precision(wired):
        schedule = gradients.sigmas(wired, STEPS).double()
        assert gradients.run(wired, "euler", schedule, latent, body, memory=memory) < 1e-6


@pytest.mark.parametrize("make", [lora, model_as_lora])
def test_the_hook_and_its_schedule_count(make):
    wires = [gradients.small_guider("eps", 2.0, 2), *(wire(make, scheduled)[0] for scheduled in (False, True))]
    plain, hooked, scheduled = (run(wired, wire()[1], gradient) for wired in wires)
    assert (hooked - plain).norm() > 0.05 * plain.norm() and (scheduled - hooked).norm() > 0.05 * hooked.norm()


def gradient(session):
    noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
    latents = session.generate(noise)
    weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
    return torch.autograd.grad((latents * weight).sum(), noise)[0]


def test_gradients_of_two_runs_may_be_taken_in_any_order():
    wired, latent = wire(scheduled=True)
    expected = run(wired, latent, gradient)

    def body(session):
        noises = [torch.randn(session.shape, generator=tiny_models.generator(s)) for s in (tiny_models.SEED, 3)]
        leaves = [noise.requires_grad_() for noise in noises]
        latents = [session.generate(leaf) for leaf in leaves]
        with torch.no_grad():
            session.generate(noises[1])
        weight = torch.randn(latents[0].shape, generator=tiny_models.generator(1))
        return torch.autograd.grad((latents[0] * weight).sum(), leaves[0])[0]

    assert torch.equal(run(wired, latent, body), expected)


@pytest.mark.parametrize("scheduled", [False, True], ids=["", "scheduled"])
def test_it_samples_bit_for_bit_as_the_host_each_time_and_the_weights_are_back(scheduled):
    with torch.inference_mode():
        wired, latent = wire(scheduled=scheduled)
        weights = {key: value.clone() for key, value in wired.model_patcher.model.state_dict().items()}
        noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator(4))
        sampler, sigmas = comfy.samplers.sampler_object("euler"), gradients.sigmas(wired, STEPS)

        def host():
            return wired.sample(noise, latent["samples"], sampler, sigmas, seed=gradients.SEED)

        def body(session):
            before = session.generate(noise)
            with torch.enable_grad():
                gradient(session)
            return before, session.generate(noise)

        expected = host()
        assert all(torch.equal(latents, expected) for latents in (*run(wired, latent, body), host()))
        after = wired.model_patcher.model.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in weights.items())
