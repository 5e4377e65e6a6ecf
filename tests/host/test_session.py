"""A session gives what the host gives, a gradient besides, and leaves nothing behind."""

import types
import weakref

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy_extras.nodes_custom_sampler
import host_gradients as gradients
import pytest
import tiny_models
import torch
from memory import live_bytes

from noise_optimize.nodes.host.wires import DifferentiableSampler

STEPS = 2


class Noise:
    seed = gradients.SEED

    def generate_noise(self, latent):
        return comfy.sample.prepare_noise(latent["samples"], self.seed, latent.get("batch_index"))


def ordinary(guider, sampler, sigmas, latent):
    """What SamplerCustomAdvanced makes of these wires, as the host runs it."""
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    with torch.inference_mode():
        node = comfy_extras.nodes_custom_sampler.SamplerCustomAdvanced
        return node.execute(Noise(), guider, sampler, sigmas, latent)[0]["samples"].clone()


def make(name="flux_schnell", cfg=1.0, batch=3, steps=STEPS, prompts=1):
    """Guider, sigmas and latent as earlier nodes of a graph hand them over: made in inference mode."""
    with torch.inference_mode():
        wired = gradients.tiny_guider(name, cfg, prompts) if name in tiny_models.ARCHITECTURES else (
            gradients.small_guider(name, cfg, prompts)
        )  # fmt: skip
        latent = tiny_models.latent(name if name in tiny_models.ARCHITECTURES else "sd15", 4, 4, batch)
        return wired, gradients.sigmas(wired, steps).clone(), {"samples": latent["samples"].clone()}


def gradient_of(session):
    noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
    latents = session.generate(noise)
    weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
    return torch.autograd.grad((latents * weight).sum(), noise)[0]


def plain_of(session, latent):
    with torch.no_grad():
        return session.generate(Noise().generate_noise(latent))


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_sde", "heunpp2", "ddim"])
def test_without_gradient_it_samples_bit_for_bit_as_the_host(sampler):
    """Image to image with a mask, a prompt per sample; heunpp2 and ddim draw from the global random state."""
    wired, sigmas, latent = make("eps", cfg=2.0, prompts=3)
    latent["samples"] = torch.randn(latent["samples"].shape, generator=tiny_models.generator(2))
    latent["noise_mask"] = (torch.rand(3, 1, 32, 32, generator=tiny_models.generator(2)) > 0.5).float()
    expected = ordinary(wired, sampler, sigmas[1:], latent)
    for wrapped in (False, True):
        again = DifferentiableSampler(comfy.samplers.sampler_object(sampler)) if wrapped else sampler
        noise, state = Noise().generate_noise(latent), torch.manual_seed(1).get_state()
        first, second = gradients.run(
            wired, again, sigmas[1:], latent, lambda s, z=noise: [s.generate(z) for _ in range(2)]
        )
        assert torch.equal(first, expected) and torch.equal(second, expected)
        assert torch.equal(torch.get_rng_state(), state), "the host's random state is as before"
    assert torch.equal(ordinary(wired, again, sigmas[1:], latent), expected)


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde", "lcm", "heunpp2", "euler"])
@pytest.mark.parametrize("indices", [[2], [2, 0]])
def test_a_sample_is_the_same_whichever_samples_it_is_computed_with(sampler, indices):
    """Prompts, masks and the noise that the sampler injects belong to the sample."""
    wired, sigmas, latent = make("eps", cfg=2.0, prompts=3)
    latent["noise_mask"] = (torch.rand(3, 1, 32, 32, generator=tiny_models.generator(2)) > 0.5).float()
    noise = Noise().generate_noise(latent)

    def some(session):
        with torch.no_grad():
            return session.generate(noise[indices])

    whole = ordinary(wired, sampler, sigmas, latent)[indices]
    part = gradients.run(wired, sampler, sigmas, latent, some, members=(indices, 3))
    torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-5)
    grads = gradients.run(wired, sampler, sigmas, latent, gradient_of, members=(indices, 3))
    assert grads.shape == noise[indices].shape and grads.abs().sum() > 0


@pytest.mark.parametrize("name", ["flux_schnell", "eps"])
@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "lcm"])
def test_low_and_fast_have_the_same_gradient_in_any_chunk(name, sampler):
    wired, sigmas, latent = make(name, cfg=2.0, batch=4, prompts=4)
    kept = gradients.run(wired, sampler, sigmas, latent, gradient_of, memory="fast")
    for chunk in (1, 2, 4):

        def body(session, chunk=chunk):
            session.memory.model.per_sample = 1
            session.memory.model.limit = chunk
            return gradient_of(session)

        low = gradients.run(wired, sampler, sigmas, latent, body, memory="low")
        assert (low - kept).norm() < 1e-5 * kept.norm(), chunk


@pytest.mark.parametrize(("memory", "passes"), [("fast", 1), ("low", 2)])
def test_what_a_model_writes_in_place_is_learned_in_its_first_session_alone(memory, passes):
    wired, sigmas, latent = make("flux_schnell")
    network = wired.model_patcher.model.diffusion_model
    calls, forward = [], network.forward
    network.forward = lambda x, *args, **kwargs: calls.append(len(x)) or forward(x, *args, **kwargs)
    found = [gradients.run(wired, "euler", sigmas, latent, gradient_of, memory=memory)]
    assert sum(calls) > passes * STEPS * len(found[0]), "the first finds out what it writes"
    calls.clear()
    found.append(gradients.run(wired, "euler", sigmas, latent, gradient_of, memory=memory))
    measured = memory == "low"  # one sample's memory, by each session
    assert sum(calls) == passes * STEPS * len(found[0]) + measured and torch.equal(*found)


def test_auto_starts_low_and_keeps_the_graph_once_it_knows_that_it_fits():
    wired, sigmas, latent = make("eps")

    def body(session, limit):
        session.memory.model.limit = limit
        chosen = []
        for _ in range(3):
            gradient_of(session)
            chosen.append(session.memory.mode)
        return chosen

    def choice(limit):
        return gradients.run(wired, "euler", sigmas, latent, lambda s: body(s, limit))

    assert choice(10**9) == ["auto", "fast", "fast"] and choice(1) == ["auto", "low", "low"]


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("channels", [4, 16])
def test_pictures_are_those_of_the_vae_and_carry_gradient(memory, channels):
    name = "sd15" if channels == 4 else "flux_schnell"
    wired, sigmas, latent = make(name, batch=2)
    with torch.inference_mode():
        vae = tiny_models.vae(channels)

    def body(session):
        with torch.no_grad():
            latents = plain_of(session, latent)
        return latents, session.decode(latents)

    latents, pictures = gradients.run(wired, "euler", sigmas, latent, body, vae=vae, memory=memory)
    with torch.inference_mode():
        expected = vae.decode(latents)
    assert torch.equal(pictures.movedim(1, -1), expected)


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_the_gradient_through_decoder_and_clamp_is_that_of_finite_differences(memory):
    wired, vae, latent = gradients.small_guider("flow"), tiny_models.vae(4), tiny_models.latent("sd15", 4, 4, 2)
    vae.first_stage_model.double()
    vae.vae_dtype, vae.vae_output_dtype = torch.float64, lambda: torch.float64

    def body(session):
        return gradients.relative_error(session, torch.float64, 1e-6, decode=True)

    with gradients.double_precision(wired):
        sigmas = gradients.sigmas(wired, STEPS).double()
        assert gradients.run(wired, "euler", sigmas, latent, body, vae=vae, memory=memory) < 1e-6


def snapshot(wired):
    return {name: p.clone() for name, p in wired.model_patcher.model.state_dict().items()}


class Stop(Exception):
    pass


def stop(error):
    def body(session):
        grad = gradient_of(session)
        raise error or Stop(grad)

    return body


def cancel(session):
    noise = torch.randn(session.shape).requires_grad_()
    latents = session.generate(noise)
    comfy.model_management.interrupt_current_processing()
    latents.sum().backward()


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (gradient_of, None),
        (stop(None), Stop),
        (stop(torch.OutOfMemoryError("simulated")), torch.OutOfMemoryError),
        (cancel, comfy.model_management.InterruptProcessingException),
    ],
    ids=["success", "exception", "out of memory", "cancel"],
)
def test_nothing_is_left_behind(body, error, memory):
    if body is cancel and memory == "fast":

        def body(s):
            return (comfy.model_management.interrupt_current_processing(), gradient_of(s))

    wired, sigmas, latent = make()
    before, weights = ordinary(wired, "euler", sigmas, latent), snapshot(wired)
    parameters = {name: id(p) for name, p in wired.model_patcher.model.named_parameters()}
    with torch.inference_mode():
        if error is None:
            gradients.run(wired, "euler", sigmas, latent, body, memory=memory)
        else:
            with pytest.raises(error):
                gradients.run(wired, "euler", sigmas, latent, body, memory=memory)
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    assert not comfy.model_management.in_training
    comfy.model_management.interrupt_current_processing(False)
    after = wired.model_patcher.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())
    assert parameters == {name: id(p) for name, p in wired.model_patcher.model.named_parameters()}
    assert torch.equal(ordinary(wired, "euler", sigmas, latent), before)


def test_the_twentieth_run_keeps_no_more_memory_than_the_second():
    wired, sigmas, latent = make()
    live = []
    for _ in range(20):
        gradients.run(wired, "euler", sigmas, latent, gradient_of)
        live.append(live_bytes())
    assert live[19] == live[1], live


def sample_that_remembers(model, x, sigmas, extra_args=None, callback=None, disable=None, **_):
    """Euler of another pack, whose state lies in the options of the model and holds the latest x."""
    state = extra_args["model_options"]["transformer_options"]["state"] = types.SimpleNamespace()
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        x = x + (x - model(x, sigma * x.new_ones(len(x)), **extra_args)) / sigma * (after - sigma)
        state.x = x
    return x


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_sampler_that_remembers_in_the_models_options_keeps_no_memory(memory):
    sampler, live = comfy.samplers.KSAMPLER(sample_that_remembers), []
    for _ in range(4):
        wired, sigmas, latent = make("eps")
        gradients.run(wired, sampler, sigmas, latent, gradient_of, memory=memory)
        model = weakref.ref(wired.model_patcher.model)
        del wired
        live.append(live_bytes())
    assert live[3] == live[1], live
    assert model() is None


def test_weights_of_inference_mode_are_used_where_they_are():
    wired, sigmas, latent = make()
    size = sum(p.nbytes for p in wired.model_patcher.model.parameters())
    before = live_bytes()
    extra = gradients.run(wired, "euler", sigmas, latent, lambda session: live_bytes() - before)
    assert extra < 0.01 * size


@pytest.mark.parametrize("kind", ["parameters", "buffers"])
def test_weights_that_come_again_in_inference_mode_are_made_ready_again(kind):
    """As those of a model that had to make room between two runs."""
    wired, sigmas, latent = make()
    network = wired.model_patcher.model.diffusion_model
    network.register_buffer("gain", torch.ones(()))
    network.register_forward_hook(lambda module, args, output: output * output * module.gain)

    def body(session):
        first = gradient_of(session)
        with torch.inference_mode():
            for module in network.modules():
                for name, tensor in getattr(module, f"_{kind}").items():
                    getattr(module, f"_{kind}")[name] = None if tensor is None else tensor.clone()
        return first, gradient_of(session)

    assert torch.equal(*gradients.run(wired, "euler", sigmas, latent, body, memory="fast"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["flux_schnell", "sd15"])
@pytest.mark.parametrize("memory", ["fast", "low"])
def test_half_precision_gradients_point_the_same_way(name, dtype, memory):
    wired, sigmas, latent = make(name, batch=2)
    exact = gradients.run(wired, "euler", sigmas, latent, gradient_of)
    model = wired.model_patcher.model
    model.diffusion_model.to(dtype)
    model.diffusion_model.dtype = dtype
    for scale in (1.0, 1e-7):
        half = gradients.run(wired, "euler", sigmas, latent, lambda s, k=scale: scaled_gradient(s, k), memory=memory)
        assert half.isfinite().all()
        assert torch.cosine_similarity(half.flatten(), exact.flatten(), 0) > 0.99, scale


def scaled_gradient(session, scale):
    noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
    latents = session.generate(noise)
    weight = torch.randn(latents.shape, generator=tiny_models.generator(1)) * scale
    return torch.autograd.grad((latents * weight).sum(), noise)[0] / scale


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_what_is_foreseen_is_what_the_host_shows_after_that_step(sampler):
    wired, sigmas, latent = make("flow", cfg=2.0, steps=3)
    noise, shown = Noise().generate_noise(latent), []
    with torch.inference_mode():
        samples = wired.sample(
            noise,
            latent["samples"],
            comfy.samplers.sampler_object(sampler),
            sigmas,
            callback=lambda step, x0, x, steps: shown.append(wired.inner_model.process_latent_out(x0)),
            seed=gradients.SEED,
        )

    def body(session):
        return [session.predicted(noise, until).latents for until in (1, 2, 3)]

    foreseen = gradients.run(wired, sampler, sigmas, latent, body)
    assert all(torch.equal(*pair) for pair in zip(foreseen, (*shown[:2], samples), strict=True))


def test_a_sampler_that_tells_no_predictions_is_named():
    sampler = comfy.samplers.KSAMPLER(lambda model, x, *_, **__: x)
    wired, sigmas, latent = make("flow")
    with pytest.raises(RuntimeError, match="does not tell its predictions.*euler"):
        gradients.run(wired, sampler, sigmas, latent, lambda s: s.predicted(torch.zeros(s.shape), 1))


def test_the_preview_has_a_picture_of_each_sample_if_any():
    wired, sigmas, latent = make()
    pictures = gradients.run(wired, "euler", sigmas, latent, lambda s: s.preview(s.generate(torch.zeros(s.shape))))
    assert len(pictures) in (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, s, x: (g, s[:0], x), "sigmas holds no step"),
        (lambda g, s, x: (g, s[:1], x), "sigmas holds no step"),
        (lambda g, s, x: (g, s, {"samples": torch.ones(1, 8, 4, 4)}), "8 channels and this model needs 16.*VAE"),
        (lambda g, s, x: (object(), s, x), "guider: a object cannot be used"),
    ],
)
def test_a_wrong_wire_is_named(change, message):
    guider, sigmas, latent = change(*make())
    with pytest.raises(ValueError, match=message):
        gradients.run(guider, "euler", sigmas, latent, gradient_of)


def test_a_compiled_model_samples_but_has_no_gradient():
    wired, sigmas, latent = make()
    wired.model_patcher.model.diffusion_model._orig_mod = None
    assert gradients.run(wired, "euler", sigmas, latent, lambda s: plain_of(s, latent)).isfinite().all()
    with pytest.raises(ValueError, match="compiled.*TorchCompileModel.*cma"):
        gradients.run(wired, "euler", sigmas, latent, gradient_of)


def test_noise_of_another_size_is_named():
    wired, sigmas, latent = make()
    with pytest.raises(ValueError, match="The noise is"):
        gradients.run(wired, "euler", sigmas, latent, lambda s: s.generate(torch.zeros(1, 16, 2, 2)))


def test_a_model_without_a_derivative_is_named():
    wired, sigmas, latent = make("eps")
    network = wired.model_patcher.model.diffusion_model
    forward = network.forward
    network.forward = lambda x, *args, **kwargs: torch.nextafter(forward(x, *args, **kwargs), x)
    with pytest.raises(RuntimeError, match="cannot be differentiated.*nextafter.*cma"):
        gradients.run(wired, "euler", sigmas, latent, gradient_of)


def test_a_model_that_answers_differently_when_asked_again_is_named():
    wired, sigmas, latent = make("eps")
    network = wired.model_patcher.model.diffusion_model
    forward = network.forward
    source = tiny_models.generator()  # its own: what is drawn from torch's is drawn again
    network.forward = lambda x, *args, **kwargs: forward(x, *args, **kwargs) * torch.rand((), generator=source)
    with pytest.raises(RuntimeError, match="answers differently.*cma"):
        gradients.run(wired, "euler", sigmas, latent, gradient_of, memory="low")
