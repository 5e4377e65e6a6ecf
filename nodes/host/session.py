"""The one place that knows ComfyUI's internals: a guider's session in which sampling and decoding carry gradient.

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
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import comfy.k_diffusion.deis
import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...noise.gradient.in_place import Writes
from ...noise.gradient.inference import normal, normal_tensors
from ...noise.gradient.recompute import MemoryBudget, RecomputationError, recompute
from ...noise.gradient.scale import rescaled
from .call import constant_conds, has_foreign_patches, layers_of, rows_of, samples_independent, varies
from .controlnets import Deferred, control_networks, deferred_controls
from .hooks import hooks_in_force, hooks_of, rewind_hooks
from .kernels import no_silent_fallback, training
from .layers import casting
from .members import MemberNoise, mask_of_members, of_members, random_state
from .twins import Twins
from .wires import (
    GRADIENT_FREE,
    DifferentiableSampler,
    deis_coefficients,
    latent_image,
    refuse_gradient,
    refuse_wires,
    resident,
    sampler_name,
)

KEY = "noise_optimize"
NO_GRADIENT = ("derivative for", "not implemented for", "cannot be saved for backward", "does not require grad",
               "autograd kernel")  # fmt: skip
GRADIENT_SHARE = 0.6  # of the memory beside the weights may hold saved activations; the rest is for temporaries
RESERVED_SAMPLES = 8  # when models are loaded, one sample with gradient is taken to need as much as this many without

T = TypeVar("T")


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
    refuse_wires(guider, sigmas)
    samples = latent_image(guider, latent)
    indices, total = (list(members[0]), members[1]) if members else (list(range(len(samples))), len(samples))
    rng = random_state(samples, total, seed, latent.get("batch_index"))
    samples = comfy.utils.repeat_to_batch_size(samples, total)[indices]

    loaded = [p for p in (getattr(vae, "patcher", None), *networks) if hasattr(p, "load_device")]
    guider = copy.copy(guider)
    if gradient:
        guider.model_patcher, loaded = resident(guider.model_patcher), [resident(p) for p in loaded]
        guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        comfy.patcher_extension.add_wrapper_with_key(
            WrappersMP.PREPARE_SAMPLING, KEY, _reserve, guider.model_options, is_model_options=True
        )
    decoder = loaded[0].model if vae is not None else None
    guider.original_conds = {
        name: [of_members(cond, indices, total) for cond in conds] for name, conds in guider.original_conds.items()
    }
    for cond in (conds[0] for conds in guider.original_conds.values() if conds):
        cond["additional_models"] = [*cond.get("additional_models", []), *loaded]

    session = Session(sampler, body, vae, decoder, seed, rng, (indices, total), networks)
    mask = mask_of_members(latent.get("noise_mask"), samples, indices, total)
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


@dataclass(eq=False)
class Call:
    """What a graph holds of one call of the model, to make it again."""

    executor: Any
    leaves: list[Any]
    options: dict[str, Any]
    deferred: Deferred | None
    hooks: Callable[[], None]


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
        self._calls, self._held = 0, weakref.WeakSet()

    # The host calls this once; all else happens inside.
    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self._guider, self.device = guider, noise.device
        self.shape = tuple(noise.shape)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            controls = control_networks(guider)
            roots = [vars(guider), self._original, *self._networks, *controls]
            if self.vae is not None:
                roots += [self._decoder, vars(self.vae)]
            stack.enter_context(normal_tensors(roots))
            stack.enter_context(no_silent_fallback())
            stack.enter_context(casting([*(patcher.model for patcher in self._patchers()), *controls]))
            stack.enter_context(deferred_controls(guider, KEY))
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
                for held in self._held:  # a sampler may keep tensors where the graph finds them: a cycle without end
                    vars(held).clear()
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
            refuse_gradient(self._guider.model_patcher, self._original)
            self._choose_memory()
        sampler = self._sampler() if self.differentiating or subset else self._original

        def run(noise: Tensor) -> Tensor:
            self._calls = 0
            rewind_hooks(self._guider)
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
                f"The sampler {sampler_name(self._original)} cuts the gradient"
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
            with training(differentiable):
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
                self._chunks_agree = (
                    samples_independent(call, tensors) if has_foreign_patches(transformer_options) else True
                )
            chunk = self._model_budget if divisible and self._chunks_agree else None
            output = recompute(call, *tensors, chunk=chunk, verify=True, writes=self._model_writes)
        return layers_of(output, divisible)

    def _split(self, executor, x, t, conds, options):
        """The model call as a function of tensors whose rows are the samples, and whether rows are independent.

        x holds the samples once for each conditioning that is computed together (`cond_or_uncond`); a row has them all,
        so that patches which count on this layout still find it.
        """
        deferred = conds["control"] if isinstance(conds["control"], Deferred) else None
        if deferred:
            conds = conds | {"control": deferred.inputs}
        leaves, tree = tree_flatten((x, t, conds))
        constants = constant_conds(self._guider, conds)
        shared = {id(leaf) for name in constants for leaf in tree_flatten(conds[name])[0]}
        tensors = [i for i, leaf in enumerate(leaves) if varies(leaf, len(x)) and id(leaf) not in shared]
        layers = len(options.get("cond_or_uncond", (0,)))
        divisible = len(x) % layers == 0 and all(len(leaves[i]) == len(x) for i in tensors)
        divisible = divisible and (deferred is None or deferred.divisible)
        this = Call(executor, leaves, options, deferred, hooks_in_force(executor.class_obj.current_patcher))
        self._held.add(this)
        wanted = [rows_of(leaves[i], layers) if divisible else leaves[i] for i in tensors]

        def call(*rows: Tensor) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            filled = list(this.leaves)
            for i, row in zip(tensors, rows, strict=True):
                filled[i] = layers_of(row, divisible)
            x, t, conds = tree_unflatten(filled, tree)
            concat, crossattn, control = (conds.pop(name) for name in ("c_concat", "c_crossattn", "control"))
            this.hooks()
            with training():
                control = this.deferred(*control) if this.deferred else control
                output = this.executor(x, t, concat, crossattn, control, dict(this.options), **conds)
            return rows_of(output, layers) if divisible else output

        return call, wanted, divisible

    def _sampler(self) -> Any:
        if self._twin is None:
            replaced: dict[Any, Any] = {comfy.k_diffusion.deis.get_deis_coeff_list: deis_coefficients}
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
        if self.memory != "low" and hooks_of(self._guider):
            self.memory = "low"
            logging.info("Noise Optimize: memory is low, because a hook on a conditioning changes the model's weights.")
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
        weights = sum(patcher.model_size() for patcher in self._patchers())
        total = comfy.model_management.get_total_memory(self.device)
        return int(GRADIENT_SHARE * max(0, min(total - weights, comfy.model_management.get_free_memory(self.device))))

    def _patchers(self) -> list[Any]:
        """Of each model that the host has loaded for this session, one ModelPatcher."""
        loaded = (self._guider.model_patcher, *self._guider.loaded_models)
        return list({id(patcher.model): patcher for patcher in loaded}.values())

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


def _reserve(executor: Callable, model: Any, shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
    """Loads models so that memory is left for a gradient."""
    return executor(model, [max(shape[0], RESERVED_SAMPLES), *shape[1:]], *args, **kwargs)
