"""A session's own probe: before the first gradient, each part of its path is compared with finite differences.

It finds what nobody foresaw: a kernel that autograd does not see, a `detach` in a model patch or in another pack's
sampler, layers of a newer ComfyUI that are not known here. What clearly differs is refused in a sentence. The cost:

    the model, with all that is patched into it    5 steps without a gradient (7 in half precision, 9 where it rounds
                                                   more coarsely) and one with it, or two if it writes in place; with
                                                   patches as many again, without a gradient
    the VAE                                        as many decodings of one picture
    the sampler, with a formula for the model      no call of the model

Each is checked once in a process, and again with other patches or another sampler. So the first run of four steps takes
about half an iteration longer. Nothing that is computed depends on it: random states are as before, no graph is kept.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ...noise.gradient.probe import probe
from .controlnets import chain, controls_of
from .places import stand_in
from .wires import GRADIENT_FREE, sampler_name

PACK = __name__.partition(".nodes.")[0]
SUSPECTS = 3  # in a sentence, at most
USUAL_KERNELS = "start ComfyUI with --use-pytorch-cross-attention"
_passed: weakref.WeakKeyDictionary[nn.Module, set[tuple[Any, ...]]] = weakref.WeakKeyDictionary()


def in_place_of(sampler: Any, twin: Any, steps: int, start: Callable[[], None]) -> Callable[..., Tensor]:
    """What stands in for `sample` of a SAMPLER and raises RuntimeError if a gradient on its way is clearly wrong.

    twin: what is differentiated in the sampler's place, through the last `steps` steps (0 for all). start: puts the
    random state where a run finds it.
    """

    def sample(guider: Any, sigmas: Tensor, extra: dict[str, Any], _: Any, noise: Tensor, *given: Any) -> Tensor:
        options, patcher = extra["model_options"], guider.model_patcher
        of_model = {name: value for name, value in options.items() if not name.startswith("sampler_")}
        patches, parts = names_of(tree_leaves(options)), names_of(patcher.object_patches.values())
        kinds = (type(guider), *(type(link) for control in controls_of(guider.conds) for link in chain(control)))

        def own(options: dict[str, Any]) -> dict[str, Any]:
            start()
            return extra | {"model_options": create_model_options_clone(options)}

        def run(sampler: Any, noise: Tensor) -> Tensor:
            formula = stand_in(guider, lambda x, sigma: torch.sin(x / (1 + sigma)))
            return sampler.sample(formula, sigmas.clone(), own(of_model), None, noise, *given)

        def step(x: Tensor) -> Tensor:
            end_run(x)
            return guider(x, sigma.expand(len(x)), **own(options))

        def end_run(x: Tensor) -> None:
            """The last step of a run, for patches that begin anew when sigma rises."""
            if patches:
                with torch.no_grad():
                    guider(x.detach(), sigmas[-2].expand(len(x)), **own(options))

        def check_sampler() -> None:
            remedy = "wire another sampler, such as euler"
            sentence = f"The sampler {sampler_name(sampler)} cuts the gradient, {{}}: {remedy}"
            check(functools.partial(run, twin), functools.partial(run, sampler), noise, sentence)

        def check_model() -> None:
            x = scaling(sigma, noise, given[0], sampler.max_denoise(guider, sigmas))
            suspects = [name.split(".")[0] for module, name in (*patches, *parts) if not module.startswith("comfy.")]
            remedy = f"remove {' or '.join(suspects[:SUSPECTS])} from the model wire" if suspects else USUAL_KERNELS
            check(step, step, x, f"The gradient through the model is wrong, {{}}: {remedy}")
            end_run(x)

        sigma = sigmas[-1 - steps if 0 < steps < len(sigmas) else 0]
        scaling = guider.inner_model.model_sampling.noise_scaling
        once(patcher.model, (sampler_name(sampler), len(sigmas)), check_sampler)
        once(patcher.model, (*patches, *parts, *kinds), check_model)
        return noise

    return sample


def check_decoder(network: nn.Module, pictures: Callable[[Tensor], Tensor], latents: Tensor) -> None:
    """Raises RuntimeError if the gradient of pictures, which network decodes, is clearly wrong at latents."""
    sentence = "The gradient through the VAE is wrong, {}: wire another VAE"
    once(network, (), lambda: check(pictures, pictures, latents, sentence))


def once(network: nn.Module, key: tuple[Any, ...], check: Callable[[], None]) -> None:
    """check(), unless it has passed in this process for this network and key."""
    if key not in _passed.setdefault(network, set()):
        check()
        _passed[network].add(key)


def check(function: Callable[..., Tensor], reference: Callable[..., Tensor], x: Tensor, sentence: str) -> None:
    """Raises RuntimeError if function's gradient at x is clearly not the derivative of reference.

    sentence: ends in a remedy, to which the one without a gradient is added; {} is for what was measured.
    """
    unseen = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)  # by what watches the run around it
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []), unseen:
        found = probe(function, reference, x.detach().requires_grad_())
    if found is None:
        logging.info("Noise Optimize: a gradient could not be checked, its differences do not agree.")
    elif not found.right:
        measured = f"it accounts for {found.share:.0%} of a change that was measured"
        raise RuntimeError(f"{sentence.format(measured)}, {GRADIENT_FREE}")


def names_of(things: Iterable[Any]) -> list[tuple[str, str]]:
    """(module, qualified name) of what can be called among things, or of its class, but for what is ours."""
    called = [thing.func if isinstance(thing, functools.partial) else thing for thing in things if callable(thing)]
    named = [thing if hasattr(thing, "__qualname__") else type(thing) for thing in called]
    return list(dict.fromkeys((n.__module__, n.__qualname__) for n in named if not n.__module__.startswith(PACK)))
