"""A session's own probe: before the first gradient, each part of its path is compared with finite differences.

It finds what nobody foresaw: a kernel that autograd does not see, a `detach` in a model patch or in another pack's
sampler, layers of a newer ComfyUI that are not known here. What clearly differs is refused in a sentence; what answers
differently when it is asked again, or too coarsely, is not judged. Each is probed once in a process, and the model
again with other patches. It costs:

    the model                      5 steps without a gradient (7 in half precision, 9 where it rounds more coarsely) and
                                   one with it, or two if it writes in place; with patches as many again,
                                   without a gradient
    the VAE                        as many decodings of one picture
    the sampler, with a formula    no call of the model
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from torch import Tensor, nn

from ...noise.gradient.probe import probe
from .controlnets import chain, controls_of
from .sampling import Sample, Sampling
from .stand_in import FAILED, Trial
from .wires import GRADIENT_FREE, sampler_name

USUAL_KERNELS = "start ComfyUI with --use-pytorch-cross-attention"
Function = Callable[[Tensor], Tensor]
_passed: weakref.WeakKeyDictionary[nn.Module, set[tuple[Any, ...]]] = weakref.WeakKeyDictionary()


@dataclass
class Probed:
    """What stands in for `sample` of a SAMPLER and raises RuntimeError if a gradient on its way is clearly wrong.

    twin: what is differentiated in the sampler's place. calls: whether the model can be judged by single calls.
    plainly: makes of a prediction one without a graph, by the kernels that are differentiated. start: puts the random
    state where a run finds it.
    """

    sampling: Sampling
    twin: Any
    calls: bool
    plainly: Callable[[Function], Function]
    start: Callable[[], None]

    def __call__(
        self, inner: Sample, guider: Any, sigmas: Tensor, extra: dict[str, Any], _: Any, noise: Tensor, *given: Any
    ) -> Tensor:
        latent, mask = given[:2]
        sampler, patches, model = self.sampling.sampler, self.sampling.patches, guider.model_patcher.model
        trial = Trial(sampler, guider, sigmas, extra, noise, latent, mask, self.start)
        once(model, (sampler_name(sampler), len(sigmas)), lambda: self.check_sampler(trial))
        links = (type(link) for control in controls_of(guider.conds) for link in chain(control))
        if self.calls:
            once(model, (patches, type(guider), *links), lambda: self.check_model(trial))
        return noise

    def check_sampler(self, trial: Trial) -> None:
        smooth, name = replace(trial, formula=lambda x, sigma: torch.sin(x / (1 + sigma))), sampler_name(trial.sampler)

        def run(noise: Tensor, sampler: Any = None) -> Tensor:
            return smooth(noise, trial.latent, trial.mask, sampler=sampler)

        try:
            share = missed(partial(run, sampler=self.twin), run, trial.noise)
        except FAILED as error:  # the formula is no model
            logging.info("Noise Optimize: the gradient of the sampler %s could not be checked: %s", name, error)
        else:
            refuse(share, f"The sampler {name} cuts the gradient", "wire another sampler, such as euler")

    def check_model(self, trial: Trial) -> None:
        guider, sigma, extra = trial.guider, trial.sigmas[0], trial.extra_args
        whole = trial.sampler.max_denoise(guider, trial.sigmas)
        x = guider.inner_model.model_sampling.noise_scaling(sigma, trial.noise.clone(), trial.latent, whole)

        def ask(x: Tensor, sigma: Tensor) -> Tensor:
            self.start()
            options = create_model_options_clone(extra["model_options"])
            return guider(x, sigma.expand(len(x)), **extra | {"model_options": options})

        def end_run(x: Tensor) -> None:
            if patches:  # which begin anew where sigma rises
                with torch.no_grad():
                    ask(x.detach(), trial.sigmas[-2])

        def predict(x: Tensor) -> Tensor:
            end_run(x)
            return ask(x, sigma)

        patches = self.sampling.patches
        remedy = f"take {patches} off the model wire" if patches else USUAL_KERNELS
        refuse(missed(predict, self.plainly(predict), x), "The gradient through the model is wrong", remedy)
        end_run(x)


def check_decoder(network: nn.Module, pictures: Function, latents: Tensor) -> None:
    """Raises RuntimeError if the gradient of pictures, which network decodes, is clearly wrong at latents."""

    def compare() -> None:
        refuse(missed(pictures, pictures, latents), "The gradient through the VAE is wrong", "wire another VAE")

    once(network, (), compare)


def once(network: nn.Module, key: tuple[Any, ...], compare: Callable[[], None]) -> bool:
    """compare(), unless it has passed in this process for this network and key; whether it was called."""
    if key in _passed.setdefault(network, set()):
        return False
    compare()
    _passed[network].add(key)
    return True


def missed(function: Function, reference: Function, x: Tensor) -> float | None:
    """The share of a change that function's gradient at x accounts for, if it is clearly not reference's derivative."""
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        found = probe(function, reference, x.detach().requires_grad_())
    if found is None:
        logging.info("Noise Optimize: a gradient could not be checked, as its differences do not agree.")
    return None if found is None or found.right else found.share


def refuse(share: float | None, what: str, remedy: str) -> None:
    if share is not None:
        raise RuntimeError(
            f"{what}, it accounts for {share:.0%} of a change that was measured: {remedy}, {GRADIENT_FREE}"
        )
