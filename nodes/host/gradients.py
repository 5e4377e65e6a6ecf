"""How a session differentiates: its sampling runs are the host's, in a host that keeps what their graphs need."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import comfy.k_diffusion.deis
import comfy.model_management
import comfy.model_patcher
import comfy.sampler_helpers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...noise.gradient.in_place import Writes
from ...noise.gradient.inference import normal_tensors, savable
from .call import Ask, ModelCalls
from .controlnets import control_networks, controls_of, deferred_controls
from .endings import Endings
from .foresight import stopped
from .hooks import hooks_of
from .kernels import no_silent_fallback
from .layers import casting
from .memory import Memory, reserved
from .patches import CHUNKS, ONCE, settled, trial
from .probe import Probed
from .sampling import KEY, Sample, Sampling, add_wrapper
from .twins import Twins
from .wires import GRADIENT_FREE, deis_coefficients, patchers_of, refuse_gradient, resident, sampler_name, through


class Gradients:
    """gradients(noise): latents with a graph, as `sampling` gives them without, or what the model foresees of them.

    steps: how many of the last are differentiated; 0 for all. roots: hold tensors to be saved.
    """

    def __init__(self, sampling: Sampling, roots: Sequence[Any], memory: Memory, steps: int) -> None:
        self.sampling, self.memory, self.steps = sampling, memory, steps
        self.calls, self.endings = ModelCalls(memory), Endings()
        self.opened, self.run = contextlib.ExitStack(), contextlib.ExitStack()
        self.guider = resident_guider(sampling.guider)
        add_wrapper(WrappersMP.PREPARE_SAMPLING, self.load, self.guider.model_options)
        self.twin = Twins({comfy.k_diffusion.deis.get_deis_coeff_list: deis_coefficients}).sampler(sampling.sampler)
        self.roots = [vars(self.guider), sampling.sampler, *roots]
        self.checked = False
        self.loaded: dict[int, Any] = {}  # ModelPatchers by the identity of their models

    def __call__(self, noise: Tensor, until: int | None = None) -> Tensor:
        """Latents (B, C, ...) of noise of that shape, with a graph; what graphs of earlier runs hold stays as it is.

        until: after how many steps to end, with the latents that the model then foresees, through all of these steps.
        """
        sampling, name = self.sampling, sampler_name(self.sampling.sampler)
        sampler = through(self.twin, functools.partial(self.sample, self.steps if until is None else 0))
        if until is not None:
            sampler = through(sampler, stopped(until, name))
        refuse_gradient(self.guider, sampling.sampler)
        if not self.loaded:
            self.open()
        self.memory.choose(len(noise), self.calls.count, bool(hooks_of(self.guider.original_conds)))
        if not self.checked:
            self.check(noise)
        with sampling.randomness() as start:

            def run(noise: Tensor) -> Tensor:
                start()
                self.end_run()
                return sampling(noise, sampler, self.guider)

            way = (name, len(sampling.sigmas), self.steps, until, self.memory.mode)
            latents = Writes.of(self.guider.model_patcher.model, *way)(run, noise)
        if not latents.requires_grad:
            raise RuntimeError(
                f"The sampler {name} cuts the gradient"
                + (f" with gradient_steps at {self.steps}: set it to 0" if self.steps and until is None else "")
                + f"; wire another sampler, such as euler, {GRADIENT_FREE}"
            )
        return latents

    def check(self, noise: Tensor) -> None:
        """Before the first gradient: how a patched model may be asked (patches.py), and a probe (probe.py)."""
        sampling, calls, measured = self.sampling, self.calls, self.memory.model.per_sample
        with sampling.randomness() as start, torch.enable_grad():

            def run(noise: Tensor, ask: Ask | None, stand_in: Sample | None = None) -> Tensor:
                start()
                self.end_run()
                inner = self.twin if stand_in is None else through(self.twin, stand_in)
                sampler = through(inner, functools.partial(self.sample, 0))
                with calls.asked(ask):
                    return sampling(noise.detach(), sampler, self.guider)

            found = trial(run, noise) if sampling.patches else CHUNKS
            calls.divide = settled(found, sampling.patches, self.memory)
            run(noise, None, Probed(sampling, self.twin, found != ONCE, calls.plainly, start))
            self.end_run()
        self.checked, self.memory.model.per_sample = True, measured  # a run measures it, whether or not it was probed

    def open(self) -> None:
        """Loads the models and makes them ready for graphs, until `close`."""
        guider, shape = self.guider, self.sampling.latent.shape
        for patcher in patchers_of(guider).values():
            comfy.sampler_helpers.prepare_sampling(patcher, shape, guider.original_conds, guider.model_options)
        loaded, controls = list(self.loaded.values()), controls_of(guider.original_conds)
        self.memory.measure(guider.model_patcher.load_device, loaded)
        for context in (
            no_silent_fallback(),
            casting([patcher.model for patcher in loaded]),
            deferred_controls(guider, KEY),
            self.endings.put_off(loaded, controls),
        ):
            self.opened.enter_context(context)

    def load(self, executor: Callable[..., Any], model: Any, shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        """The PREPARE_SAMPLING wrapper: leaves memory for a gradient, and has weights that autograd may save."""
        with torch.inference_mode():
            prepared = executor(model, reserved(shape), *args, **kwargs)
        known = len(self.loaded)
        self.loaded |= {id(patcher.model): patcher for patcher in (model, *prepared[2])}
        if len(self.loaded) > known or not all(savable(patcher.model) for patcher in self.loaded.values()):
            self.opened.enter_context(normal_tensors(self.roots))
        return prepared

    def sample(
        self,
        steps: int,
        inner: Sample,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """`sample` of the twin, with the model's calls in our hands; inside all that other packs wrap around it."""
        controls = control_networks(model_wrap)
        self.run.enter_context(normal_tensors([model_wrap.conds, *controls]))
        self.run.enter_context(casting(controls))
        self.calls.begin(model_wrap)
        last = float(sigmas[-1 - steps]) if 0 < steps < len(sigmas) else math.inf
        add_wrapper(WrappersMP.APPLY_MODEL, self.calls, extra_args["model_options"])
        add_wrapper(WrappersMP.PREDICT_NOISE, functools.partial(self.predict_noise, last), model_wrap.model_options)
        return inner(model_wrap, sigmas, extra_args, *args, **kwargs)

    def predict_noise(
        self, last: float, executor: Sample, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Steps before the last `steps` have no graph."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        frozen = bool(timestep.max() > last * (1 + 1e-6))
        with torch.no_grad() if frozen else contextlib.nullcontext():
            return executor(x, timestep, *args, **kwargs)

    def end_run(self) -> None:
        """What the last run left to the start of the next."""
        self.run.close()
        self.endings.come()

    def close(self) -> None:
        self.calls.forget()
        with self.opened:
            self.end_run()


def resident_guider(guider: Any) -> Any:
    """The guider with its models, and those that are loaded beside them, in the form that `resident` gives them."""
    guider = copy.copy(guider)
    for name, patcher in patchers_of(guider).items():
        setattr(guider, name, resident(patcher))
    guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)

    def resident_beside(cond: dict[str, Any]) -> dict[str, Any]:
        return cond | {"additional_models": [resident(model) for model in cond.get("additional_models", [])]}

    guider.original_conds = {name: [resident_beside(c) for c in conds] for name, conds in guider.original_conds.items()}
    return guider
