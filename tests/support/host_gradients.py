"""Gradients through the host against central finite differences, in float64 where the host can be brought to run it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import tiny_models
import torch
from comfy.model_base import ModelType
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from noise_optimize.nodes.host.kernels import differentiable
from noise_optimize.nodes.host.session import Session, run_in_session
from noise_optimize.nodes.latents import FixedNoise

SEED = 7
SINGLE_PRECISION = ("uni_pc", "uni_pc_bh2")  # the host mixes float32 into them
PREDICTIONS = {
    "eps": (ModelType.EPS, "SD15"),
    "v": (ModelType.V_PREDICTION, "SD15"),
    "flow": (ModelType.FLOW, "SD3"),
}


class TwoLayers(nn.Module):
    """The smallest network that has the host's signature: nonlinear in x, follows time and prompt."""

    def __init__(self, channels: int = 4, device: Any = None, operations: Any = None, **_: Any) -> None:
        super().__init__()
        self.dtype = torch.float32
        self.first, self.second = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        self.prompt = nn.Linear(tiny_models.CONTEXT, 8)

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **_):
        shift = self.prompt(context.mean(1)) + timesteps[:, None] / 1000
        hidden = torch.tanh(self.first(x) + shift[:, :, None, None])
        if control is not None:
            hidden += control["middle"].pop()
        hidden *= torch.sigmoid(hidden)
        return self.second(hidden)


def small_model(prediction: str = "eps") -> comfy.model_patcher.ModelPatcher:
    """A MODEL of the host with `TwoLayers` in it."""
    kind, config = PREDICTIONS[prediction]
    config = getattr(comfy.supported_models, config)({"disable_unet_model_creation": True})
    config.latent_format = comfy.latent_formats.SD15()
    model = comfy.model_base.BaseModel(config, kind)
    model.diffusion_model = tiny_models.randomise(TwoLayers()).requires_grad_(False)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model.eval(), load_device=device, offload_device=device)


def guider(model: Any, positive: list, negative: list | None = None, cfg: float = 1.0) -> comfy.samplers.CFGGuider:
    """A CFG Guider as its node makes it."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, positive if negative is None else negative)
    guider.set_cfg(cfg)
    return guider


def small_guider(prediction: str = "eps", cfg: float = 2.0, batch: int = 1) -> comfy.samplers.CFGGuider:
    return guider(small_model(prediction), *(tiny_models.conditioning("sd15", seed, batch) for seed in (0, 1)), cfg)


def tiny_guider(name: str, cfg: float = 1.0, batch: int = 1) -> comfy.samplers.CFGGuider:
    return guider(tiny_models.model(name), *(tiny_models.conditioning(name, seed, batch) for seed in (0, 1)), cfg)


def sigmas(guider: comfy.samplers.CFGGuider, steps: int = 3) -> Tensor:
    return comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "simple", steps)


@contextlib.contextmanager
def double_precision(guider: comfy.samplers.CFGGuider) -> Iterator[None]:
    """The guider's model and prompts in float64, and with them whatever the host asks for in float32.

    Its fused kernels know no float64: the plain ones serve throughout.
    """
    for module in guider.model_patcher.model.double().modules():
        if getattr(module, "dtype", None) == torch.float32:
            module.dtype = torch.float64
    guider.original_conds = tree_map_only(
        Tensor, lambda t: t.double() if t.dtype == torch.float32 else t, guider.original_conds
    )
    default = torch.get_default_dtype()
    with (
        differentiable(),
        mock.patch.multiple(torch, float32=torch.float64, float=torch.float64),
        mock.patch.object(Tensor, "float", Tensor.double),
    ):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def relative_error(
    session: Session, dtype: torch.dtype, step: float, decode: bool = False, until: int | None = None
) -> float:
    """|<gradient, d> - (f(z + h d) - f(z - h d)) / 2h| as a share of it, d chosen so that it is not small.

    f is the latents, those foreseen at step `until`, or pictures, weighted at random; d is half the gradient's
    direction and half random.
    """
    source = tiny_models.generator(3)
    noise = torch.randn(session.shape, generator=source).to(dtype)

    def function(z: Tensor) -> Tensor:
        out = session.generate(z) if until is None else session.predicted(z, until).latents
        out = session.decode(out) if decode else out
        weight = torch.randn(out.shape, generator=tiny_models.generator(4)).to(out)
        return (out * weight).sum()

    leaf = noise.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf), leaf)
    random = torch.randn(session.shape, generator=source).to(dtype)
    direction = gradient / gradient.norm() + random / random.norm()
    with torch.no_grad():
        difference = (function(noise + step * direction) - function(noise - step * direction)) / (2 * step)
    expected = (gradient * direction).sum()
    return float((difference - expected).abs() / expected.abs())


def run(guider: Any, sampler: Any, sigmas: Tensor, latent: dict, body: Callable[[Session], Any], **more: Any) -> Any:
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    return run_in_session(guider, sampler, sigmas, latent, body, **({"seed": SEED} | more))


def sampler_error(name: str, prediction: str, steps: int = 5, until: int | None = None, **settings: Any) -> float:
    """The relative error of one sampler's gradient, in float64; in float32 for samplers that cannot run in float64."""
    wired, single = small_guider(prediction), name in SINGLE_PRECISION
    latent = tiny_models.latent("sd15", 4, 4, batch=2)
    with contextlib.nullcontext() if single else double_precision(wired):
        schedule = sigmas(wired, steps).to(torch.float32 if single else torch.float64)
        check = (torch.float32, 1e-1) if single else (torch.float64, 1e-4)

        def body(session: Session) -> float:
            return relative_error(session, *check, until=until)

        return run(wired, name, schedule, latent, body, **settings)


def host_latents(wired: Any, sampler: Any, sigmas: Tensor, latent: dict, noise: Tensor) -> Tensor:
    """What the host makes of noise (B, C, ...), as a node runs it."""
    FixedNoise(noise, SEED).generate_noise(latent)  # leaves the random state in which the host samples
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    with torch.inference_mode():
        return wired.sample(noise, latent["samples"], sampler, sigmas, None, None, True, SEED).clone()


def errors_to_the_host(
    wired: Any, sampler: Any, latent: dict, steps: int = 2, runs: int = 1, step: float = 1e-5, **settings: Any
) -> tuple[float, float]:
    """How far a session's latents, and its gradient, are from the host's own: as a share of them, in float64.

    The gradient, in the last of so many runs, along a direction is compared with a difference of what the host makes.
    """
    source = tiny_models.generator(3)
    noise, random, weight = (torch.randn(latent["samples"].shape, generator=source).double() for _ in range(3))

    def body(session: Session) -> tuple[Tensor, Tensor]:
        leaf = noise.clone().requires_grad_()
        for _ in range(runs):
            latents = session.generate(leaf)
            (gradient,) = torch.autograd.grad((latents * weight).sum(), leaf)
        return latents.detach(), gradient

    with double_precision(wired):
        schedule = sigmas(wired, steps)
        expected = host_latents(wired, sampler, schedule, latent, noise)
        latents, gradient = run(wired, sampler, schedule, latent, body, **settings)
        direction = gradient / gradient.norm() + random / random.norm()
        up, down = (host_latents(wired, sampler, schedule, latent, noise + sign * step * direction) for sign in (1, -1))
        difference, along = ((up - down) * weight).sum() / (2 * step), (gradient * direction).sum()
    return float((latents - expected).norm() / expected.norm()), float((difference - along).abs() / along.abs())
