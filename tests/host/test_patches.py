"""Model patches of core and of other packs: what they do to the latents and to the gradient is what the host does."""

from __future__ import annotations

import logging

import comfy.patcher_extension
import comfy_extras.nodes_apg
import comfy_extras.nodes_attention_multiply
import comfy_extras.nodes_cfg
import comfy_extras.nodes_eps
import comfy_extras.nodes_freelunch
import comfy_extras.nodes_fresca
import comfy_extras.nodes_hypertile
import comfy_extras.nodes_mahiro
import comfy_extras.nodes_model_advanced
import comfy_extras.nodes_model_downscale
import comfy_extras.nodes_nag
import comfy_extras.nodes_pag
import comfy_extras.nodes_sag
import comfy_extras.nodes_slg
import comfy_extras.nodes_tcfg
import comfy_extras.nodes_tomesd
import host_gradients as gradients
import numpy
import pytest
import tiny_models
import torch

from noise_optimize.nodes.host.patches import patches_of

UNET, ATTENTIVE, SDXL, DIT = "sd15", "sd15 with attention everywhere", "sdxl", "flux_schnell"
STEPS = 2
TIGHT = {"tolerance": 1e-7}
CLOSE = {"tolerance": 2e-3, "step": 1e-3}  # FLUX turns its positions in float32

EXTRAS = comfy_extras
CORE = {
    "Self-Attention Guidance": (UNET, EXTRAS.nodes_sag.SelfAttentionGuidance.execute, 0.8, 2.0),
    "Perturbed-Attention Guidance": (UNET, EXTRAS.nodes_pag.PerturbedAttentionGuidance.execute, 3.0),
    "Token Merging": (ATTENTIVE, EXTRAS.nodes_tomesd.TomePatchModel.execute, 0.5),
    "HyperTile": (ATTENTIVE, EXTRAS.nodes_hypertile.HyperTile.execute, 32, 4, 2, False),
    "FreeU": (UNET, EXTRAS.nodes_freelunch.FreeU.execute, 1.3, 1.4, 0.9, 0.2),
    "FreeU 2": (UNET, EXTRAS.nodes_freelunch.FreeU_V2.execute, 1.3, 1.4, 0.9, 0.2),
    "Deep Shrink": (
        UNET, EXTRAS.nodes_model_downscale.PatchModelAddDownscale.execute,
        1, 2.0, 0.0, 0.6, True, "bicubic", "bicubic",
    ),
    "Adaptive Projected Guidance": (UNET, EXTRAS.nodes_apg.APG.execute, 0.5, 5.0, -0.5),
    "Tangential Damping": (UNET, EXTRAS.nodes_tcfg.TCFG.execute),
    "Positive-Biased Guidance": (SDXL, EXTRAS.nodes_mahiro.Mahiro.execute),
    "Rescale CFG": (SDXL, EXTRAS.nodes_model_advanced.RescaleCFG().patch, 0.7),
    "Normalized Attention Guidance": (UNET, EXTRAS.nodes_nag.NAGuidance.execute, 5.0, 0.5, 1.5),
    "Attention Multiply": (SDXL, EXTRAS.nodes_attention_multiply.UNetSelfAttentionMultiply.execute, 1.1, 0.9, 1.2, 1.3),
    "Epsilon Scaling": (UNET, EXTRAS.nodes_eps.EpsilonScaling.execute, 0.95),
    "Skip Layer Guidance": (DIT, EXTRAS.nodes_slg.SkipLayerGuidanceDiT.execute, 3.0, 0.0, 1.0, "0", "0", 0.5),
    "Skip Layer Guidance, simple": (DIT, EXTRAS.nodes_slg.SkipLayerGuidanceDiTSimple.execute, 0.0, 1.0, "0", "0"),
    "Normalized Attention Guidance in a DiT": (DIT, EXTRAS.nodes_nag.NAGuidance.execute, 5.0, 0.5, 1.5),
    "CFG Zero Star": (DIT, EXTRAS.nodes_cfg.CFGZeroStar.execute),
    "CFG Norm": (DIT, EXTRAS.nodes_cfg.CFGNorm.execute, 0.9),
    "FreSca": (DIT, EXTRAS.nodes_fresca.FreSca.execute, 1.0, 1.25, 2),
}  # fmt: skip


def wire(patch, architecture=UNET, batch=3, cfg=2.0):
    """Guider and latent of a patched model; patch: the name of a row of CORE, or a function that patches a MODEL."""
    if isinstance(patch, str):
        architecture, execute, *widgets = CORE[patch]
        made = execute(tiny_models.model(architecture), *widgets)
        model = made[0] if isinstance(made, tuple) else made.args[0]
    else:
        model = tiny_models.model(architecture).clone()
        patch(model)
    size = 16 if architecture == ATTENTIVE else 8
    prompts = (tiny_models.conditioning(architecture, seed, batch) for seed in (0, 1))
    return gradients.guider(model, *prompts, cfg), tiny_models.latent(architecture, size, size, batch)


def check(wired, latent, tolerance=1e-7, **settings):
    errors = gradients.errors_to_the_host(wired, "euler", latent, **settings)
    assert max(errors) < tolerance, errors


def noise_for(latent):
    return torch.randn(latent["samples"].shape, generator=tiny_models.generator(3))


def host(wired, latent, steps=STEPS):
    return gradients.host_latents(wired, "euler", gradients.sigmas(wired, steps), latent, noise_for(latent))


def run(wired, latent, body, steps=STEPS, **settings):
    return gradients.run(wired, "euler", gradients.sigmas(wired, steps), latent, body, **settings)


def gradient(session):
    noise = torch.randn(session.shape, generator=tiny_models.generator(3)).requires_grad_()
    return torch.autograd.grad(session.generate(noise).square().sum(), noise)[0]


@pytest.mark.parametrize(("memory", "runs"), [("low", 1), ("fast", 1), ("auto", 2)])
@pytest.mark.parametrize("name", CORE)
def test_latents_and_gradient_with_a_patch_of_core_are_the_hosts(name, memory, runs):
    check(*wire(name), memory=memory, runs=runs, **(CLOSE if CORE[name][0] == DIT else TIGHT))


@pytest.mark.parametrize("name", CORE)
def test_a_patch_of_core_counts(name):
    patched, plain = (host(*wire(patch, CORE[name][0])) for patch in (name, lambda model: None))
    assert (patched - plain).norm() > 1e-3 * plain.norm()


# Patches of other packs


def block(function):
    """A patch of the last block's output: function(h (B, C, H, W), whether this is the first step)."""

    def output_block(h, skip, options):
        first = options["sigmas"][0] == options["sample_sigmas"][0]
        return (function(h, first) if options["block"][1] == 3 else h), skip

    return lambda model: model.set_model_output_block_patch(output_block)


def kept_from_the_first_step(model):
    kept = {}

    def deep_cache(h, first):
        if first:
            kept["h"] = h
        return 0.5 * (h + kept["h"])

    block(deep_cache)(model)


class EveryOtherCall:
    """A patch that is an object: it computes in one call what it uses in the next."""

    def __init__(self):
        self.calls, self.h = 0, None

    def __call__(self, h, first):
        self.calls += 1
        if self.calls % 2:
            self.h = h
        return 0.5 * (h + self.h)


def every_other_call(model):
    block(EveryOtherCall())(model)


def handed_to_guidance(model):
    """What a block has computed is used when the predictions are guided."""
    seen = []

    def record(h, first):
        seen[:] = [h.mean((1, 2, 3))]
        return h

    def guide(args):
        return args["denoised"] * (1 + seen[0].chunk(2)[0].tanh()[:, None, None, None])

    block(record)(model)
    model.set_model_sampler_post_cfg_function(guide, disable_cfg1_optimization=True)


def by_numpy(model):
    source = numpy.random.default_rng(0)
    block(lambda h, first: h * (1 + 0.1 * source.normal()))(model)


def by_the_batch(model):
    """A tenth more for a batch of one: five per cent of a prediction, and less."""

    def wrapper(executor, x, *args, **kwargs):
        return executor(x, *args, **kwargs) * (1.1 if len(x) == 2 else 1.0)

    model.add_wrapper(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, wrapper)


ONCE = {
    "kept from the first step": kept_from_the_first_step,
    "every other call": every_other_call,
    "handed to guidance": handed_to_guidance,
}
WHOLE = {
    "a mean over the batch": block(lambda h, first: h + h.mean(0, keepdim=True)),
    "noise for each sample": block(lambda h, first: h + 0.3 * torch.randn_like(h)),
    "by the number of samples": by_the_batch,
}


@pytest.mark.parametrize("memory", ["auto", "fast"])
@pytest.mark.parametrize("name", ONCE)
def test_what_a_patch_keeps_from_call_to_call_is_differentiated_in_a_graph_that_is_kept(name, memory, caplog):
    with caplog.at_level(logging.INFO):
        check(*wire(ONCE[name]), steps=4, memory=memory)
    if memory == "auto":
        assert "has the graph of a whole run kept" in caplog.text


@pytest.mark.parametrize(
    ("patch", "name"),
    [
        (ONCE["kept from the first step"], "block"),
        (ONCE["handed to guidance"], "handed_to_guidance"),
    ],
)
def test_with_memory_low_it_is_refused_by_name(patch, name):
    with pytest.raises(ValueError, match=f"patch on the model .*{name}.*set memory to auto or fast.*cma"):
        run(*wire(patch), gradient, memory="low")


@pytest.mark.parametrize("name", WHOLE)
def test_a_patch_that_looks_at_the_whole_batch_is_given_the_whole_batch(name, caplog):
    with caplog.at_level(logging.INFO):
        check(*wire(WHOLE[name]), memory="low")
    assert "has each batch recomputed in one piece" in caplog.text


@pytest.mark.parametrize("memory", ["auto", "fast", "low"])
@pytest.mark.parametrize(
    ("patch", "name", "steps"), [(by_numpy, "block", 2), ("Adaptive Projected Guidance", "APG", 1)]
)
def test_a_patch_that_goes_on_from_one_run_to_the_next_is_refused_by_name(patch, name, steps, memory):
    """With one step, Adaptive Projected Guidance takes the next run for the next step of the same."""
    with pytest.raises(ValueError, match=rf"patch on the model \({name}\) goes on from one run.*take the patch off"):
        run(*wire(patch), gradient, steps=steps, memory=memory)


def test_an_answer_that_differs_by_a_tenth_late_in_a_run_is_another_answer():
    """By then a prediction is mostly its input. No patch tells that this model is to be tried."""
    asked, (wired, latent) = iter(range(100)), wire(lambda model: None)
    network = wired.model_patcher.model.diffusion_model
    forward = network.forward
    network.forward = lambda x, timesteps, *args, **kwargs: (
        forward(x, timesteps, *args, **kwargs) * (1.1 ** next(asked) if timesteps[0] < 100 else 1.0)
    )
    with pytest.raises(RuntimeError, match="answers differently when it is asked twice.*memory to fast.*cma"):
        run(wired, latent, gradient, steps=12, memory="low")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["Perturbed-Attention Guidance", "FreeU", "Token Merging", "Self-Attention Guidance"])
def test_rounding_in_half_precision_is_not_taken_for_a_patch_that_looks_at_the_batch(name, dtype):
    wired, latent = wire(name, cfg=7.0)
    wired.model_patcher.model.diffusion_model.to(dtype).dtype = dtype

    def body(session):
        gradient(session)
        return session._gradients.calls.divide

    assert run(wired, latent, body, memory="low") == (name != "Self-Attention Guidance")


# What patches keep


def test_what_a_patch_keeps_is_left_to_it():
    seen = ["wired"]

    def guide(args):
        seen.append(args["sigma"])
        return args["denoised"]

    run(*wire(lambda model: model.set_model_sampler_post_cfg_function(guide)), gradient, memory="low")
    assert seen[0] == "wired" and len(seen) > 1


@pytest.mark.parametrize("name", ["Adaptive Projected Guidance", "Self-Attention Guidance", "Token Merging"])
def test_a_gradient_leaves_the_next_run_as_it_was(name):
    expected, (wired, latent) = host(*wire(name)), wire(name)
    again = run(wired, latent, lambda session: [gradient(session) for _ in range(2)])
    assert torch.equal(host(wired, latent), expected)
    assert (again[1] - again[0]).norm() < 1e-5 * again[0].norm()


def test_the_names_of_patches_are_those_of_their_nodes():
    wired, _ = wire("Self-Attention Guidance")
    assert patches_of(wired) == "SelfAttentionGuidance"
    wired.model_options["sampler_post_cfg_function"].append(EveryOtherCall())
    assert patches_of(wired) == "SelfAttentionGuidance, EveryOtherCall"
    plain = gradients.tiny_guider(UNET)
    plain.model_options["transformer_options"]["optimized_attention_override"] = lambda kernel, *args, **kwargs: None
    assert patches_of(plain) == "", "kernels are not patches"


@pytest.mark.parametrize(("patch", "more"), [(None, 0), ("Tangential Damping", 4)])
def test_only_a_patched_model_is_tried(patch, more):
    wired, latent = wire(patch or (lambda model: None))
    batches = []
    wired.model_patcher.model.diffusion_model.register_forward_pre_hook(
        lambda module, given: batches.append(len(given[0]))
    )

    def runs(session):
        batches.clear()
        gradient(session)
        return sum(batches) / (2 * STEPS * len(noise_for(latent)))

    run(wired, latent, gradient)  # probes the model
    first, second = run(wired, latent, lambda session: [runs(session) for _ in range(2)], memory="fast")
    assert first - second == more


# Sets


@pytest.mark.parametrize(
    ("name", "node"), [("Positive-Biased Guidance", "Mahiro"), ("Skip Layer Guidance", "SkipLayerGuidanceDiT")]
)
def test_a_set_is_not_made_apart_with_a_patch_that_takes_means_over_the_batch(name, node):
    wired, latent = wire(name)
    message = rf"patch on the model \({node}\) looks at the batch as a whole.*latent_image.*take the patch off"
    with pytest.raises(ValueError, match=message):
        run(wired, latent, lambda session: None, members=([1], 3))
    with pytest.raises(ValueError, match=message):
        run(wired, latent, lambda session: session.places_matter())
    assert torch.equal(run(wired, latent, lambda session: session.generate(noise_for(latent))), host(wired, latent))


@pytest.mark.parametrize(
    "name", ["Self-Attention Guidance", "Token Merging", "HyperTile", "Adaptive Projected Guidance", "CFG Norm"]
)
def test_with_other_patches_a_set_made_apart_is_the_set(name):
    wired, latent = wire(name)
    whole, noise = host(wired, latent), noise_for(latent)
    for places in ([1], [2, 0]):
        part = run(wired, latent, lambda session, rows=places: session.generate(noise[rows]), members=(places, 3))
        assert (part - whole[places]).norm() < 1e-5 * whole[places].norm()
