"""The gradient where conditionings, ControlNets, LoRAs and patches shape a call of the model, by finite differences."""

import comfy.controlnet
import comfy.lora
import comfy.samplers
import comfy_extras.nodes_model_advanced
import host_gradients as gradients
import pytest
import tiny_models
import torch
from tiny_models import CONTEXT, POOLED, TOKENS

STEP = 3e-2


def prompt(seed, batch=2, **extras):
    source = tiny_models.generator(seed)
    pooled = torch.randn(batch, POOLED, generator=source)
    return [[torch.randn(batch, TOKENS, CONTEXT, generator=source), {"pooled_output": pooled} | extras]]


def error(wired, latent, steps=2, sampler="euler", **settings):
    def body(session):
        return gradients.relative_error(session, torch.float32, STEP)

    settings = {"memory": "low"} | settings
    return gradients.run(wired, sampler, gradients.sigmas(wired, steps), latent, body, **settings)


def sd15(positive, negative=None, cfg=2.0, batch=2):
    wired = gradients.guider(tiny_models.model("sd15"), positive, negative or prompt(1, 1), cfg)
    return wired, tiny_models.latent("sd15", 16, 16, batch)


CONDITIONINGS = {
    "areas": prompt(0, 1, area=(8, 16, 0, 0)) + prompt(2, 1, area=(16, 8, 0, 8), strength=0.7) + prompt(3, 1),
    "masks": prompt(0, 1, mask=(torch.arange(16) < 9).float().expand(1, 16, 16)) + prompt(2, 1),
    "timestep ranges": prompt(0, 1, start_percent=0.0, end_percent=0.5) + prompt(2, 1, start_percent=0.5),
    "prompts of other lengths": [[torch.cat([prompt(0, 1)[0][0]] * 3, 1), prompt(0, 1)[0][1]]],
}


@pytest.mark.parametrize("kind", CONDITIONINGS)
def test_conditioning(kind):
    assert error(*sd15(CONDITIONINGS[kind])) < 1e-2


@pytest.mark.parametrize("shortcut", [True, False])
def test_cfg_of_one_with_and_without_the_hosts_shortcut(shortcut):
    wired, latent = sd15(prompt(0), cfg=1.0)
    if not shortcut:
        wired.model_patcher.model_options["disable_cfg1_optimization"] = True
    assert error(wired, latent) < 1e-2


def test_image_to_image_with_a_mask():
    wired, latent = sd15(prompt(0))
    latent["samples"] = torch.randn(latent["samples"].shape, generator=tiny_models.generator(5))
    latent["noise_mask"] = (torch.arange(16) < 9).float().expand(1, 1, 16, 16)
    assert error(wired, latent, sampler="euler_ancestral") < 1e-2


def test_a_shifted_schedule_and_a_lora():
    wired = gradients.tiny_guider("flux_schnell", batch=2)
    (patched,) = comfy_extras.nodes_model_advanced.ModelSamplingFlux().patch(wired.model_patcher, 1.15, 0.5, 512, 512)
    weight = "diffusion_model.img_in.weight"
    shape = patched.model.state_dict()[weight].shape
    patched.add_patches({weight: ("diff", (torch.full(shape, 0.02),))}, 0.5)
    lora = gradients.guider(patched, prompt(0))
    before = wired.model_patcher.model.state_dict()[weight].clone()
    assert error(lora, tiny_models.latent("flux_schnell", 4, 4, 2)) < 1e-2
    patched.detach()
    assert torch.equal(wired.model_patcher.model.state_dict()[weight], before)


class TinyControl(comfy.controlnet.ControlBase):
    """A ControlNet in all but its network: what it adds depends on x and on the hint."""

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        hint = self.cond_hint_original.mean() * x_noisy.tanh().mean((1, 2, 3))
        return {"middle": [hint[:, None, None, None].expand(-1, 8, 4, 4)], "output": [], "input": []}

    def copy(self):
        copied = TinyControl()
        self.copy_to(copied)
        return copied


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_a_controlnet_that_looks_at_the_latent_is_part_of_the_gradient(memory):
    with torch.inference_mode():
        control = TinyControl()
        control.cond_hint_original = torch.full((1, 3, 32, 32), 0.8)
        positive = prompt(0, 1, control=control, control_apply_to_uncond=True)
        wired = gradients.guider(gradients.small_model(), positive, prompt(1, 1), 2.0)
        latent = tiny_models.latent("sd15", 4, 4, 2)
    assert error(wired, latent, memory=memory) < 1e-2


def test_a_patch_that_looks_at_the_whole_batch_is_not_cut():
    """A patch may hold a tensor for each sample of the batch; taken apart, each sample would get the first."""
    wired = gradients.tiny_guider("sd15", 2.0)
    offsets = torch.linspace(-1, 1, 3)

    def patch(q, k, v, extra):
        layers = len(extra["cond_or_uncond"])
        return q, k, v + offsets[: len(v) // layers].repeat(layers)[:, None, None]

    wired.model_patcher.set_model_attn2_patch(patch)
    wired.model_options = wired.model_patcher.model_options
    assert error(wired, tiny_models.latent("sd15", 8, 8, 3)) < 1e-2


def test_conditioning_with_a_batch_of_its_own_is_not_cut():
    """Two reference pictures for a batch of three belong to all of it."""
    wired = gradients.small_guider("eps")
    model = wired.model_patcher.model
    extra_conds = model.extra_conds

    class Own(comfy.conds.CONDRegular):
        def process_cond(self, batch_size, **_):
            return self

        def concat(self, others):
            return self.cond

    references = torch.randn(2, 4, generator=tiny_models.generator(6))
    model.extra_conds = lambda **kwargs: extra_conds(**kwargs) | {"references": Own(references)}
    network, forward = model.diffusion_model, model.diffusion_model.forward

    def with_references(x, *args, references, **kwargs):
        assert len(references) == 2
        return forward(x, *args, **kwargs) * references.sum().tanh()

    network.forward = with_references
    assert error(wired, tiny_models.latent("sd15", 4, 4, 3)) < 1e-2
