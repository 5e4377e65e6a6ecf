"""A model whose weights do not lie ready: loaded in part, patched on the fly, stored in fewer bits than it computes in.

There is no second device here, so weights only say that they lie elsewhere. The host believes them, and its own code
brings them in: through two streams' buffers in turn, each overwritten by the next layer but one, as it does by default
on a GPU.
"""

import contextlib

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import host_gradients as gradients
import pytest
import tiny_controlnets
import tiny_models
import torch
from comfy.controlnet import ControlLoraOps

STEPS = 2
SHARE = 0.3  # of the model's size may be loaded
CONTROL_LORA = (ControlLoraOps.Linear, ControlLoraOps.Conv2d)


class Stream:
    def wait_stream(self, other):
        pass

    synchronize = wait_stream

    @staticmethod
    def as_context(stream):
        return contextlib.nullcontext()


class Elsewhere(torch.nn.Parameter):
    @property
    def device(self):
        return torch.device("meta")


@pytest.fixture
def streams(monkeypatch):
    """Two streams of the host for asynchronous offloading; the list counts what was brought."""
    pair, brought = (Stream(), Stream()), []

    def take(device):
        brought.append(device)
        return pair[len(brought) % 2]

    monkeypatch.setattr(comfy.model_management, "get_offload_stream", take)
    yield brought
    for stream in pair:
        comfy.model_management.STREAM_CAST_BUFFERS.pop(stream, None)


def wire(name, lora=False, partly=False):
    wired = gradients.tiny_guider(name, 2.0, batch=2)
    patcher = wired.model_patcher
    if lora:
        weights = {key: value for key, value in patcher.model.state_dict().items() if value.ndim > 1}
        source = tiny_models.generator(9)
        patches = {key: ("diff", (torch.randn(w.shape, generator=source) * 0.05,)) for key, w in weights.items()}
        patcher.add_patches(patches, 0.7)
    if partly:
        load = patcher.load

        def load_in_part(device_to=None, **_):
            load(device_to, lowvram_model_memory=SHARE * patcher.model_size())
            for module in offloaded(patcher.model):
                for key, weight in module._parameters.items():
                    if weight is not None:
                        module._parameters[key] = Elsewhere(weight.data, requires_grad=False)

        patcher.load = load_in_part
    return wired


def offloaded(model):
    return [module for module in model.modules() if getattr(module, "comfy_cast_weights", False)]


def gradient(wired, name, memory):
    """The gradient, and the bytes that the graph of one sample in one step takes, where they were measured."""

    def body(session):
        noise = torch.randn(session.shape, generator=tiny_models.generator()).requires_grad_()
        latents = session.generate(noise)
        weight = torch.randn(latents.shape, generator=tiny_models.generator(1))
        return torch.autograd.grad((latents * weight).sum(), noise)[0], session.memory.model.per_sample

    latent = tiny_models.latent(name, 4, 4, batch=2)
    return gradients.run(wired, "euler", gradients.sigmas(wired, STEPS), latent, body, memory=memory)


@pytest.mark.parametrize("lora", [False, True], ids=["", "lora"])
@pytest.mark.parametrize("name", ["flux_schnell", "sd15"])
@pytest.mark.parametrize("memory", ["low", "fast"])
def test_a_model_that_is_loaded_in_part_has_the_gradient_of_the_whole(streams, name, memory, lora):
    whole, room = gradient(wire(name, lora), name, memory)
    assert not streams
    wired = wire(name, lora, partly=True)
    part, kept = gradient(wired, name, memory)
    model = wired.model_patcher.model
    assert model.model_lowvram and len(offloaded(model)) > 10 and streams
    assert bool(model.lowvram_patch_counter) == lora, "LoRA is applied on the fly"
    assert (part - whole).norm() < 1e-5 * whole.norm()
    assert room is None or kept <= room, "the graph holds none of the weights that did not fit"
    assert not any("forward_comfy_cast_weights" in vars(module) for module in model.modules())


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_the_gradient_of_a_model_that_is_loaded_in_part_is_that_of_finite_differences(streams, memory):
    wired = wire("sd15", lora=True, partly=True)
    error = gradients.run(
        wired,
        "euler",
        gradients.sigmas(wired, STEPS),
        tiny_models.latent("sd15", 4, 4, batch=2),
        lambda session: gradients.relative_error(session, torch.float32, 3e-2),
        memory=memory,
    )
    assert error < 1e-2


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_a_control_lora_on_a_model_that_is_loaded_in_part_has_the_gradient_of_the_whole(streams, memory, monkeypatch):
    """It shares the weights of the model, wherever they lie."""
    wired, _ = tiny_controlnets.wire("sd15", batch=2, make=tiny_controlnets.control_lora)
    whole, room = gradient(wired, "sd15", memory)
    control, layers = tiny_controlnets.control_of(wired), []
    build = control.pre_run

    def pre_run(*args):
        build(*args)
        layers[:] = [m for m in control.control_model.modules() if isinstance(m, CONTROL_LORA)]
        for layer in layers:
            layer.weight = Elsewhere(layer.weight.data, requires_grad=False)

    monkeypatch.setattr(control, "pre_run", pre_run)
    part, kept = gradient(wired, "sd15", memory)
    assert len(layers) > 10 and streams
    assert (part - whole).norm() < 1e-5 * whole.norm()
    _, ordinary = gradient(tiny_controlnets.wire("sd15", batch=2)[0], "sd15", memory)
    assert room is None or kept <= room <= ordinary, "the graph holds no weights"
    assert not any("forward" in vars(layer) for layer in layers)


class Packed(torch.Tensor):
    """A weight of 8 bits that says it has the shape of the whole, and copies as little as it can."""

    @staticmethod
    def of(weight):
        scale = weight.abs().amax(1, keepdim=True) / 127
        packed = (weight / scale).round().to(torch.int8).as_subclass(Packed)
        packed.scale = scale
        return packed

    def to(self, *args, **kwargs):
        return self

    def clone(self, *args, **kwargs):
        return self

    def detach(self):
        return self

    def unpacked(self, dtype):
        return self.as_subclass(torch.Tensor).to(dtype) * self.scale.to(dtype)


class PackedOps(comfy.ops.manual_cast):
    """Layers as another pack quantises them: unpacked for each call, in the method that the host calls to cast."""

    class Linear(comfy.ops.manual_cast.Linear):
        def forward_comfy_cast_weights(self, input):
            if not isinstance(self.weight, Packed):
                return super().forward_comfy_cast_weights(input)
            return torch.nn.functional.linear(input, self.weight.unpacked(input.dtype), self.bias)


def model(stored, computed=None, operations=None):
    """A guider with the tiny SD 1.5, its weights rounded to half precision."""
    row = tiny_models.ARCHITECTURES["sd15"]
    config = getattr(comfy.supported_models, row.model)(row.network)
    config.set_inference_dtype(stored, computed)
    config.custom_operations = operations
    network = config.get_model({}).eval()
    tiny_models.randomise(network.diffusion_model)
    for weight in network.diffusion_model.parameters():
        weight.data = weight.data.half().to(stored)
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.CoreModelPatcher(network, load_device=device, offload_device=device)
    return gradients.guider(patcher, *(tiny_models.conditioning("sd15", seed, 2) for seed in (0, 1)), 2.0)


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_weights_that_are_stored_in_half_precision_are_not_kept_in_single(memory):
    single, room = gradient(model(torch.float32), "sd15", memory)
    half, kept = gradient(model(torch.float16, torch.float32), "sd15", memory)
    assert (half - single).norm() < 1e-5 * single.norm()
    assert room is None or kept <= room


@pytest.mark.parametrize("memory", ["low", "fast"])
def test_quantised_weights_that_another_pack_unpacks_for_each_call_are_not_kept_unpacked(memory):
    whole = model(torch.float32)
    with torch.inference_mode():
        packed = model(torch.float32, operations=PackedOps)
        layers = [m for m in packed.model_patcher.model.modules() if isinstance(m, PackedOps.Linear)]
        references = [m for m in whole.model_patcher.model.modules() if isinstance(m, torch.nn.Linear)]
        for layer, reference in zip(layers, references, strict=True):
            layer.weight = torch.nn.Parameter(Packed.of(layer.weight.data), requires_grad=False)
            reference.weight = torch.nn.Parameter(layer.weight.unpacked(torch.float32), requires_grad=False)
    assert len(layers) > 10 and all(type(layer.weight) is Packed for layer in layers)
    expected, room = gradient(whole, "sd15", memory)
    grad, kept = gradient(packed, "sd15", memory)
    assert (grad - expected).norm() < 1e-5 * expected.norm()
    assert room is None or kept <= room
    assert all(type(layer.weight) is Packed for layer in layers), "the same tensors are back"
