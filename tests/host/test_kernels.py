"""Kernels without a derivative stay out of gradients, whoever asks for them, and serve plain sampling as before."""

import sys

import comfy.cli_args
import comfy.controlnet
import comfy_kitchen
import host_gradients as gradients
import pytest
import tiny_controlnets
import tiny_models
import torch
from comfy.ldm.modules import attention
from comfy.ldm.modules.attention import optimized_attention

from noise_optimize.nodes.host.kernels import differentiable

STEPS = 2


def unseen(q, k, v, scale=None, attn_mask=None):
    """Attention (B, H, N, D) as SageAttention computes it: right values, filled in where autograd does not look."""
    filled = torch.empty_like(q)
    with torch.no_grad():
        filled.copy_(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale))
    return filled


def sageattn(q, k, v, is_causal, tensor_layout, sm_scale, smooth_k, attn_mask=None):
    if tensor_layout == "HND":
        return unseen(q, k, v, sm_scale, attn_mask)
    return unseen(*(t.transpose(1, 2) for t in (q, k, v)), sm_scale, attn_mask).transpose(1, 2)


def flash_attn_func(q, k, v, dropout_p, causal, softmax_scale):
    return unseen(*(t.transpose(1, 2) for t in (q, k, v)), softmax_scale).transpose(1, 2)


@pytest.fixture
def kernels(monkeypatch):
    """Stand-ins for packages that need a GPU, beneath the host's own attention functions."""
    kitchen = {
        "int8_attention": unseen,
        "prequantize_int8_attention": lambda q, k, v, scale, attn_mask: (q, k, v, scale, attn_mask),
        "int8_attention_from_prequantized": lambda quantized: unseen(*quantized),
    }
    for name, function in kitchen.items():
        monkeypatch.setattr(comfy_kitchen, name, function)
    monkeypatch.setattr(attention, "sageattn", sageattn, raising=False)
    monkeypatch.setattr(attention, "SAGE_ATTENTION_SUPPORTS_MASK", True, raising=False)
    monkeypatch.setattr(attention, "flash_attn_func", flash_attn_func, raising=False)
    return ("attention_sage", "attention_flash", "attention_comfy_kitchen_int8")


@pytest.fixture
def start_with(kernels, monkeypatch):
    """What a start of the host with a flag for another attention leaves: every model has it by name."""

    def bind(kernel):
        for module in [module for name, module in sys.modules.items() if name.startswith("comfy")]:
            for name in {"optimized_attention", "optimized_attention_masked"} & set(vars(module)):
                monkeypatch.setattr(module, name, getattr(attention, kernel))
        monkeypatch.setitem(globals(), "optimized_attention", getattr(attention, kernel))

    return bind


class Forgetful(gradients.TwoLayers):
    """Calls attention by the name it imported, without options, as several of the host's models and many packs do."""

    def forward(self, x, timesteps, context=None, **options):
        tokens = (3 * x).flatten(2).transpose(1, 2)
        mixed = optimized_attention(tokens, tokens, tokens, 2).transpose(1, 2).view_as(x)
        return super().forward(x + mixed, timesteps, context)


def wire(name, batch=2):
    if name != "forgetful":
        return gradients.tiny_guider(name, cfg=2.0, batch=batch), tiny_models.latent(name, 4, 4, batch)
    wired = gradients.small_guider("flow", batch=batch)
    wired.model_patcher.model.diffusion_model = tiny_models.randomise(Forgetful()).requires_grad_(False)
    return wired, tiny_models.latent("sd15", 4, 4, batch)


def error(wired, latent, **settings):
    """Of the gradient against finite differences of plain sampling, with the user's kernel in it."""

    def body(session):
        return gradients.relative_error(session, torch.float32, 3e-2)

    return gradients.run(wired, "euler", gradients.sigmas(wired, STEPS), latent, body, **settings)


def gradient(wired, noise, latent, **settings):
    def body(session):
        latents = session.generate(leaf := noise.clone().requires_grad_())
        weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
        return torch.autograd.grad((latents * weight).sum(), leaf)[0]

    return gradients.run(wired, "euler", gradients.sigmas(wired, STEPS), latent, body, **settings)


@pytest.mark.parametrize("kernel", ["attention_sage", "attention_flash", "attention_comfy_kitchen_int8"])
@pytest.mark.parametrize("name", ["flux_schnell", "sd15", "forgetful"])
def test_a_kernel_chosen_by_flag_does_not_reach_the_gradient(name, kernel, start_with):
    start_with(kernel)
    assert error(*wire(name)) < 1e-2


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_an_override_of_another_pack_serves_plain_sampling_and_not_the_gradient(memory):
    calls = []

    def override(kernel, q, k, v, heads, *args, **kwargs):
        calls.append(torch.is_grad_enabled())
        return attention.attention_pytorch(q, k, v, heads, *args, **kwargs).detach()

    wired, latent = wire("flux_schnell")
    noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator())
    without = gradient(wired, noise, latent, memory=memory)
    wired.model_options["transformer_options"]["optimized_attention_override"] = override
    assert (gradient(wired, noise, latent, memory=memory) - without).norm() < 1e-5 * without.norm() and not any(calls)
    assert error(wired, latent, memory=memory) < 1e-2
    calls.clear()
    gradients.run(wired, "euler", gradients.sigmas(wired, STEPS), latent, lambda session: session.generate(noise))
    assert len(calls) == STEPS * 2, "both blocks of both steps"


@pytest.mark.parametrize("watched", [False, True], ids=["deferred", "where another pack may look"])
def test_a_kernel_does_not_reach_the_gradient_through_a_controlnet(watched, start_with):
    wired, latent = tiny_controlnets.wire("sd15", batch=2)
    if watched:
        wired.model_options["model_function_wrapper"] = lambda apply, given: apply(
            given["input"], given["timestep"], **given["c"]
        )
    noise = torch.randn(latent["samples"].shape, generator=tiny_models.generator())
    start_with("attention_pytorch")
    without = gradient(wired, noise, latent)
    start_with("attention_sage")
    assert (gradient(wired, noise, latent) - without).norm() < 1e-5 * without.norm()


def heads(seed=0, batch=2, tokens=5, width=8):
    source = tiny_models.generator(seed)
    return [torch.randn(batch, tokens, width, generator=source, requires_grad=True) for _ in range(3)]


def test_every_attention_function_of_the_host_has_a_derivative_while_differentiating(kernels):
    """However it is called: newer hosts call the one that a checkpoint asks for from within."""
    expected = torch.autograd.grad(attention.attention_pytorch(*(qkv := heads()), 2).square().sum(), qkv)
    for name in kernels:
        kernel = getattr(attention, name)
        for inside in ({}, {"_inside_attn_wrapper": True}):
            for contained in (list, lambda qkv: [attention.AttentionTensorContainer(t) for t in qkv]):
                qkv = heads()
                with differentiable():
                    grads = torch.autograd.grad(kernel(*contained(qkv), 2, **inside).square().sum(), qkv)
                assert all(torch.allclose(g, e, atol=1e-6) for g, e in zip(grads, expected, strict=True)), name


def test_afterwards_the_kernels_are_the_users_again(kernels, monkeypatch):
    monkeypatch.setattr(comfy.cli_args.args, "disable_comfy_compiler", False, raising=False)
    rotation = comfy_kitchen.apply_rope
    for fails in (False, True):
        try:
            with differentiable():
                assert comfy.cli_args.args.disable_comfy_compiler and comfy.model_management.in_training
                with differentiable():
                    pass
                assert comfy.model_management.in_training, "one within another"
                assert attention.attention_sage(*heads(), 2).requires_grad
                if fails:
                    raise KeyError
        except KeyError:
            pass
        assert not comfy.cli_args.args.disable_comfy_compiler and not comfy.model_management.in_training
        assert not attention.attention_sage(*heads(), 2).requires_grad
        assert attention.attention_comfy_kitchen_int8.container_function is not None
        assert comfy_kitchen.apply_rope is rotation


def test_a_host_without_a_compiler_gets_no_switch_for_it(monkeypatch):
    monkeypatch.delattr(comfy.cli_args.args, "disable_comfy_compiler", raising=False)
    with differentiable():
        assert not hasattr(comfy.cli_args.args, "disable_comfy_compiler")


@torch.library.custom_op("noise_optimize_tests::no_formula", mutates_args=())
def no_formula(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


LIBRARY = torch.library.Library("noise_optimize_tests", "FRAGMENT")
LIBRARY.define("no_autograd_kernel(Tensor x) -> Tensor")
LIBRARY.impl("no_autograd_kernel", lambda x: x.clone(), "CPU")


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()


def write_into_a_chunk(x):
    first, _ = x.clone().chunk(2, 1)
    first += 1
    return x


OPERATORS = {
    "no_formula": no_formula,
    "no_autograd_kernel": torch.ops.noise_optimize_tests.no_autograd_kernel,
    "backward": NoBackward.apply,
    "nextafter": lambda x: torch.nextafter(x, x + 1),
    "Float8": lambda x: (x.to(torch.float8_e4m3fn) * 2).float(),
    "numpy": lambda x: torch.from_numpy(x.numpy()),
    "out=": lambda x: torch.exp(x, out=torch.empty_like(x)),
    "inplace": write_into_a_chunk,
}


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("names", OPERATORS)
def test_an_operator_without_a_derivative_is_one_sentence(names, memory):
    wired, latent = gradients.small_guider(), tiny_models.latent("sd15", 4, 4)
    network = wired.model_patcher.model.diffusion_model
    forward = network.forward
    network.forward = lambda *args, **kwargs: OPERATORS[names](forward(*args, **kwargs))
    with pytest.raises(RuntimeError, match=f"cannot be differentiated.*{names}.*cma") as raised:
        error(wired, latent, memory=memory)
    assert str(raised.value).count("\n") == 0 and len(str(raised.value)) < 400
