"""The session finds a wrong gradient that nobody foresaw before it is used, and accuses no right one."""

import gc
import weakref

import comfy.model_management
import comfy.samplers
import comfy_extras.nodes_apg as nodes_apg
import host_gradients as gradients
import pytest
import tiny_models
import tiny_quantised
import torch
from comfy.ldm.modules import attention

from noise_optimize.nodes import demo
from noise_optimize.nodes.host import probe as probing
from noise_optimize.nodes.host import twins

STEPS = 2


@pytest.fixture
def found(monkeypatch):
    """What each probe found, in order: sampler, model, VAE."""
    seen, probe = [], probing.probe
    monkeypatch.setattr(probing, "probe", lambda *args: seen.append(probe(*args)) or seen[-1])
    return seen


def gradient(wired, latent, sampler="euler", decode=False, steps=STEPS, **settings):
    noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator())

    def body(session):
        latents = session.generate(leaf := noise.clone().requires_grad_())
        out = session.decode(latents) if decode else latents
        weight = torch.randn(out.shape, generator=tiny_models.generator(1))
        return torch.autograd.grad((out * weight).sum(), leaf)[0]

    return gradients.run(wired, sampler, gradients.sigmas(wired, steps), latent, body, **settings)


def wire(name="sd15", batch=2):
    return gradients.tiny_guider(name, cfg=2.0, batch=batch), tiny_models.latent(name, 8, 8, batch)


def network_of(wired):
    return wired.model_patcher.model.diffusion_model


class HidesInAPatch:
    """Each way another pack has to put something into a model; `patch` puts a detach there."""

    def attention(self, wired):
        wired.model_patcher.set_model_attn1_patch(lambda q, k, v, options: (q, k.detach(), v.detach()))
        wired.model_options = wired.model_patcher.model_options

    def replaced_attention(self, wired):
        wired.model_options["transformer_options"]["patches_replace"] = {
            "attn1": {("middle", 0): lambda q, k, v, options: v.detach()}
        }

    def model_function(self, wired):
        wired.model_options["model_function_wrapper"] = lambda apply, given: (
            apply(given["input"], given["timestep"], **given["c"]).detach() + 0 * given["input"]
        )

    def guidance(self, wired):
        wired.model_options["sampler_post_cfg_function"] = [lambda args: args["denoised"].detach() + args["input"]]

    def layer(self, wired):
        layer = network_of(wired).out[2]
        forward = layer.forward
        layer.forward = lambda x: forward(x.detach()) + 0 * x.sum()


PATCHES = [name for name in vars(HidesInAPatch) if not name.startswith("_")]


@pytest.mark.parametrize("patch", PATCHES)
def test_what_hides_from_the_gradient_is_found(patch):
    wired, latent = wire()
    getattr(HidesInAPatch(), patch)(wired)
    named = "HidesInAPatch|start ComfyUI" if patch == "layer" else "HidesInAPatch"
    with pytest.raises(RuntimeError, match=rf"model is wrong.*for -?\d+% of a change.*({named}).*cma"):
        gradient(wired, latent)
    gradients.run(wired, "euler", gradients.sigmas(wired, 1), latent, lambda s: s.generate(torch.zeros(s.shape)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_kernel_that_goes_round_the_host_is_found_in_every_precision(memory, dtype, monkeypatch):
    """As SageAttention does, called by another pack: it fills its output where autograd does not look."""

    def sage(q, k, v, heads, *args, **kwargs):
        filled = torch.empty_like(q if q.ndim == 3 else q.transpose(1, 2).flatten(2))
        with torch.no_grad():
            return filled.copy_(attention.attention_pytorch(q, k, v, heads, *args, **kwargs))

    monkeypatch.setattr(attention, "optimized_attention", sage)
    wired, latent = wire()
    network_of(wired).to(dtype)
    network_of(wired).dtype = dtype
    with pytest.raises(RuntimeError, match=r"model is wrong.*%.*--use-pytorch-cross-attention"):
        gradient(wired, latent, memory=memory)


@pytest.mark.parametrize("sampler", ["deis", "ipndm_v"])
def test_a_sampler_that_cuts_a_part_of_the_gradient_is_found_without_the_model(sampler, monkeypatch):
    """As these would be, did their twins not leave out what they detach."""
    monkeypatch.setattr(twins, "SWAPS", {"no_grad": "enable_grad"})
    wired = gradients.small_guider()
    calls = counted(network_of(wired))
    with pytest.raises(RuntimeError, match=rf"sampler sample_{sampler} cuts the gradient.*for \d+%.*euler.*cma"):
        gradient(wired, tiny_models.latent("sd15", 4, 4, 2), sampler, steps=5)
    assert not calls


def sample_in_secret(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Euler of another pack, half of whose steps go round autograd."""
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
        x = x + (x - denoised.data / 2 - denoised / 2) / sigma * (after - sigma)
    return x


def test_a_sampler_of_another_pack_that_cuts_half_the_gradient_is_found():
    with pytest.raises(RuntimeError, match="sampler sample_in_secret cuts the gradient"):
        wired = gradients.small_guider()
        gradient(wired, tiny_models.latent("sd15", 4, 4), comfy.samplers.KSAMPLER(sample_in_secret))


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_vae_that_hides_from_the_gradient_is_found(memory):
    wired, vae = gradients.small_guider(), tiny_models.vae(4)
    decode = vae.first_stage_model.decode
    vae.first_stage_model.decode = lambda x: decode(x.detach() + (x - x.detach()) / 2)
    with pytest.raises(RuntimeError, match=r"VAE is wrong.*for 5\d% of"):
        gradient(wired, tiny_models.latent("sd15", 4, 4), decode=True, vae=vae, memory=memory)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_tiny_models_are_not_accused(name, dtype, found):
    wired, latent = wire(name)
    network_of(wired).to(dtype)
    network_of(wired).dtype = dtype
    gradient(wired, latent)
    assert len(found) == 2 and all(one.right for one in found)


@pytest.mark.parametrize("stored", tiny_quantised.FORMATS)
@pytest.mark.parametrize("name", ["flux_schnell", "sd15"])
def test_quantised_models_are_not_accused(name, stored, found):
    prompts = [tiny_models.conditioning(name, seed, 2) for seed in (0, 1)]
    with torch.inference_mode():
        wired = gradients.guider(tiny_quantised.model(name, stored, torch.bfloat16), *prompts, 2.0)
    gradient(wired, tiny_models.latent(name, 8, 8, 2), memory="fast")
    assert len(found) == 2 and all(one.right for one in found)


@pytest.mark.parametrize("model", demo.MODELS)
def test_the_demo_is_not_accused(model, found):
    patcher, vae, _ = demo.LoadDemo.execute(model).result
    prompt, _ = demo.DemoPrompt.execute(demo.PROMPTS[3]).result
    latent = {"samples": torch.zeros(2, 16, 8, 8)}
    gradient(gradients.guider(patcher, prompt), latent, decode=True, vae=vae)
    assert len(found) == 3 and all(one.right for one in found)


def counted(network):
    """The batches that network is called with from now on."""
    calls, forward = [], network.forward

    def count(x, *args, **kwargs):
        calls.append((len(x), torch.is_grad_enabled()))
        return forward(x, *args, **kwargs)

    network.forward = count
    return calls


def test_the_model_is_probed_once_and_again_with_another_patch():
    wired, latent = gradients.small_guider(), tiny_models.latent("sd15", 4, 4, 2)
    calls = counted(network_of(wired))
    gradient(wired, latent, memory="fast")
    first = len(calls)
    calls.clear()
    gradient(wired, latent, memory="fast")
    assert first - len(calls) == 5 + 2 + 2, "as the module says: it writes in place, which the first run finds out, too"
    plain = len(calls)
    wired.model_options["sampler_post_cfg_function"] = [lambda args: args["denoised"]]
    calls.clear()
    gradient(wired, latent, memory="fast")
    tried = 2 * STEPS + STEPS * (1 + 2)
    assert len(calls) - plain == tried + 2 * (5 + 2) + 1


@pytest.mark.parametrize("memory", ["fast", "low", "auto"])
@pytest.mark.parametrize(("name", "sampler"), [("eps", "dpmpp_sde"), ("eps", "ddim"), ("flux_schnell", "euler")])
def test_the_first_gradient_is_bit_for_bit_that_of_a_run_that_is_not_probed(name, sampler, memory, found):
    """Chunks of another size round otherwise: a run measures for itself how many samples fit."""
    wired, latent = wire(name, 3) if name in tiny_models.ARCHITECTURES else (
        gradients.small_guider(name, batch=3), tiny_models.latent("sd15", 4, 4, 3)
    )  # fmt: skip
    state = torch.manual_seed(1).get_state()
    first = gradient(wired, latent, sampler, memory=memory)
    assert len(found) == 2 and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(gradient(wired, latent, sampler, memory=memory), first) and len(found) == 2


def test_a_network_that_keeps_a_state_is_not_accused_of_a_wrong_gradient(found):
    """What it gives for one input depends on what it saw before: no difference tells its derivative."""
    wired, latent = gradients.small_guider(), tiny_models.latent("sd15", 4, 4)
    network, seen = network_of(wired), []
    forward = network.forward

    def remembers(*args, **kwargs):
        out = forward(*args, **kwargs)
        before = torch.stack(seen).mean(0) if seen else 0.0
        seen.append(out.detach())
        return out + 0.5 * before

    network.forward = remembers
    gradient(wired, latent, memory="fast")
    assert found[0].right and found[1] is None


def test_a_patch_that_keeps_something_from_call_to_call_is_not_judged_by_single_calls(found):
    wired, latent = wire()
    kept = {}

    def deep_cache(h, skip, options):
        if options["sigmas"][0] == options["sample_sigmas"][0]:
            kept[options["block"]] = h
        return 0.5 * (h + kept[options["block"]]), skip

    wired.model_patcher.set_model_output_block_patch(deep_cache)
    wired.model_options = wired.model_patcher.model_options
    gradient(wired, latent)
    assert len(found) == 1, "of the sampler"


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_patch_that_remembers_the_last_step_begins_anew_after_the_probe(memory):
    """As core's APG does with momentum: it would hold the graph of the probe, and go on from its steps."""
    wired, latent = gradients.small_guider(), tiny_models.latent("sd15", 4, 4)
    (patched,) = nodes_apg.APG.execute(wired.model_patcher, 1.0, 5.0, 0.5).result
    wired = gradients.guider(patched, *(tiny_models.conditioning("sd15", seed) for seed in (0, 1)), 2.0)
    first = gradient(wired, latent, memory=memory)
    assert torch.equal(gradient(wired, latent, memory=memory), first)


def test_cancel_is_heard_while_the_model_is_probed():
    wired, latent = gradients.small_guider(), tiny_models.latent("sd15", 4, 4)
    network = network_of(wired)
    forward, calls = network.forward, []

    def cancel_at_the_third(*args, **kwargs):
        calls.append(None)
        comfy.model_management.interrupt_current_processing(len(calls) == 3)
        return forward(*args, **kwargs)

    network.forward = cancel_at_the_third
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        gradient(wired, latent)
    assert len(calls) == 3 and not comfy.model_management.in_training
    comfy.model_management.interrupt_current_processing(False)


def test_it_does_not_hold_a_model_that_is_gone():
    wired, latent = gradients.small_guider(), tiny_models.latent("sd15", 4, 4)
    gradient(wired, latent)
    model = weakref.ref(wired.model_patcher.model)
    assert model() in probing._passed
    del wired
    gc.collect()
    assert model() is None
