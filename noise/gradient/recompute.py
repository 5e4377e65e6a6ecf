"""Exact gradients of a batched network in bounded memory: run it without a graph, recompute it in the backward pass.

`recompute` is gradient checkpointing (Chen et al., arXiv 1604.06174) with three differences that diffusion networks
need: it goes through the batch chunk by chunk, so that memory does not grow with the batch; the network may write in
place into tensors that autograd saved; and its second output can be compared with its first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .draws import Draws
from .in_place import Writes, unchanged
from .scale import scaled_vjp

# What a network returns: its output; or the output and a second tensor to compare two calls by, each (B, ...).
Answer: TypeAlias = Tensor | tuple[Tensor, Tensor]

# Relative difference, in norm, up to which two calls of a network count as having returned the same: on a GPU, kernels
# may sum in another order, and convolutions in float32 multiply in TF32. Both calls are of the same chunks: in others,
# sums differ in the last bit, of which layers that round their input to 8 bits make 1 %.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 5e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass
class MemoryBudget:
    """How many samples to recompute at once: as many as fit `limit` bytes of saved activations.

    per_sample: bytes for one sample, measured on the first one; None until then.
    """

    limit: int
    per_sample: int | None = None

    def chunk(self, batch: int) -> int:
        """Samples in each chunk of a batch, as even as can be; 1 until a sample has been measured."""
        if not (self.per_sample and batch):
            return 1
        largest = max(1, min(batch, self.limit // self.per_sample))
        return math.ceil(batch / math.ceil(batch / largest))


class RecomputationError(RuntimeError):
    """A network that returned something else when it was called again: its gradient would be wrong."""


def recompute(
    function: Callable[..., Answer],
    *tensors: Tensor,
    chunk: int | MemoryBudget | None = None,
    verify: bool = False,
    writes: Writes | None = None,
) -> Tensor:
    """function(*tensors), whose graph is not kept but recomputed in the backward pass, chunk by chunk.

    function: maps tensors to one tensor (B, ...), each sample on its own, and returns the same values in each call: it
        keeps no state. Random numbers from torch's global generators are drawn alike for each chunk and once more in
        the backward pass, so they must not differ between samples, unless chunk is None. It may write in place, and may
        contain other `recompute` calls. A second tensor that it returns serves `verify` alone and has no gradient.
    tensors: each (B, ...), aligned along the batch. Those that require no gradient get none.
    chunk: samples at once; None for the whole batch (then function may mix samples); a MemoryBudget to fit memory.
    verify: raise RecomputationError where the values recomputed are not those of the forward pass, within TOLERANCES:
        those of the second tensor if function returns two.
    writes: what is known of in-place writes of function; pass the same object to each call of one network.
    """
    if isinstance(chunk, int) and chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1.")
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _Recompute.apply(function, chunk, verify, Writes() if writes is None else writes, *tensors)
    return in_chunks(function, *tensors, chunk=chunk)[0]


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Answer],
        chunk: int | MemoryBudget | None,
        verify: bool,
        writes: Writes,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.function, ctx.chunk, ctx.writes = function, chunk, writes
        ctx.autocast = autocast_like(tensors[0].device.type)
        ctx.draws = Draws(*tensors)
        ctx.save_for_backward(*tensors)
        if isinstance(chunk, MemoryBudget) and chunk.per_sample is None:
            first = [t[:1].detach().requires_grad_(w) for t, w in zip(tensors, ctx.needs_input_grad[4:], strict=True)]
            chunk.per_sample = saved_bytes(function, *first)
        copies = tuple(t.clone() for t in tensors)
        output, answer = in_chunks(function, *copies, chunk=chunk, draws=ctx.draws)
        ctx.expected = (output.clone() if answer is output else answer) if verify else None
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[4:]
        gradients = [torch.zeros_like(t) if w else None for t, w in zip(tensors, wanted, strict=True)]
        function = ctx.draws.before(_on_copies(ctx.function))
        with Draws(*tensors), torch.enable_grad(), ctx.autocast():
            for rows in _chunks(len(grad), ctx.chunk):

                def again(rows: slice = rows) -> tuple[Tensor, list[Tensor]]:
                    leaves = [t[rows].detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
                    output, answer = ctx.writes(function, *leaves)
                    if ctx.expected is not None and not same(answer, ctx.expected[rows]):
                        raise RecomputationError("The network gave another answer when it was asked again.")
                    return output, [t for t, w in zip(leaves, wanted, strict=True) if w]

                parts = scaled_vjp(again, grad[rows])
                for gradient, part in zip((g for g in gradients if g is not None), parts, strict=True):
                    gradient[rows] = part
        return None, None, None, None, *gradients


def in_chunks(
    function: Callable[..., Answer],
    *tensors: Tensor,
    chunk: int | MemoryBudget | None,
    draws: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """The output of function, and what to compare it by, computed chunk by chunk; see `recompute`.

    draws: the state of the random generators that each chunk starts from; None for the present one.
    """
    function = (draws or Draws(*tensors)).before(function)
    parts = [_pair(function(*(t[rows] for t in tensors))) for rows in _chunks(len(tensors[0]), chunk)]
    if len(parts) == 1:
        return parts[0]
    outputs, answers = zip(*parts, strict=True)
    output = torch.cat(outputs)
    return output, output if answers[0] is outputs[0] else torch.cat(answers)


def saved_bytes(function: Callable[..., Answer], *tensors: Tensor) -> int:
    """The bytes that the graph of function(*tensors) would keep, parameters not counted."""
    storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used twice

    def count(t: Tensor) -> None:
        if not isinstance(t if t._base is None else t._base, torch.nn.Parameter):
            storage = t.untyped_storage()
            storages[storage.data_ptr()] = storage

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, unchanged):
        leaves = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
        _on_copies(function)(*leaves)
    return sum(s.nbytes() for s in storages.values())


def _on_copies(function: Callable[..., Answer]) -> Callable[..., tuple[Tensor, Tensor]]:
    """function, free to write into its inputs: they are copies, through which the gradient passes."""
    return lambda *tensors: _pair(function(*(t.clone() for t in tensors)))


def _pair(answer: Answer) -> tuple[Tensor, Tensor]:
    return answer if isinstance(answer, tuple) else (answer, answer)


def _chunks(batch: int, chunk: int | MemoryBudget | None) -> Iterator[slice]:
    size = chunk.chunk(batch) if isinstance(chunk, MemoryBudget) else chunk or batch
    return (slice(start, start + size if start + size < batch else None) for start in range(0, batch, size))


def autocast_like(device_type: str) -> Callable[[], AbstractContextManager[Any]]:
    """The autocast that is on now, to be entered again in the backward pass."""
    enabled, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    return lambda: torch.autocast(device_type, dtype=dtype, enabled=enabled)


def same(answer: Tensor, expected: Tensor) -> bool:
    """Whether two outputs (B, ...) of a network agree within TOLERANCES; values that are not finite are left out."""
    if answer.shape != expected.shape:
        return False
    finite = torch.isfinite(expected)
    expected = torch.where(finite, expected, 0).float()
    difference = torch.where(finite, answer.detach(), 0).float() - expected
    return bool(difference.norm() <= TOLERANCES.get(answer.dtype, 5e-2) * expected.norm())
