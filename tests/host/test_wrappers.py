"""What a node shows is what any sampler makes of the noise that it hands out, whatever is wrapped around the model."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.samplers
import comfy_extras.nodes_apg
import comfy_extras.nodes_cfg
import comfy_extras.nodes_context_windows
import comfy_extras.nodes_custom_sampler as samplers
import comfy_extras.nodes_easycache
import comfy_extras.nodes_eps
import comfy_extras.nodes_freelunch
import comfy_extras.nodes_fresca
import comfy_extras.nodes_mahiro
import comfy_extras.nodes_model_advanced
import comfy_extras.nodes_pag
import comfy_extras.nodes_sag
import comfy_extras.nodes_slg
import comfy_extras.nodes_tcfg
import host_gradients as gradients
import nodes
import pytest
import tiny_models
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_perpneg import PerpNegGuider

from noise_optimize.nodes.host.wires import DifferentiableSampler
from noise_optimize.nodes.optimize import NoiseOptimize
from noise_optimize.nodes.search import NoiseSearch
from noise_optimize.objectives.objective import Objective

OPTIMIZE, SEARCH = (node.PREPARE_CLASS_CLONE(None) for node in (NoiseOptimize, NoiseSearch))
STEPS, SIZE, BATCH = 3, 8, 3


@dataclass(frozen=True, kw_only=True)
class Spread(Objective):
    """How far the pictures lie apart."""

    kind = "diversity"
    needs = "pictures"

    def measure(self, batch):
        return batch.pictures.flatten(1).std(dim=0).mean()

    def distances(self, batch):
        pictures = batch.pictures.flatten(1)
        return (pictures[:, None] - pictures[None]).abs().mean(-1)


def wrapped(kind, wrapper):
    def patch(model):
        model = model.clone()
        model.add_wrapper_with_key(kind, "test", wrapper)
        return model

    return patch


def set_by(method, function):
    def patch(model):
        model = model.clone()
        getattr(model, method)(function)
        return model

    return patch


def node(execute, *args, **kwargs):
    def patch(model):
        made = execute(model, *args, **kwargs)
        return made[0] if isinstance(made, tuple) else made.args[0]

    return patch


def scale_noise(executor, noise, *args, **kwargs):
    return executor(noise * 0.9, *args, **kwargs)


def shorter_schedule(executor, noise, latent, sampler, sigmas, *args, **kwargs):
    return executor(noise, latent + 0.1, sampler, torch.cat([sigmas[:1], sigmas[2:]]), *args, **kwargs)


def other_sampler(executor, noise, latent, sampler, *args, **kwargs):
    assert sampler.sampler_function is not None, "a wrapper sees a SAMPLER of the kind that is wired"
    return executor(noise, latent, comfy.samplers.sampler_object("heun"), *args, **kwargs)


def after_sampling(executor, *args, **kwargs):
    return torch.roll(executor(*args, **kwargs), 1, -1)


def remember(executor, noise, *args, **kwargs):
    """Has each step know the noise that the run began with."""
    options = executor.class_obj.model_options
    options["sampler_post_cfg_function"] = [lambda args: args["denoised"] + 0.1 * noise.to(args["denoised"])]
    return executor(noise, *args, **kwargs)


def own_callback(executor, noise, latent, sampler, sigmas, mask, callback, *args, **kwargs):
    def step(i, x0, x, steps):
        x += 0.05 * x0
        callback(i, x0, x, steps)

    return executor(noise, latent, sampler, sigmas, mask, step, *args, **kwargs)


def scale_sampled(executor, guider, sigmas, extra, callback, noise, *args, **kwargs):
    return executor(guider, sigmas, extra, callback, noise * 0.9, *args, **kwargs)


def write_sampled(executor, guider, sigmas, extra, callback, noise, *args, **kwargs):
    noise[:, :, :2] = noise[:, :, 2:4].clone()  # in place, as FreeNoise of core
    return executor(guider, sigmas, extra, callback, noise, *args, **kwargs)


def louder(executor, *args, **kwargs):
    out = executor(*args, **kwargs)
    return [t * 1.1 for t in out] if isinstance(out, list) else out * 1.1


def context_windows(freenoise):
    execute = comfy_extras.nodes_context_windows.ContextWindowsManualNode.execute
    return node(execute, 2, 1, "standard_uniform", 1, False, "pyramid", 0, freenoise)


def conditional(args):
    return args["uncond"] + args["cond_scale"] * 0.8 * (args["cond"] - args["uncond"])


FRESH = {
    "outer: noise": wrapped(WrappersMP.OUTER_SAMPLE, scale_noise),
    "outer: latent and sigmas": wrapped(WrappersMP.OUTER_SAMPLE, shorter_schedule),
    "outer: the result": wrapped(WrappersMP.OUTER_SAMPLE, after_sampling),
    "outer: the noise in each step": wrapped(WrappersMP.OUTER_SAMPLE, remember),
    "outer: callback": wrapped(WrappersMP.OUTER_SAMPLE, own_callback),
    "sampler: noise": wrapped(WrappersMP.SAMPLER_SAMPLE, scale_sampled),
    "sampler: noise in place": wrapped(WrappersMP.SAMPLER_SAMPLE, write_sampled),
    "prepare": wrapped(WrappersMP.PREPARE_SAMPLING, lambda executor, *args, **kwargs: executor(*args, **kwargs)),
    "predict": wrapped(WrappersMP.PREDICT_NOISE, louder),
    "calc cond": wrapped(WrappersMP.CALC_COND_BATCH, louder),
    "apply model": wrapped(WrappersMP.APPLY_MODEL, louder),
    "diffusion model": wrapped(WrappersMP.DIFFUSION_MODEL, louder),
    "model function": set_by(
        "set_model_unet_function_wrapper", lambda f, args: f(args["input"], args["timestep"], **args["c"]) * 1.1
    ),
    "cfg function": set_by("set_model_sampler_cfg_function", conditional),
    "context windows": context_windows(freenoise=False),
    "FreeNoise": context_windows(freenoise=True),
    "TCFG": node(comfy_extras.nodes_tcfg.TCFG.execute),
    "APG": node(comfy_extras.nodes_apg.APG.execute, 0.5, 5.0, 0.5),
    "CFG-Zero*": node(comfy_extras.nodes_cfg.CFGZeroStar.execute),
    "CFG norm": node(comfy_extras.nodes_cfg.CFGNorm.execute, 1.0),
    "rescaled CFG": node(comfy_extras.nodes_model_advanced.RescaleCFG().patch, 0.7),
    "epsilon scaling": node(comfy_extras.nodes_eps.EpsilonScaling.execute, 1.01),
    "FreSca": node(comfy_extras.nodes_fresca.FreSca.execute, 1.0, 1.25, 3),
    "Mahiro": node(comfy_extras.nodes_mahiro.Mahiro.execute),
    "perturbed attention": node(comfy_extras.nodes_pag.PerturbedAttentionGuidance.execute, 3.0),
    "self-attention guidance": node(comfy_extras.nodes_sag.SelfAttentionGuidance.execute, 0.5, 2.0),
    "FreeU": node(comfy_extras.nodes_freelunch.FreeU_V2.execute, 1.3, 1.4, 0.9, 0.2),
}
if hasattr(samplers, "CFGOverride"):
    FRESH["CFG override"] = node(samplers.CFGOverride.execute, 4.0, 0.2, 0.6)
CACHES = {
    "EasyCache": node(comfy_extras.nodes_easycache.EasyCacheNode.execute, 3.0, 0.0, 1.0, False),
    "LazyCache": node(comfy_extras.nodes_easycache.LazyCacheNode.execute, 3.0, 0.0, 1.0, False),
}
LAYERS = {  # of FLUX
    "skip layer guidance": node(comfy_extras.nodes_slg.SkipLayerGuidanceDiT.execute, 3.0, 0.0, 1.0, "0", "0", 0.5),
    "skip layer": node(comfy_extras.nodes_slg.SkipLayerGuidanceDiTSimple.execute, 0.0, 1.0, "0", "0"),
}
ALL = FRESH | CACHES | LAYERS


def wire(name):
    """What earlier nodes hand over, in inference mode; a VAE beside it, and a noise."""
    architecture, channels = ("flux_schnell", 16) if name in LAYERS else ("sd15", 4)
    model = ALL[name](tiny_models.model(architecture))
    prompts = (tiny_models.conditioning(architecture, seed) for seed in (0, 1))
    sampler = samplers.KSamplerSelect.execute("euler").args[0]
    return {
        "guider": samplers.CFGGuider.execute(model, *prompts, 2.0).args[0],
        "sampler": sampler,
        "sigmas": samplers.BasicScheduler.execute(model, "simple", STEPS, 1.0).args[0],
        "latent_image": tiny_models.latent(architecture, SIZE, SIZE, BATCH),
    }, tiny_models.vae(channels)


def host(wires, vae, noise):
    """Latents and pictures of the host's own nodes."""
    latent = samplers.SamplerCustomAdvanced.execute(noise=noise, **wires).args[0]
    return latent["samples"], nodes.VAEDecode().decode(vae, latent)[0]


def agree(wires, vae, made):
    noise, latent, images = made[:3]
    samples, pictures = host(wires, vae, noise)
    assert torch.equal(latent["samples"], samples) and torch.equal(images, pictures)


@pytest.mark.parametrize("name", ALL)
@torch.inference_mode()
def test_noise_optimize_shows_what_any_sampler_makes_of_its_noise(name):
    wires, vae = wire(name)
    start = samplers.RandomNoise.execute(1).args[0]
    before = host(wires, vae, start)
    runs = [{"iterations": 0}, {"iterations": 3, "optimizer": "cma", "population": 3, "learning_rate": 0.02}]
    runs += [{"iterations": 3}] if name not in CACHES else []
    for widgets in runs:
        made = OPTIMIZE.execute(noise=start, **wires, vae=vae, objective=Spread(), **widgets).args
        agree(wires, vae, made)
        same = torch.equal(made[1]["samples"], before[0])
        assert "optimizer" in widgets or same == (widgets["iterations"] == 0), made[4]
    assert all(torch.equal(*pair) for pair in zip(host(wires, vae, start), before, strict=True))


@pytest.mark.parametrize("name", ["outer: noise", "sampler: noise in place", "FreeNoise", "APG", *CACHES])
@torch.inference_mode()
def test_noise_search_shows_what_any_sampler_makes_of_its_noise(name):
    wires, vae = wire(name)
    start = samplers.RandomNoise.execute(1).args[0]
    agree(wires, vae, SEARCH.execute(noise=start, **wires, vae=vae, objective=Spread(), candidates=7, keep=BATCH).args)


def dual_model(model, *prompts):
    """Guidance by another model, which this guider loads beside its own."""
    other = tiny_models.model("sd15", seed=3)
    return samplers.DualModelGuider.execute(model, prompts[0], 2.0, other, prompts[1])


GUIDERS = {
    "basic": lambda model, *prompts: samplers.BasicGuider.execute(model, prompts[0]),
    "dual CFG": lambda model, *prompts: samplers.DualCFGGuider.execute(model, *prompts, 3.0, 2.0, "nested"),
    "Perp-Neg": lambda model, *prompts: PerpNegGuider.execute(model, *prompts, 3.0, 0.7),
}
NEWER = hasattr(samplers, "DualModelGuider")
if NEWER:
    GUIDERS["dual model"] = dual_model


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("name", GUIDERS)
@torch.inference_mode()
def test_each_guider_of_core_is_optimised_and_shown_as_it_samples(name, memory):
    wires, vae = wire("prepare")
    prompts = [tiny_models.conditioning("sd15", seed) for seed in (0, 1, 2)]
    wires["guider"] = GUIDERS[name](tiny_models.model("sd15"), *prompts).args[0]
    start, sampler = samplers.RandomNoise.execute(1).args[0], DifferentiableSampler(wires["sampler"], memory)
    before = host(wires, vae, start)
    settings = {"noise": start, **wires, "sampler": sampler, "vae": vae, "objective": Spread()}
    for iterations in (0, 2):
        made = OPTIMIZE.execute(**settings, iterations=iterations).args
        agree(wires, vae, made)
        assert torch.equal(made[1]["samples"], before[0]) == (iterations == 0), made[4]


@pytest.mark.parametrize("name", CACHES)
@torch.inference_mode()
def test_a_cache_leaves_out_steps_and_is_refused_by_its_name(name):
    wires, vae = wire(name)
    start = samplers.RandomNoise.execute(1).args[0]
    without = samplers.CFGGuider.execute(
        tiny_models.model("sd15"), *(tiny_models.conditioning("sd15", s) for s in (0, 1)), 2.0
    ).args[0]
    assert not torch.equal(host(wires, vae, start)[0], host(wires | {"guider": without}, vae, start)[0])
    for memory in ("auto", "fast", "low"):
        sampler = DifferentiableSampler(wires["sampler"], memory)
        with pytest.raises(ValueError, match=f"{name} leaves out steps.*take {name} off the model wire.*cma") as error:
            OPTIMIZE.execute(noise=start, **wires | {"sampler": sampler}, vae=vae, objective=Spread(), iterations=1)
        assert "memory" not in str(error.value)


NO_LAYERS = ("diffusion model", "perturbed attention", "self-attention guidance", "FreeU")  # in the smallest network
SINGLE_PRECISION = ("FreSca",)


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("name", [name for name in FRESH if name not in NO_LAYERS + SINGLE_PRECISION])
def test_the_gradient_through_what_is_wrapped_around_is_that_of_finite_differences(name, memory):
    prompts = (tiny_models.conditioning("sd15", seed) for seed in (0, 1))
    wired = gradients.guider(FRESH[name](gradients.small_model("eps")), *prompts, 2.0)
    latent = tiny_models.latent("sd15", 4, 4, BATCH)

    def body(session):
        return gradients.relative_error(session, torch.float64, 1e-5)

    with gradients.double_precision(wired):
        sigmas = gradients.sigmas(wired, STEPS).double()
        assert gradients.run(wired, "euler", sigmas, latent, body, memory=memory) < 1e-5


@pytest.mark.skipif(not NEWER, reason="this ComfyUI has no Dual Model Guider")
@pytest.mark.parametrize("memory", ["fast", "low"])
def test_the_gradient_through_guidance_by_another_model_is_that_of_finite_differences(memory):
    model, other = gradients.small_model("eps"), gradients.small_model("eps")
    other.model.diffusion_model = tiny_models.randomise(gradients.TwoLayers(), seed=3).double().requires_grad_(False)
    prompts = [tiny_models.conditioning("sd15", seed) for seed in (0, 1)]
    wired = samplers.DualModelGuider.execute(model, prompts[0], 2.0, other, prompts[1]).args[0]

    def body(session):
        return gradients.relative_error(session, torch.float64, 1e-5)

    with gradients.double_precision(wired):
        other.model.diffusion_model.dtype = torch.float64
        sigmas, latent = gradients.sigmas(wired, STEPS).double(), tiny_models.latent("sd15", 4, 4, BATCH)
        assert gradients.run(wired, "euler", sigmas, latent, body, memory=memory) < 1e-6
