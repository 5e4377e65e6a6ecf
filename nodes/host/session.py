"""The one place that knows ComfyUI's internals: a guider's session in which sampling and decoding carry gradient.

    run_in_session(guider, sampler, sigmas, latent, body)    calls body(session) once the model is loaded
    session.generate(noise)                                  latents, as SamplerCustomAdvanced gives them
    session.predicted(noise, until)                          latents, as the model foresees them after some steps
    session.decode(latents)                                  pictures, as VAE Decode gives them
    session.batch(noise)                                     both, for objectives
    session.preview(latents)                                 small pictures, as the host shows them while it samples
    session.device, session.shape                            where all these tensors lie, and the shape of the noise

The host drops its model when `guider.sample` returns, and a backward pass recomputes with it: so the session is itself
a SAMPLER, and all of the optimisation happens inside its one call.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
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

from ...noise.gradient.in_place import Writes
from ...noise.gradient.inference import normal, normal_tensors
from ...noise.gradient.recompute import RecomputationError
from ...noise.rows import RowsOfWhole
from ...objectives.batch import Batch
from .call import ModelCalls
from .controlnets import control_networks, deferred_controls
from .decoder import Decoder
from .hooks import hooks_of, rewind_hooks
from .kernels import cannot_differentiate, no_silent_fallback
from .layers import casting
from .members import fixed_randomness, mask_of_members, of_members, random_state, varied
from .memory import Memory, reserve
from .places import FREE, ROWS, WHOLE, placing
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
    members: (places, total): the session computes the samples at these places of a set of total, with their prompts,
        masks and injected noise; a place may come more than once. None: all samples of latent. See places.py.
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
    samples = comfy.utils.repeat_to_batch_size(samples, total)
    differ = varied(guider.original_conds, samples, latent.get("noise_mask"))
    samples = samples[indices]

    loaded = [p for p in (getattr(vae, "patcher", None), *networks) if hasattr(p, "load_device")]
    guider = copy.copy(guider)
    if gradient:
        guider.model_patcher, loaded = resident(guider.model_patcher), [resident(p) for p in loaded]
        guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        comfy.patcher_extension.add_wrapper_with_key(
            WrappersMP.PREPARE_SAMPLING, KEY, reserve, guider.model_options, is_model_options=True
        )
    decoder = loaded[0].model if vae is not None else None
    guider.original_conds = {
        name: [of_members(cond, indices, total) for cond in conds] for name, conds in guider.original_conds.items()
    }
    for cond in (conds[0] for conds in guider.original_conds.values() if conds):
        cond["additional_models"] = [*cond.get("additional_models", []), *loaded]

    session = Session(sampler, body, vae, decoder, seed, rng, (indices, total), differ, networks)
    mask = mask_of_members(latent.get("noise_mask"), samples, indices, total)
    try:
        guider.sample(torch.zeros_like(samples), samples, session, sigmas, mask, None, True, seed)
        return session.result
    except RecomputationError as error:
        raise RuntimeError(
            "The model answers differently when it is asked twice (a cache or randomness in a model patch), so it has "
            f"no exact gradient: remove that patch from the model wire, set memory to fast, {GRADIENT_FREE}"
        ) from error
    except (RuntimeError, UserWarning) as error:
        if session.differentiating and (reason := cannot_differentiate(error)):
            raise RuntimeError(
                f"The model or the objective cannot be differentiated ({reason}): "
                f"wire a model that is neither quantized nor compiled, {GRADIENT_FREE}"
            ) from error
        raise


@dataclass(frozen=True)
class Foreseen:
    """What a sampling run shows after some of its steps.

    latents: (B, C, ...) the finished latents as the model predicts them now, or as they are after the last step.
    """

    latents: Tensor


class Session(comfy.samplers.Sampler):
    """What body gets: an open guider session. `callback(step, x0, x, steps)`, when set, is called at each step."""

    device: torch.device
    shape: tuple[int, ...]
    memory: Memory

    def __init__(
        self,
        sampler: DifferentiableSampler,
        body: Callable[[Session], Any],
        vae: Any,
        decoder: Any,
        seed: int,
        rng: dict[str, Tensor],
        members: tuple[list[int], int],
        differ: bool,
        networks: Sequence[Any],
    ) -> None:
        self.members, self.seed, self.vae = members, seed, vae
        self.callback: Callable[[int, Tensor, Tensor, int], None] | None = None
        self.differentiating, self.result = False, None
        self._settings, self._original, self._twin = sampler, sampler.sampler, None
        self._body, self._network, self._rng, self._networks = body, decoder, rng, networks
        self._writes = Writes()
        self._differ, self._rows, self._placing = differ, None, None

    # The host calls this once; all else happens inside.
    def sample(
        self, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self._guider, self.device = guider, noise.device
        self.shape = tuple(noise.shape)
        if self.members[0] != list(range(self.members[1])):
            self._rows = RowsOfWhole(*self.members, dims=min(noise.ndim, 4))
        patchers = list({id(p.model): p for p in (guider.model_patcher, *guider.loaded_models)}.values())
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            controls = control_networks(guider)
            roots = [vars(guider), self._original, *self._networks, *controls]
            if self.vae is not None:
                roots += [self._network, vars(self.vae)]
            stack.enter_context(normal_tensors(roots))
            stack.enter_context(no_silent_fallback())
            stack.enter_context(casting([*(patcher.model for patcher in patchers), *controls]))
            stack.enter_context(deferred_controls(guider, KEY))
            self._sigmas, self._latent, self._mask = (
                t if t is None else normal(t) for t in (sigmas, latent_image, denoise_mask)
            )
            self._options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
            self.memory = Memory(self._settings.memory, self.device, patchers)
            self._calls = ModelCalls(guider, self.memory)
            self._decoder = Decoder(self.vae, self._network, self.memory)
            for kind, wrapper, options in (
                (WrappersMP.APPLY_MODEL, self._calls, self._options),
                (WrappersMP.PREDICT_NOISE, self._predict_noise, guider.model_options),
            ):
                comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, options, is_model_options=True)
            try:
                self.result = self._body(self)
            finally:
                self._calls.forget()
                self._guider = self._twin = self._latent = self._mask = self._options = self._body = None
        return noise

    def generate(self, noise: Tensor) -> Tensor:
        """The sampled latents (B, C, ...) of noise of that shape, float32, as SamplerCustomAdvanced gives them.

        Differentiable where noise asks for a gradient and grad mode is on; else bit-identical to the host's.
        """
        if tuple(noise.shape) != self.shape:
            raise ValueError(f"The noise is {tuple(noise.shape)}, the latent_image {self.shape}; give both one size.")
        self.differentiating = torch.is_grad_enabled() and noise.requires_grad
        if self._rows is not None and self._place() == FREE:
            self._rows = None
        if self.differentiating:
            refuse_gradient(self._guider.model_patcher, self._original)
            self.memory.choose(self.shape[0], self._calls.count, bool(hooks_of(self._guider)))
        sampler = self._sampler() if self.differentiating else self._original

        def run(noise: Tensor) -> Tensor:
            self._calls.count = 0
            rewind_hooks(self._guider)
            noise = noise.to(self.device, torch.promote_types(noise.dtype, torch.float32))
            options = comfy.model_patcher.create_model_options_clone(self._options)
            with self._rows or contextlib.nullcontext():
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

        with fixed_randomness(self._rng, self.device) as start:
            if self.differentiating:
                latents = self._writes(lambda noise: start() or run(noise), noise)
            else:
                with torch.no_grad():
                    latents = run(noise)
        if self.differentiating and not latents.requires_grad:
            steps = self._settings.gradient_steps
            raise RuntimeError(
                f"The sampler {sampler_name(self._original)} cuts the gradient"
                + (f" with gradient_steps at {steps}: set it to 0" if steps else "")
                + f"; wire another sampler, such as euler, {GRADIENT_FREE}"
            )
        return latents

    def predicted(self, noise: Tensor, until: int) -> Foreseen:
        """What the model foresees of noise (B, C, ...) at step `until`, without the steps after it or a gradient."""
        with torch.no_grad():
            if until >= len(self._sigmas) - 1:
                return Foreseen(self.generate(noise))
            last: list[Tensor] = []

            def stop(step: int, x0: Tensor, x: Tensor, total: int) -> None:
                last[:] = [x0]
                if step + 1 >= until:
                    raise _Enough

            self.callback = stop
            try:
                self.generate(noise)
            except _Enough:
                return Foreseen(self._guider.inner_model.process_latent_out(last[0].float()))
            finally:
                self.callback = None
        raise RuntimeError(
            f"The sampler {sampler_name(self._original)} does not tell its predictions; wire another, such as euler."
        )

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) in 0..1 of latents, as VAE Decode gives them; of a video the middle frame."""
        if self.vae is None:
            raise ValueError("Pictures are needed: wire a VAE to vae.")
        return self._decoder(latents).to(self.device)

    def batch(self, noise: Tensor, pictures: bool) -> Batch:
        """What the sampler makes of noise (B, C, ...), for objectives; pictures: whether it is decoded, too."""
        latents = self.generate(noise)
        return Batch(latents, self.decode(latents) if pictures else None)

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

    def _predict_noise(self, executor, x, timestep, *args, **kwargs):
        comfy.model_management.throw_exception_if_processing_interrupted()
        steps = self._settings.gradient_steps
        last = self._sigmas[-1 - steps] if 0 < steps < len(self._sigmas) else math.inf
        frozen = bool(timestep.max() > last * (1 + 1e-6))
        with (
            torch.no_grad() if frozen else contextlib.nullcontext(),
            self._rows.paused() if self._rows else contextlib.nullcontext(),
        ):
            return executor(x, timestep, *args, **kwargs)

    def places_matter(self) -> bool:
        """Whether a picture depends on its place in the batch; a search then keeps one candidate for each place."""
        return self._differ or self._place() == ROWS

    def _place(self) -> str:
        """See `placing`; raises ValueError where no part of a set can be made alone."""
        if self._placing is None:
            args = (self._original, self._guider, self._sigmas, {"model_options": self._options, "seed": self.seed})
            start = torch.empty(self.shape, device=self.device)
            with fixed_randomness(self._rng, self.device) as again:
                self._placing = placing(*args, start, self._latent, self._mask, again)
        if self._placing == WHOLE:
            raise ValueError(
                f"The sampler {sampler_name(self._original)} looks at the batch as a whole, so that pictures of a set "
                "cannot be made apart: raise the batch of latent_image to the whole set, or wire another sampler, such "
                "as euler."
            )
        return self._placing

    def _sampler(self) -> Any:
        if self._twin is None:
            self._twin = Twins({comfy.k_diffusion.deis.get_deis_coeff_list: deis_coefficients}).sampler(self._original)
        return self._twin

    def _on_step(self, step: int, x0: Tensor, x: Tensor, steps: int) -> None:
        if self.callback is not None:
            self.callback(step, x0.detach(), x.detach(), steps)


class _Enough(Exception):
    """Ends a sampling run after the steps that were asked for."""
