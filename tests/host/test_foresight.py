"""A sampler is resumed where that gives what an unbroken run gives, and only there."""

from __future__ import annotations

import functools
from typing import Any

import comfy.k_diffusion.sampling
import comfy.samplers
import host_gradients as gradients
import pytest
import tiny_models
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from noise_optimize.nodes.host.foresight import Begun
from noise_optimize.nodes.host.session import Session
from noise_optimize.nodes.host.wires import DifferentiableSampler

STEPS = 5
ONE_STEP = ("euler", "euler_cfg_pp", "heun", "dpm_2", "exp_heun_2_x0", "ddim")
REMEMBERS, DRAWS = ("dpmpp_2m", "lms", "ipndm", "res_multistep"), ("euler_ancestral", "lcm", "dpmpp_2m_sde")


guider = functools.cache(gradients.small_guider)


def run(sampler: Any, body, prediction: str = "eps", **latent: Tensor):
    wired = guider(prediction)
    latent = tiny_models.latent("sd15", 4, 4, batch=2) | latent
    return gradients.run(wired, sampler, gradients.sigmas(wired, STEPS), latent, body)


def noise(session: Session) -> Tensor:
    return torch.randn(session.shape, generator=tiny_models.generator())


@pytest.mark.parametrize("prediction", gradients.PREDICTIONS)
@pytest.mark.parametrize("sampler", ONE_STEP)
def test_what_is_resumed_is_what_an_unbroken_run_gives(sampler: str, prediction: str) -> None:
    def body(session: Session) -> None:
        assert session.resumable([2, 3])
        z, begun = noise(session), Begun()
        for until in (2, 3, STEPS):
            foreseen, whole = session.predicted(z, until, begun), session.predicted(z, until)
            assert (foreseen.latents - whole.latents).norm() < 1e-5 * whole.latents.norm()
            begun = foreseen.begun
        assert begun.steps == STEPS

    run(sampler, body, prediction)


@pytest.mark.parametrize("sampler", [*REMEMBERS, *DRAWS])
def test_a_sampler_that_remembers_or_draws_is_not_resumed(sampler: str) -> None:
    assert not run(sampler, lambda session: session.resumable([3]))


def test_only_the_stops_that_are_asked_for_count() -> None:
    """dpmpp_2m takes its last step, to 0, without a memory."""
    assert run("dpmpp_2m", lambda session: session.resumable([STEPS - 1]))
    assert not run("dpmpp_2m", lambda session: session.resumable([STEPS - 2, STEPS - 1]))


def test_under_a_mask_nothing_is_resumed() -> None:
    assert not run("euler", lambda session: session.resumable([2]), noise_mask=torch.ones(1, 1, 32, 32))


def test_image_to_image_is_resumed_too() -> None:
    def body(session: Session) -> None:
        z = noise(session)
        assert session.resumable([2])
        begun = session.predicted(z, 2, Begun()).begun
        whole = session.generate(z)
        assert (session.predicted(z, STEPS, begun).latents - whole).norm() < 1e-5 * whole.norm()

    run("euler", body, samples=torch.randn(2, 4, 4, 4, generator=tiny_models.generator(1)))


def test_other_rows_of_several_runs_go_on_together() -> None:
    def body(session: Session) -> None:
        first, second = noise(session), noise(session).flip(0)
        begun = [session.predicted(z, 2, Begun()).begun.samples for z in (first, second)]
        mixed = Begun(2, torch.stack([begun[0][0], begun[1][0]]))
        whole = session.generate(torch.stack([first[0], second[0]]))
        assert (session.predicted(first, STEPS, mixed).latents - whole).norm() < 1e-5 * whole.norm()

    run("euler", body)


def test_of_the_hosts_samplers_those_are_resumed_that_keep_nothing() -> None:
    names = {n for n in comfy.samplers.SAMPLER_NAMES if n != "dpm_adaptive" and not n.endswith("_gpu")}
    assert {name for name in names if run(name, lambda session: session.resumable([2]))} == set(ONE_STEP)


def test_a_sampler_that_fails_on_some_of_its_steps_is_not_resumed() -> None:
    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
        assert len(sigmas) == STEPS + 1
        return comfy.k_diffusion.sampling.sample_euler(model, x, sigmas, extra_args, callback, disable)

    assert not run(comfy.samplers.KSAMPLER(sample), lambda session: session.resumable([2]))


@pytest.mark.parametrize("prediction", gradients.PREDICTIONS)
@pytest.mark.parametrize("sampler", [*ONE_STEP, *REMEMBERS, *DRAWS])
@pytest.mark.parametrize("memory", ["fast", "low"])
def test_the_gradient_of_a_prediction_is_that_of_finite_differences(sampler: str, prediction: str, memory: str) -> None:
    """At guidance 2, of the first prediction and of one after several steps."""
    for until in (1, 3):
        assert gradients.sampler_error(sampler, prediction, STEPS, until=until, memory=memory) < 1e-5


@pytest.mark.parametrize("name", ["sdxl", "flux_schnell"])
def test_the_gradient_of_the_first_prediction_is_right_through_the_hosts_own_networks(name: str) -> None:
    wired = gradients.tiny_guider(name, batch=2)
    latent = tiny_models.latent(name, 8, 8, batch=2)

    def body(session: Session) -> float:
        return gradients.relative_error(session, torch.float64, 1e-4, until=1)

    with gradients.double_precision(wired):
        assert gradients.run(wired, "euler", gradients.sigmas(wired, 4).double(), latent, body) < 1e-6


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "dpmpp_sde"])
def test_a_prediction_with_a_gradient_is_the_one_without(sampler: str) -> None:
    """Under a mask, and whatever the sampler's own gradient looks at."""
    mask = (torch.rand(2, 1, 32, 32, generator=tiny_models.generator(2)) > 0.5).float()

    def body(session: Session) -> None:
        z = noise(session)
        for until in (1, STEPS):
            with torch.no_grad():
                plain = session.predicted(z, until).latents
            leaf = z.clone().requires_grad_()
            latents = session.predicted(leaf, until).latents
            assert (latents - plain).norm() < 1e-5 * plain.norm()
            assert torch.autograd.grad(latents.sum(), leaf)[0].any()

    run(sampler, body, noise_mask=mask)
    run(DifferentiableSampler(comfy.samplers.sampler_object(sampler), gradient_steps=1), body)


@pytest.mark.parametrize(("sampler", "each"), [("euler", 1), ("heun", 2), ("dpm_2", 2), ("dpmpp_sde", 2), ("lcm", 1)])
def test_how_often_a_run_asks_the_model_is_known_before_it_does(sampler: str, each: int) -> None:
    asked: list[int] = []

    def counting(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        asked.append(1)
        return executor(*args, **kwargs)

    wired = gradients.small_guider()
    wired.model_patcher.add_wrapper(WrappersMP.PREDICT_NOISE, counting)
    latent = tiny_models.latent("sd15", 4, 4, batch=2)

    def body(session: Session) -> None:
        expected = {1: 1, 2: each + 1, STEPS: each * (STEPS - 1) + 1}
        assert {until: session.calls(until) for until in expected} == expected and session.calls() == expected[STEPS]
        assert not asked
        for until, count in expected.items():
            session.predicted(noise(session), until)
            assert len(asked) == count
            asked.clear()

    gradients.run(wired, sampler, gradients.sigmas(wired, STEPS), latent, body)
