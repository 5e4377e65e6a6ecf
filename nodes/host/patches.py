"""What other nodes have patched into a model, tried before a gradient or a set of pictures relies on it.

A patch may look at the whole batch, keep what one call of the model computed for a later one, hand it to the guidance,
or go on from one sampling run to the next. No name tells; so runs are made, in which each call is asked again. What a
patch keeps is its own: nothing of it is looked at or put back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management
from torch import Tensor, nn

from ...noise.gradient.draws import Draws
from ...noise.gradient.recompute import same
from .call import Ask, Call, whole_batch
from .kernels import OVERRIDE, cannot_differentiate
from .memory import Memory
from .stand_in import FAILED
from .wires import GRADIENT_FREE

PACK = __name__.partition(".nodes.")[0]
CHUNKS, WHOLE, ONCE, NEVER = "chunks", "whole", "once", "never"
REPEATS = 1e-3  # of the norm, by which two runs of the same kernels may differ


def settled(found: str, patches: str, memory: Memory) -> bool:
    """Whether calls may be made again in chunks, after a trial; raises ValueError where there is no exact gradient."""
    if found == NEVER:
        raise ValueError(
            f"A patch on the model ({patches}) goes on from one run to the next, so that one noise gives different "
            "pictures: take the patch off the model wire."
        )
    if found == ONCE and memory.mode == "low":
        raise ValueError(
            f"A patch on the model ({patches}) keeps something from call to call, so it has no exact gradient with "
            "memory low, nor with a hook on a conditioning: take the patch off the model wire, set memory to auto or "
            f"fast, {GRADIENT_FREE}"
        )
    memory.mode = "fast" if found == ONCE else memory.mode
    if found != CHUNKS:
        how = {WHOLE: "each batch recomputed in one piece", ONCE: "the graph of a whole run kept"}[found]
        logging.info("Noise Optimize: a patch on the model (%s) has %s.", patches, how)
    return found == CHUNKS


def patches_of(guider: Any) -> str:
    """The nodes or functions that have patched the model of a guider, for a message; "" for none.

    An attention kernel is none: it is left out of gradients (kernels.py).
    """
    patcher = guider.model_patcher
    replaced = [value for name, value in patcher.object_patches.items() if name.startswith("diffusion_model")]
    names = [_name(function) for function in functions_in([guider.model_options, patcher.wrappers, replaced])]
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names if name))


def functions_in(options: Any) -> Iterator[Callable[..., Any]]:
    """All functions and objects that can be called in a tree of dicts, lists and tuples, but kernels of attention."""
    if isinstance(options, dict):
        options = [value for name, value in options.items() if name != OVERRIDE]
    if isinstance(options, (list, tuple)):
        for value in options:
            yield from functions_in(value)
    elif callable(options) and not isinstance(options, (nn.Module, type)):
        yield options


def trial(run: Callable[[Tensor, Ask], Tensor], noise: Tensor) -> str:
    """How a session may treat the model's calls in run(noise, ask): latents, where ask makes the calls.

    CHUNKS: make them again, for some samples at a time. WHOLE: make them again, for the whole batch. ONCE: what a call
    has computed is used outside it, so only a graph that is kept is right. NEVER: runs depend on the runs before.
    Costs four runs without a gradient, about; where the answer is not CHUNKS, seven to ten.
    """

    def after_another() -> Tensor:
        run(noise.flip(-1), whole_batch)
        return run(noise, whole_batch)

    def as_before(latents: Tensor) -> bool:
        return distance(latents, before) <= REPEATS

    def repeats(chunk: int | None) -> bool:
        again = Again(chunk)
        try:
            latents = run(noise, again)
        except FAILED as error:
            if comfy.model_management.is_oom(error) or cannot_differentiate(error):
                raise
            return False
        return again.same and not latents.requires_grad and as_before(latents)

    before = after_another()
    if repeats(1):
        return CHUNKS
    before = after_another()
    if not as_before(run(noise, whole_batch)):
        return NEVER
    if repeats(None):
        return WHOLE
    return ONCE if as_before(run(noise, whole_batch)) else NEVER


@dataclass
class Again:
    """Makes calls for the whole batch, without a graph, and once more as a backward pass would: with one, in chunks.

    same: whether the second answers were the first, and no graph of them has come out of a later call.
    """

    chunk: int | None
    same: bool = True

    def __call__(self, call: Call, tensors: list[Tensor], divisible: bool) -> Tensor:
        draws = Draws(*tensors)
        output, answer = call(*tensors)
        self.same &= not output.requires_grad
        size = self.chunk if self.chunk and divisible else len(answer)
        parts = zip(answer.split(size), *(t.split(size if divisible else len(t)) for t in tensors), strict=True)
        with Draws(*tensors):
            for expected, *rows in parts:
                draws.again()
                leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in rows]
                self.same &= same(call(*(t.clone() for t in leaves))[1], expected)
        return output.detach()


def mixes(run: Callable[[Tensor], Tensor], noise: Tensor, alike: bool) -> bool:
    """Whether the picture of a noise depends on the one beside it, or on its place if both are `alike`.

    run(noise): what becomes of two pictures, without injected noise; three times. noise: (2, C, ...).
    """
    expected, beside = run(noise)[:1], noise * noise.new_tensor([1, -0.5]).reshape(-1, *(1,) * (noise.ndim - 1))
    answers = [run(beside)[:1], *([run(noise.flip(0))[1:]] if alike else [])]
    return any(distance(answer, expected) > REPEATS for answer in answers)


def distance(answer: Tensor, expected: Tensor) -> float:
    """By how much of its norm one tensor differs from another."""
    answer, expected = (t.detach().nan_to_num().float() for t in (answer, expected))
    return float((answer - expected).norm() / expected.norm().clamp(min=1e-30))


def _name(function: Any) -> str:
    """The qualified name of a function, or of its class; "" for ours."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    owner = getattr(function, "__module__", None) or named.__module__
    return "" if owner.startswith(PACK) else named.__qualname__
