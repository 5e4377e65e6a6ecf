"""How a session takes a call of the host's model apart along the batch, to keep its graph or to make it again."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import comfy.model_management
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ...noise.gradient.in_place import Writes
from ...noise.gradient.recompute import recompute
from ...noise.gradient.scale import rescaled
from .caches import forgetful
from .controlnets import Deferred
from .hooks import hooks_in_force
from .kernels import differentiable
from .memory import Memory
from .wires import one_video

Call: TypeAlias = Callable[..., tuple[Tensor, Tensor]]  # of tensors by samples: what a call gives, what its network did
Ask: TypeAlias = Callable[[Call, list[Tensor], bool], Tensor]  # makes a call; whether it may be made in chunks


@dataclass(eq=False)
class Held:
    """What a graph holds of one call of the model, to make it again."""

    executor: Any
    leaves: list[Any]
    options: dict[str, Any]
    deferred: Deferred | None
    hooks: Callable[[], None]


class ModelCalls:
    """The APPLY_MODEL wrapper of a session: a call with gradient keeps its graph, or is made again for it in chunks."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.guider: Any = None  # of the run that is now, or was last
        self.count = 0  # of its calls with gradient
        self.divide = True  # into chunks, what is made again; a patch may forbid it
        self.ask: Ask | None = None  # makes calls while they are tried, whether or not a gradient is asked for
        self.held: weakref.WeakSet[Held] = weakref.WeakSet()

    def __call__(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **conds: Any,
    ) -> Tensor:
        transformer_options = transformer_options or {}
        fixed = {"c_concat": c_concat, "c_crossattn": c_crossattn, "control": control}
        if self.ask is None and not (torch.is_grad_enabled() and x.requires_grad):
            return executor(x, t, *fixed.values(), transformer_options, **conds)
        self.count += 1
        call, tensors, divisible = self.split(executor, x, t, fixed | conds, transformer_options)
        if self.ask is not None:
            output = self.ask(call, tensors, divisible)
        elif self.memory.mode == "fast":
            half = executor.class_obj.get_dtype_inference() == torch.float16
            output = rescaled(lambda *rows: call(*rows)[0], *tensors) if half else call(*tensors)[0]
        else:
            chunk = self.memory.model if divisible and self.divide else None
            writes = Writes.of(executor.class_obj)
            output = recompute(call, *tensors, chunk=chunk, verify=True, writes=writes)
        return layers_of(output, divisible)

    @contextlib.contextmanager
    def asked(self, ask: Ask | None) -> Iterator[None]:
        """Within it, ask makes the calls; None: they are made as gradients need them."""
        before, self.ask = self.ask, ask
        try:
            yield
        finally:
            self.ask = before

    def plainly(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """function, whose calls are made as gradients make them, but without a graph."""

        def run(x: Tensor) -> Tensor:
            with self.asked(whole_batch):
                return function(x)

        return run

    def split(
        self, executor: Any, x: Tensor, t: Tensor, conds: dict[str, Any], options: dict[str, Any]
    ) -> tuple[Call, list[Tensor], bool]:
        """The model call as a function of tensors whose rows are the samples, and whether rows are independent.

        The function gives what the call gives, and by what to compare two calls: the network's own answer, as late in a
        run a prediction is mostly its input.
        x holds the samples once for each conditioning that is computed together (`cond_or_uncond`); a row has them all,
        so that patches which count on this layout still find it.
        """
        deferred = conds["control"] if isinstance(conds["control"], Deferred) else None
        if deferred:
            conds = conds | {"control": deferred.inputs}
        leaves, tree = tree_flatten((x, t, conds))
        constants = constant_conds(self.guider, conds)
        shared = {id(leaf) for name in constants for leaf in tree_flatten(conds[name])[0]}
        tensors = [i for i, leaf in enumerate(leaves) if varies(leaf, len(x)) and id(leaf) not in shared]
        layers = len(options.get("cond_or_uncond", (0,)))
        divisible = len(x) % layers == 0 and all(len(leaves[i]) == len(x) for i in tensors)
        divisible = divisible and (deferred is None or deferred.divisible) and not one_video(executor.class_obj)
        this = Held(executor, leaves, options, deferred, hooks_in_force(executor.class_obj.current_patcher))
        self.held.add(this)
        wanted = [rows_of(leaves[i], layers) if divisible else leaves[i] for i in tensors]

        def call(*rows: Tensor) -> tuple[Tensor, Tensor]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            filled = list(this.leaves)
            for i, row in zip(tensors, rows, strict=True):
                filled[i] = layers_of(row, divisible)
            x, t, conds = tree_unflatten(filled, tree)
            concat, crossattn, control = (conds.pop(name) for name in ("c_concat", "c_crossattn", "control"))
            this.hooks()
            network = this.executor.class_obj.diffusion_model
            with differentiable() as options_for, forgetful(network), answers_of(network) as answers:
                control = this.deferred(options_for, *control) if this.deferred else control
                output = this.executor(x, t, concat, crossattn, control, options_for(this.options), **conds)
            aligned = answers and all(len(answer) == len(x) for answer in answers)
            answer = torch.cat(answers, 1) if aligned else output.detach()
            return (rows_of(output, layers), rows_of(answer, layers)) if divisible else (output, answer)

        return call, wanted, divisible

    def begin(self, guider: Any) -> None:
        """A run begins."""
        self.guider, self.count = guider, 0

    def forget(self) -> None:
        """Lets go of what graphs hold; a sampler may keep tensors where the graph finds them: a cycle without end."""
        for held in self.held:
            vars(held).clear()
        self.guider = None


def rows_of(tensor: Tensor, layers: int) -> Tensor:
    """(layers * B, ...) -> (B, layers, ...)"""
    return tensor.unflatten(0, (layers, -1)).transpose(0, 1)


def layers_of(tensor: Tensor, divisible: bool) -> Tensor:
    """(B, layers, ...) -> (layers * B, ...), laid out as the host lays it out: some networks look at it by strides."""
    return tensor.transpose(0, 1).flatten(0, 1).contiguous() if divisible else tensor


def varies(leaf: Any, batch: int) -> bool:
    """Whether a leaf of the model call belongs to samples: not numbers, nor what all samples share."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and (len(leaf) == batch or len(leaf) > 1 or leaf.requires_grad)


def constant_conds(guider: Any, conds: dict[str, Any]) -> list[str]:
    """Names of conditionings that the host never repeats along the batch."""
    constant = {
        name
        for options in guider.conds.values()
        for cond in options
        for name, value in cond["model_conds"].items()
        if type(value).__name__ == "CONDConstant"
    }
    return [name for name in conds if name in constant]


def whole_batch(call: Call, tensors: list[Tensor], divisible: bool) -> Tensor:
    """Makes a call as gradients make it, for the whole batch."""
    return call(*tensors)[0]


@contextlib.contextmanager
def answers_of(network: nn.Module) -> Iterator[list[Tensor]]:
    """Yields what network answers within it, (B, N) each: before the host makes a prediction of it."""
    answers: list[Tensor] = []

    def hear(module: nn.Module, args: Any, output: Any) -> None:
        answers.extend(leaf.detach().flatten(1).clone() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))

    handle = network.register_forward_hook(hear)
    try:
        yield answers
    finally:
        handle.remove()
