"""ControlNets in a session: computed inside the call of the model, so that they are recomputed together with it.

The host runs a ControlNet first and hands its output to the model. Recomputing the model alone would leave the graph of
the ControlNet in memory, one for each step. So what is handed over is a `Deferred`, a promise that `call.py` keeps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor, is_grad_enabled, nn

from .kernels import differentiable
from .layers import overridden


@dataclass
class Deferred:
    """The output that a ControlNet will compute, when it is called, from `inputs`: x, timestep and conditioning.

    layers: how many conditionings are computed together. divisible: whether it may be computed for some samples of the
    batch at a time, as the output for a sample does not depend on the others.
    """

    compute: Callable[..., Any]
    inputs: tuple[Tensor, Tensor, dict[str, Any]]
    layers: int
    options: dict[str, Any]
    divisible: bool

    def __call__(
        self, options_for: Callable[[dict[str, Any]], dict[str, Any]], x: Tensor, t: Tensor, cond: dict[str, Any]
    ) -> Any:
        options = options_for(self.options)
        return self.compute(x, t, cond | {"transformer_options": options}, self.layers, options)


@contextlib.contextmanager
def deferred_controls(guider: Any, key: str) -> Iterator[None]:
    """A context in which the ControlNets of guider return a `Deferred`, which the APPLY_MODEL wrapper `key` computes.

    Where another pack has a wrapper on that way, it may look at the output: then it is computed at once.
    """

    def defer(
        control: Any,
        compute: Callable[..., Any],
        x: Tensor,
        t: Tensor,
        cond: dict[str, Any],
        layers: int,
        options: dict[str, Any],
    ) -> Any:
        watched = set(options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})) - {key}
        watched |= {"model_function_wrapper"} & set(guider.model_options)
        graph = is_grad_enabled() and x.requires_grad
        if watched or not graph:
            with differentiable(graph) as options_for:
                return compute(x, t, cond, layers, options_for(options))
        cond = {name: value for name, value in cond.items() if name != "transformer_options"}
        divisible = all(type(c).__module__.startswith("comfy.") and pictures(c) == 1 for c in chain(control))
        return Deferred(compute, (x, t, cond), layers, options, divisible)

    controls = controls_of(guider.original_conds)
    with overridden(controls, "get_control", defer), contextlib.ExitStack() as stack:
        for control in controls:
            stack.callback(control.cleanup)  # the host itself does, but only after success
        yield


def controls_of(conds: dict[str, list[dict[str, Any]]]) -> list[Any]:
    """The ControlNets of conditionings, of each chain the last."""
    every = (cond for options in conds.values() for cond in options)
    return list({id(cond["control"]): cond["control"] for cond in every if cond.get("control")}.values())


def control_networks(guider: Any) -> list[nn.Module]:
    """The networks of all ControlNets; a Control-LoRA builds its own on the model's weights, for one sampling."""
    links = (link for control in controls_of(guider.conds) for link in chain(control))
    networks = (getattr(link, "control_model", None) for link in links)
    return [network for network in networks if network is not None]


def chain(control: Any) -> Iterator[Any]:
    """A ControlNet and those before it."""
    while control is not None:
        yield control
        control = control.previous_controlnet


def pictures(control: Any) -> int:
    """How many pictures or masks a ControlNet was given: one that all samples share, or one for each."""
    given = (getattr(control, "cond_hint_original", None), *getattr(control, "extra_concat_orig", ()))
    return max((len(hint) for hint in given if hint is not None), default=1)
