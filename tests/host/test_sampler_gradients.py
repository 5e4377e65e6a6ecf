"""Every sampler of the host, and samplers of other packs, against finite differences."""

import comfy.samplers
import host_gradients as gradients
import pytest
import tiny_models
import torch

from noise_optimize.nodes.host.twins import Twins
from noise_optimize.nodes.host.wires import DifferentiableSampler

NAMES = [n for n in comfy.samplers.SAMPLER_NAMES if n != "dpm_adaptive" and not n.endswith("_gpu")]
BRANCHING = ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral")  # two algorithms under one name


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_each_sampler_is_that_of_finite_differences(name):
    tolerance = 1e-2 if name in gradients.SINGLE_PRECISION else 1e-6
    for prediction in ("eps", "flow") if name in BRANCHING else ("flow",):
        assert gradients.sampler_error(name, prediction, steps=4, memory="low") < tolerance, prediction


def test_v_prediction_and_a_kept_graph_have_the_same_gradient():
    assert gradients.sampler_error("euler", "v", memory="fast") < 1e-6
    assert gradients.sampler_error("ddpm", "eps", memory="fast") < 1e-6


def test_a_sampler_with_adaptive_steps_is_refused_with_the_reason_but_samples():
    wired = gradients.small_guider()

    def body(session):
        noise = torch.zeros(session.shape)
        assert session.generate(noise).isfinite().all()
        session.generate(noise.requires_grad_())

    with pytest.raises(ValueError, match="dpm_adaptive chooses its steps.*cma"):
        gradients.run(wired, "dpm_adaptive", gradients.sigmas(wired), tiny_models.latent("sd15", 4, 4), body)


@torch.no_grad()
def sample_foreign(model, x, sigmas, extra_args=None, callback=None, disable=None, **_):
    """Euler as another pack might write it: decorated, detaching, with a block of its own and in place."""
    history = []
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        with torch.no_grad():
            denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
        history.append(((x - denoised) / sigma).detach())
        x = x + (history[-1] + 0.1 * history[0]) * (after - sigma)
        x *= 1.01
    return x


class ForeignSampler(comfy.samplers.Sampler):
    @torch.no_grad()
    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=None
    ):
        return self.walk(guider, noise * sigmas[0], sigmas, extra_args)

    @torch.no_grad()
    def walk(self, guider, x, sigmas, extra_args):
        return sample_foreign(guider, x, sigmas, {"model_options": extra_args["model_options"]})


class Blend:
    """A helper that a sampler makes for itself, with what cuts the gradient in methods of every kind."""

    def __init__(self, share):
        self.share = share

    @torch.no_grad()
    def between(self, x, y):
        return x + self.share * (y - x)

    @classmethod
    @torch.no_grad()
    def half(cls, x, y):
        return cls(0.5).between(x, y)

    @staticmethod
    def remember(x):
        return x.detach().clone()


class Momentum(Blend):
    @property
    def steady(self):
        return isinstance(self, Blend) and isinstance(Blend(0.0), Blend) and issubclass(Momentum, Blend)

    @torch.no_grad()
    def between(self, x, y):
        return super().between(x, y) if self.steady else x


def sample_with_helpers(model, x, sigmas, extra_args=None, callback=None, disable=None, blend=None, **_):
    """Euler with momentum by objects: one made here, one that was handed over."""
    past, momentum = None, Momentum(0.3)
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        slope = (x - model(x, sigma * x.new_ones(len(x)), **extra_args)) / sigma
        slope = slope if past is None else Blend.half(momentum.between(slope, past), slope)
        past = momentum.remember(slope)
        x = x + slope * (after - sigma)
        assert blend is None or isinstance(blend, Blend)
    return x


class HistorySampler:
    """A sampling function that is an object, and keeps its history in itself, in place."""

    def __call__(self, model, x, sigmas, extra_args=None, callback=None, disable=None, **_):
        self.history = torch.zeros_like(x)
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            self.history.mul_(0.5).add_(self.slope(model, x, sigma, extra_args))
            x = x + self.history * (after - sigma)
        return x

    @torch.no_grad()
    def slope(self, model, x, sigma, extra_args):
        return (x - model(x, sigma * x.new_ones(len(x)), **extra_args)).div_(sigma)


class CutSampler(comfy.samplers.Sampler):
    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=None
    ):
        return torch.from_numpy(noise.detach().clone().data.numpy())


def foreign_error(sampler):
    wired = gradients.small_guider()
    with gradients.double_precision(wired):
        return gradients.run(
            wired,
            sampler,
            gradients.sigmas(wired).double(),
            tiny_models.latent("sd15", 4, 4, batch=2),
            lambda session: gradients.relative_error(session, torch.float64, 1e-4),
        )


def test_samplers_of_other_packs_carry_gradient():
    def closure(*args, **kwargs):
        return sample_foreign(*args, **kwargs)

    assert foreign_error(comfy.samplers.KSAMPLER(sample_foreign)) < 1e-6
    assert foreign_error(comfy.samplers.KSAMPLER(closure)) < 1e-6
    assert foreign_error(ForeignSampler()) < 1e-6
    assert foreign_error(DifferentiableSampler(DifferentiableSampler(ForeignSampler()), "fast")) < 1e-6


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_what_cuts_the_gradient_in_methods_of_another_pack_does_not(memory):
    """As guides and histories of other packs do; cut there, the gradient would be wrong without a word."""
    for options in ({}, {"blend": Blend(0.1)}):
        sampler = comfy.samplers.KSAMPLER(sample_with_helpers, options)
        assert foreign_error(DifferentiableSampler(sampler, memory)) < 1e-6
    assert foreign_error(DifferentiableSampler(comfy.samplers.KSAMPLER(HistorySampler()), memory)) < 1e-6
    assert foreign_error(DifferentiableSampler(comfy.samplers.KSAMPLER(HistorySampler().__call__), memory)) < 1e-6


def test_classes_of_the_host_and_those_that_register_themselves_have_no_twin():
    class Registered:
        members: list = []

        def __init_subclass__(cls):
            Registered.members.append(cls)

    twins = Twins()
    twins.callable(sample_foreign)
    assert twins._class(Registered) is Registered and not Registered.members
    assert twins._class(comfy.samplers.Sampler) is comfy.samplers.Sampler
    assert twins._class(Blend) is not Blend and twins._class(Blend) is twins._class(Blend)


def test_a_sampler_that_cuts_the_gradient_is_named():
    with pytest.raises(RuntimeError, match="CutSampler cuts the gradient"):
        foreign_error(CutSampler())


def test_the_twin_leaves_the_sampler_itself_alone():
    sampler = comfy.samplers.sampler_object("deis")
    function, names = sampler.sampler_function, sampler.sampler_function.__wrapped__.__code__.co_names
    twin = Twins().sampler(sampler)
    assert sampler.sampler_function is function and "detach" in names
    assert "detach" not in twin.sampler_function.__code__.co_names
    assert twin.sampler_function.__globals__ is not function.__globals__


@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_gradient_steps_hold_the_model_fixed_in_earlier_steps(name):
    """Noise reaches the last steps through the sampler's arithmetic alone."""
    wired = gradients.small_guider("flow")
    latent, sigmas = tiny_models.latent("sd15", 4, 4, batch=2), gradients.sigmas(wired, 4)

    def gradient(steps):
        calls = []

        def body(session):
            noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
            latents = session.generate(noise)
            calls.append(session._gradients.calls.count)
            return torch.autograd.grad(latents.sum(), noise)[0]

        grad = gradients.run(wired, name, sigmas, latent, body, memory="low", gradient_steps=steps)
        return grad, calls[0]

    (full, all_calls), (last, calls), (same, _) = gradient(0), gradient(1), gradient(4)
    assert calls == 1 and all_calls == 4
    assert torch.equal(full, same) and not torch.allclose(full, last) and last.abs().sum() > 0


def test_gradient_steps_that_cut_everything_are_named():
    """LCM starts each step from the model's prediction alone."""
    wired = gradients.small_guider("flow")

    def body(session):
        return session.generate(torch.zeros(session.shape, requires_grad=True))

    with pytest.raises(RuntimeError, match="gradient_steps at 1: set it to 0"):
        gradients.run(wired, "lcm", gradients.sigmas(wired), tiny_models.latent("sd15", 4, 4), body, gradient_steps=1)
