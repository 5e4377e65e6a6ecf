"""The one module that knows ComfyUI's internals: a guider's session in which sampling and decoding carry gradient.

    run_in_session(guider, sampler, sigmas, latent, body)    calls body(session) once the model is loaded
    session.generate(noise)                                  latents, as SamplerCustomAdvanced gives them
    session.decode(latents)                                  pictures, as VAE Decode gives them

The host drops its model when `guider.sample` returns, and a backward pass recomputes with it: so the session is itself
a SAMPLER, and all of the optimisation happens inside its one call.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import comfy.k_diffusion.deis
import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..noise.gradient import VERIFY_TOLERANCE, MemoryBudget, RecomputationError, Writes, recompute, rescaled
from ..noise.inference import normal, normal_tensors
from .differentiable import MemberNoise, Twins

MEMORY = ("auto", "fast", "low")
KEY = "noise_optimize"
REFUSED = {
    "sample_dpm_adaptive": "dpm_adaptive chooses its steps by looking at the picture",
    "sample_ar_video": "ar_video keeps a cache from step to step",
}
GRADIENT_FREE = "or set optimizer to cma in Noise Optimize, which needs no gradient."
NO_GRADIENT = ("derivative for", "not implemented for", "cannot be saved for backward", "does not require grad",
               "autograd kernel")  # fmt: skip
GRADIENT_SHARE = 0.6  # of the memory beside the weights may hold saved activations; the rest is for temporaries
RESERVED_SAMPLES = 8  # when models are loaded, one sample with gradient is taken to need as much as this many without

T = TypeVar("T")


class DifferentiableSampler(comfy.samplers.Sampler):
    """A SAMPLER with settings for its gradient; it samples exactly as the one it wraps."""

    def __init__(self, sampler: comfy.samplers.Sampler, memory: str = "auto", gradient_steps: int = 0) -> None:
        if memory not in MEMORY:
            raise ValueError(f"memory is {memory!r}; choose one of {', '.join(MEMORY)}.")
        if gradient_steps < 0:
            raise ValueError(f"gradient_steps is {gradient_steps}; set 0 for all steps, or how many of the last ones.")
        self.sampler = sampler.sampler if isinstance(sampler, DifferentiableSampler) else sampler
        self.memory, self.gradient_steps = memory, gradient_steps

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.sampler.sample(*args, **kwargs)

    def max_denoise(self, *args: Any) -> bool:
        return self.sampler.max_denoise(*args)


def run_in_session(
    guider: comfy.samplers.CFGGuider,
    sampler: comfy.samplers.Sampler,
    sigmas: Tensor,
    latent: dict[str, Any],
    body: Callable[[Session], T],
    *,
    vae: Any = None,
    seed: int,
    memory: str = "auto",
    gradient_steps: int = 0,
    members: tuple[Sequence[int], int] | None = None,
    networks: Sequence[Any] = (),
    gradient: bool = True,
) -> T:
    """body(session), run inside the guider's sampling; everything is put back on the way out, however that is.

    latent: a LATENT. seed: what the sampler's own noise is drawn from; the same noise in each generate.
    members: (indices, total): the session computes these samples of a set of total, with their prompts, masks and
        injected noise. None: all samples of latent.
    networks: ModelPatchers to keep loaded beside model and VAE, and modules whose weights the graph will use.
    gradient: False says that no gradient will be asked for; the host may then page weights in and out as it likes.
    A DifferentiableSampler brings its own memory and gradient_steps.
    """
    if not isinstance(sampler, DifferentiableSampler):
        sampler = DifferentiableSampler(sampler, memory, gradient_steps)
    _refuse_wires(guider, sigmas)
    samples = _latent_image(guider, latent)
    indices, total = (list(members[0]), members[1]) if members else (list(range(len(samples))), len(samples))
    rng = _random_state(samples, total, seed, latent.get("batch_index"))
    samples = comfy.utils.repeat_to_batch_size(samples, total)[indices]

    loaded = [p for p in (getattr(vae, "patcher", None), *networks) if hasattr(p, "load_device")]
    guider = copy.copy(guider)
    if gradient:
        guider.model_patcher, loaded = _resident(guider.model_patcher), [_resident(p) for p in loaded]
    decoder = loaded[0].model if vae is not None else None
    guider.original_conds = {
        name: [_of_members(cond, indices, total) for cond in conds] for name, conds in guider.original_conds.items()
    }
    for cond in (conds[0] for conds in guider.original_conds.values() if conds):
        cond["additional_models"] = [*cond.get("additional_models", []), *loaded]

    session = Session(sampler, body, vae, decoder, seed, rng, (indices, total), networks)
    mask = _mask_of_members(latent.get("noise_mask"), samples, indices, total)
    try:
        guider.sample(torch.zeros_like(samples), samples, session, sigmas, mask, None, True, seed)
        return session.result
    except RecomputationError as error:
        raise RuntimeError(
            "The model answers differently when it is asked twice (a cache or randomness in a model patch), so it has "
            f"no exact gradient: remove that patch from the model wire, set memory to fast, {GRADIENT_FREE}"
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        if session.differentiating and any(reason in str(error) for reason in NO_GRADIENT):
            raise RuntimeError(
                f"The model or the objective cannot be differentiated ({str(error).splitlines()[0]}): "
                f"wire a model that is neither quantised nor compiled, {GRADIENT_FREE}"
            ) from error
        raise


class Session(comfy.samplers.Sampler):
    """What body gets: an open guider session. `callback(step, x0, x, steps)`, when set, is called at each step."""

    def __init__(
        self,
        sampler: DifferentiableSampler,
        body: Callable[[Session], Any],
        vae: Any,
        decoder: Any,
        seed: int,
        rng: dict[str, Tensor],
        members: tuple[list[int], int],
        networks: Sequence[Any],
    ) -> None:
        self.memory, self.gradient_steps = sampler.memory, sampler.gradient_steps
        self.members, self.seed, self.vae = members, seed, vae
        self.callback: Callable[[int, Tensor, Tensor, int], None] | None = None
        self.differentiating, self.result = False, None
        self._body, self._decoder, self._rng, self._networks = body, decoder, rng, networks
        self._original, self._twin = sampler.sampler, None
        self._chunks_agree: bool | None = None
        self._calls = 0

    # The host calls this once; all else happens inside.
    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self._guider, self.device = guider, noise.device
        self.shape = tuple(noise.shape)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            roots = [vars(guider), self._original, *self._networks]
            if self.vae is not None:
                roots += [self._decoder, vars(self.vae)]
            stack.enter_context(normal_tensors(roots))
            stack.enter_context(_no_silent_fallback())
            self._sigmas, self._latent, self._mask = (
                t if t is None else normal(t) for t in (sigmas, latent_image, denoise_mask)
            )
            self._options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
            for kind, wrapper, options in (
                (WrappersMP.APPLY_MODEL, self._apply_model, self._options),
                (WrappersMP.PREDICT_NOISE, self._predict_noise, guider.model_options),
            ):
                comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, options, is_model_options=True)
            limit = self._memory_limit()
            self._model_budget, self._decoder_budget = MemoryBudget(limit), MemoryBudget(limit)
            self._sampler_writes, self._model_writes, self._decoder_writes = Writes(), Writes(), Writes()
            try:
                self.result = self._body(self)
            finally:
                self._guider = self._twin = self._latent = self._mask = self._options = self._body = None
        return noise

    def generate(self, noise: Tensor) -> Tensor:
        """The sampled latents (B, C, ...) of noise of that shape, float32, as SamplerCustomAdvanced gives them.

        Differentiable where noise asks for a gradient and grad mode is on; else bit-identical to the host's.
        """
        if tuple(noise.shape) != self.shape:
            raise ValueError(f"The noise is {tuple(noise.shape)}, the latent_image {self.shape}; give both one size.")
        self.differentiating = torch.is_grad_enabled() and noise.requires_grad
        subset = self.members[0] != list(range(self.members[1]))
        if self.differentiating:
            _refuse_gradient(self._guider.model_patcher, self._original)
            self._choose_memory()
        sampler = self._sampler() if self.differentiating or subset else self._original

        def run(noise: Tensor) -> Tensor:
            self._calls = 0
            noise = noise.to(self.device, torch.promote_types(noise.dtype, torch.float32))
            options = comfy.model_patcher.create_model_options_clone(self._options)
            latents = sampler.sample(
                self._guider,
                self._sigmas.clone(),
                {"model_options": options, "seed": self.seed},
                self._on_step,
                noise,
                self._latent,
                self._mask,
                True,
            )
            return self._guider.inner_model.process_latent_out(latents.to(noise.dtype))

        with self._fixed_randomness() as start:
            if self.differentiating:
                latents = self._sampler_writes(lambda noise: start() or run(noise), noise)
            else:
                with torch.no_grad():
                    latents = run(noise)
        if self.differentiating and not latents.requires_grad:
            raise RuntimeError(
                f"The sampler {_name(self._original)} cuts the gradient"
                + (f" with gradient_steps at {self.gradient_steps}: set it to 0" if self.gradient_steps else "")
                + f"; wire another sampler, such as euler, {GRADIENT_FREE}"
            )
        return latents.to(comfy.model_management.intermediate_device())

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) in 0..1 of latents, as VAE Decode gives them; of a video the middle frame."""
        if self.vae is None:
            raise ValueError("Pictures are needed: wire a VAE to vae.")
        vae = self.vae
        if vae.latent_dim == 2 and latents.ndim == 5:
            latents = latents[:, :, 0]
        network = self._decoder
        differentiable = torch.is_grad_enabled() and latents.requires_grad

        def pictures(latents: Tensor) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            with _training(differentiable):
                decoded = network.decode(latents.to(vae.device, vae.vae_dtype))
            decoded = vae.process_output(decoded.to(vae.output_device, vae.vae_output_dtype(), copy=True)).float()
            return decoded[:, :3] if decoded.ndim == 4 else decoded[:, :3, decoded.shape[2] // 2]

        if not differentiable:
            needed = vae.memory_used_decode(latents.shape, vae.vae_dtype)
            chunk = max(1, int(vae.patcher.get_free_memory(vae.device) / needed))
            with torch.no_grad():
                return recompute(pictures, latents, chunk=chunk)
        if self.memory == "fast":
            return self._decoder_writes(lambda latents: rescaled(pictures, latents), latents)
        return recompute(pictures, latents, chunk=self._decoder_budget, writes=self._decoder_writes)

    def preview(self, latents: Tensor) -> list[Any]:
        """A small PIL picture of each sample of latents, by the host's own latent preview; [] where it has none."""
        import latent_preview

        model = self._guider.inner_model
        previewer = latent_preview.get_previewer(self.device, model.latent_format)
        if previewer is None:
            return []
        with torch.no_grad():
            x0 = model.process_latent_in(latents.detach().to(self.device))
            return [previewer.decode_latent_to_preview_image("JPEG", x0[i : i + 1])[1] for i in range(len(x0))]

    # How the model is called

    def _predict_noise(self, executor, x, timestep, *args, **kwargs):
        comfy.model_management.throw_exception_if_processing_interrupted()
        last = self._sigmas[-1 - self.gradient_steps] if 0 < self.gradient_steps < len(self._sigmas) else math.inf
        frozen = bool(timestep.max() > last * (1 + 1e-6))
        with torch.no_grad() if frozen else contextlib.nullcontext():
            return executor(x, timestep, *args, **kwargs)

    def _apply_model(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **conds
    ):
        transformer_options = transformer_options or {}
        fixed = {"c_concat": c_concat, "c_crossattn": c_crossattn, "control": control}
        if not (torch.is_grad_enabled() and x.requires_grad):
            return executor(x, t, *fixed.values(), transformer_options, **conds)
        self._calls += 1
        call, tensors, divisible = self._split(executor, x, t, fixed | conds, transformer_options)
        if self.memory == "fast":
            half = executor.class_obj.get_dtype_inference() == torch.float16
            output = rescaled(call, *tensors) if half else call(*tensors)
        else:
            if divisible and self._chunks_agree is None:
                self._chunks_agree = _agree(call, tensors) if _foreign(transformer_options) else True
            chunk = self._model_budget if divisible and self._chunks_agree else None
            output = recompute(call, *tensors, chunk=chunk, verify=True, writes=self._model_writes)
        return _join(output, divisible)

    def _split(self, executor, x, t, conds, options):
        """The model call as a function of tensors whose rows are the samples, and whether rows are independent.

        x holds the samples once for each conditioning that is computed together (`cond_or_uncond`); a row has them all,
        so that patches which count on this layout still find it.
        """
        leaves, tree = tree_flatten((x, t, conds))
        constants = _constant_conds(self._guider, conds)
        shared = {id(leaf) for name in constants for leaf in tree_flatten(conds[name])[0]}
        tensors = [i for i, leaf in enumerate(leaves) if _varies(leaf, len(x)) and id(leaf) not in shared]
        layers = len(options.get("cond_or_uncond", (0,)))
        divisible = len(x) % layers == 0 and all(len(leaves[i]) == len(x) for i in tensors)

        def call(*rows: Tensor) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            filled = list(leaves)
            for i, row in zip(tensors, rows, strict=True):
                filled[i] = _join(row, divisible)
            x, t, conds = tree_unflatten(filled, tree)
            fixed = [conds.pop(name) for name in ("c_concat", "c_crossattn", "control")]
            with _training():
                output = executor(x, t, *fixed, dict(options), **conds)
            return _layers(output, layers) if divisible else output

        return call, [_layers(leaves[i], layers) if divisible else leaves[i] for i in tensors], divisible

    def _sampler(self) -> Any:
        if self._twin is None:
            replaced: dict[Any, Any] = {comfy.k_diffusion.deis.get_deis_coeff_list: _deis_coefficients}
            indices, total = self.members
            if indices != list(range(total)):
                noise, brownian = MemberNoise(indices, total), comfy.k_diffusion.sampling.BrownianTreeNoiseSampler
                replaced |= {torch: noise, brownian: noise.brownian(brownian)}
            self._twin = Twins(replaced).sampler(self._original)
        return self._twin

    def _on_step(self, step: int, x0: Tensor, x: Tensor, steps: int) -> None:
        if self.callback is not None:
            self.callback(step, x0.detach(), x.detach(), steps)

    # Memory

    def _choose_memory(self) -> None:
        """Settle `auto` once a first run has measured what a graph takes."""
        if self.memory == "auto" and self._model_budget.per_sample and self._calls:
            batch, limit = self.shape[0], self._model_budget.limit
            graph = batch * (self._calls * self._model_budget.per_sample + (self._decoder_budget.per_sample or 0))
            self.memory = "fast" if graph < limit else "low"
            logging.info(
                "Noise Optimize: memory auto chose %s: the graph of %d samples takes %.2f GB, %.2f GB are free for it.",
                self.memory, batch, graph / 1e9, limit / 1e9,
            )  # fmt: skip

    def _memory_limit(self) -> int:
        """Bytes that saved activations may take. Depends on the size of the device first, so that runs repeat."""
        patchers = {id(p.model): p for p in (self._guider.model_patcher, *self._guider.loaded_models)}
        weights = sum(p.model_size() for p in patchers.values())
        total = comfy.model_management.get_total_memory(self.device)
        return int(GRADIENT_SHARE * max(0, min(total - weights, comfy.model_management.get_free_memory(self.device))))

    @contextlib.contextmanager
    def _fixed_randomness(self) -> Iterator[Callable[[], None]]:
        """The global random state as core's RandomNoise leaves it for this seed, for samplers that draw from it.

        Yields what brings it back to this start."""
        devices = [self.device] if self.device.type == "cuda" else []

        def start() -> None:
            torch.set_rng_state(self._rng["cpu"])
            if devices:
                torch.cuda.set_rng_state(self._rng["cuda"], self.device)

        with torch.random.fork_rng(devices=devices):
            start()
            yield start


# What is checked and prepared before


def _refuse_wires(guider: Any, sigmas: Tensor) -> None:
    if getattr(guider, "model_patcher", None) is None or not hasattr(guider, "original_conds"):
        raise ValueError(f"guider: a {type(guider).__name__} cannot be used; wire a Basic, CFG or Dual CFG Guider.")
    if len(sigmas) < 2:
        raise ValueError("sigmas holds no step to take: raise steps, or denoise above 0, in the scheduler.")


def _refuse_gradient(patcher: Any, sampler: Any) -> None:
    if patcher.get_additional_models_with_key("multigpu"):
        raise ValueError(f"The model is spread over several GPUs: remove MultiGPU Work Units, {GRADIENT_FREE}")
    compiled = patcher.get_wrappers(WrappersMP.APPLY_MODEL, "torch.compile")
    if compiled or any(hasattr(m, "_orig_mod") for m in patcher.model.modules()):
        raise ValueError(
            f"The model is compiled, so it has no exact gradient: remove TorchCompileModel, {GRADIENT_FREE}"
        )
    if reason := REFUSED.get(_name(sampler)):
        raise ValueError(f"{reason}, so it has no exact gradient: wire another sampler, {GRADIENT_FREE}")


def _latent_image(guider: Any, latent: dict[str, Any]) -> Tensor:
    samples = latent["samples"]
    if samples.is_nested:
        raise ValueError("latent_image holds several latents in one (picture and sound); wire a latent of pictures.")
    ratios = (latent.get(f"downscale_ratio_{axis}") for axis in ("spacial", "temporal"))
    samples = comfy.sample.fix_empty_latent_channels(guider.model_patcher, samples, *ratios)
    channels = guider.model_patcher.get_model_object("latent_format").latent_channels
    if samples.shape[1] != channels:
        raise ValueError(
            f"latent_image has {samples.shape[1]} channels and this model needs {channels}: "
            "encode it with the VAE of this model, or wire an empty latent."
        )
    return samples


def _resident(patcher: Any) -> Any:
    """The patcher, or its twin that loads weights as ordinary tensors where the host would page them in and out."""
    return patcher.get_non_dynamic_delegate() if patcher.is_dynamic() else patcher


def _random_state(samples: Tensor, total: int, seed: int, batch_index: Any) -> dict[str, Tensor]:
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng():
        comfy.sample.prepare_noise(comfy.utils.repeat_to_batch_size(samples, total), seed, batch_index)
        return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if cuda else {})


def _of_members(cond: dict[str, Any], indices: list[int], total: int) -> dict[str, Any]:
    """A conditioning of a set of total samples, for some of them: what differs per sample is picked."""
    if indices == list(range(total)):
        return dict(cond)
    if "control" in cond and len(getattr(cond["control"], "cond_hint_original", None) or ()) > 1:
        raise ValueError("A ControlNet picture per sample needs the whole set at once; give ControlNet one picture.")

    def pick(value: Any, name: str = "") -> Any:
        if isinstance(value, list):
            return [pick(v) for v in value]
        batched = isinstance(value, Tensor) and value.ndim > (2 if name == "mask" else 1) and len(value) > 1
        return comfy.utils.repeat_to_batch_size(value, total)[indices] if batched else value

    return {name: pick(value, name) for name, value in cond.items()}


def _mask_of_members(mask: Tensor | None, samples: Tensor, indices: list[int], total: int) -> Tensor | None:
    if mask is None or samples.ndim != 4 or indices == list(range(total)):
        return mask
    return comfy.utils.repeat_to_batch_size(mask.reshape(-1, 1, *mask.shape[-2:]), total)[indices]


# How a model call is taken apart


def _layers(tensor: Tensor, layers: int) -> Tensor:
    """(layers * B, ...) -> (B, layers, ...)"""
    return tensor.unflatten(0, (layers, -1)).transpose(0, 1)


def _join(tensor: Tensor, divisible: bool) -> Tensor:
    """(B, layers, ...) -> (layers * B, ...)"""
    return tensor.transpose(0, 1).flatten(0, 1) if divisible else tensor


def _varies(leaf: Any, batch: int) -> bool:
    """Whether a leaf of the model call belongs to samples: not numbers, nor what all samples share."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and (len(leaf) == batch or len(leaf) > 1 or leaf.requires_grad)


def _constant_conds(guider: Any, conds: dict[str, Any]) -> list[str]:
    """Names of conditionings that the host never repeats along the batch."""
    constant = {
        name
        for options in guider.conds.values()
        for cond in options
        for name, value in cond["model_conds"].items()
        if type(value).__name__ == "CONDConstant"
    }
    return [name for name in conds if name in constant]


def _foreign(options: dict[str, Any]) -> bool:
    wrappers = options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    return bool(options.get("patches") or options.get("patches_replace") or any(wrappers.values()))


def _agree(call: Callable[..., Tensor], tensors: list[Tensor]) -> bool:
    """Whether the model gives the last sample the same when it is alone: a patch may hold tensors of the batch."""
    if len(tensors[0]) == 1:
        return True
    with torch.no_grad():
        whole = call(*tensors)[-1:]
        try:
            alone = call(*(t[-1:] for t in tensors))
        except RuntimeError:
            return False
    agree = bool((whole - alone).norm() <= VERIFY_TOLERANCE * whole.norm())
    if not agree:
        logging.info("Noise Optimize: a model patch looks at the whole batch, so the batch is recomputed in one piece.")
    return agree


def _deis_coefficients(*args: Any, **kwargs: Any) -> Any:
    """Coefficients from sigmas alone; the host computes them by a derivative of its own, whose graph must not leak."""
    with torch.no_grad():
        return comfy.k_diffusion.deis.get_deis_coeff_list(*args, **kwargs)


def _name(sampler: Any) -> str:
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", type(sampler).__name__)
    return {"dpm_adaptive_function": "sample_dpm_adaptive"}.get(name, name)


@contextlib.contextmanager
def _training(on: bool = True) -> Iterator[None]:
    """The host's flag that keeps kernels without a derivative out of the way."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = on or before
    try:
        yield
    finally:
        comfy.model_management.in_training = before


@contextlib.contextmanager
def _no_silent_fallback() -> Iterator[None]:
    """An operation without a derivative is an error, not a warning and a wrong gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        yield
