"""ControlNets of the host, tiny and with random weights, read by its own loader and wired by its own node."""

import gc

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ldm.flux.controlnet
import comfy.model_management
import comfy.ops
import comfy.supported_models
import host_gradients as gradients
import nodes
import pytest
import tiny_models
import torch

STEP = 3e-2
SIZE = 8  # of the latent


def controlnet(name, seed=5):
    """A ControlNet with the sizes of a tiny model; no weight of it is zero, as a trained one's are not."""
    row = tiny_models.ARCHITECTURES[name]
    config = getattr(comfy.supported_models, row.model)(row.network).unet_config
    config = config | {"operations": comfy.ops.disable_weight_init, "dtype": torch.float32}
    if name == "flux_schnell":
        network = comfy.ldm.flux.controlnet.ControlNetFlux(**config | {"mlp_ratio": 4.0})
    else:
        config["hint_channels"] = config.pop("out_channels") - 1
        network = comfy.cldm.cldm.ControlNet(**config)
    weights = tiny_models.randomise(network, seed).state_dict()
    weights = {key.replace("_norm.weight", "_norm.scale"): value for key, value in weights.items()}
    return comfy.controlnet.load_controlnet_state_dict(weights)


def wire(name, pictures=1, batch=3, chain=1, percent=(0.0, 1.0), prompts=None):
    """Guider and latent as earlier nodes of a graph hand them over."""
    with torch.inference_mode():
        positive, negative = (tiny_models.conditioning(name, seed, prompts or batch) for seed in (0, 1))
        apply = nodes.ControlNetApplyAdvanced().apply_controlnet
        for link in range(chain):
            source = tiny_models.generator(20 + link)
            image = torch.rand(pictures if link == 0 else 1, SIZE * 8, SIZE * 8, 3, generator=source)
            positive, negative = apply(positive, negative, controlnet(name, 5 + link), image, 0.8, *percent)
        return gradients.guider(tiny_models.model(name), positive, negative, 2.0), tiny_models.latent(
            name, SIZE, SIZE, batch
        )


def control_of(wired):
    return wired.original_conds["positive"][0]["control"]


def run(wired, latent, body, steps=2, **settings):
    return gradients.run(wired, "euler", gradients.sigmas(wired, steps), latent, body, **settings)


def error(wired, latent, **settings):
    return run(wired, latent, lambda session: gradients.relative_error(session, torch.float32, STEP), **settings)


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
            session._model_budget.per_sample = 1
            session._model_budget.limit = chunk
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


def live_bytes():
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


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


def test_a_picture_for_each_sample_needs_the_whole_set():
    wired, latent = wire("sd15", pictures=3, chain=2, prompts=1)
    with pytest.raises(ValueError, match="ControlNet picture per sample needs the whole set"):
        run(wired, latent, gradient, members=([1], 3))
