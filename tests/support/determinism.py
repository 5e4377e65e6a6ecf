"""Which derivatives of a graph torch cannot promise to compute alike twice on CUDA, or on several cores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# From the documentation of torch.use_deterministic_algorithms: what has no deterministic derivative, and what has one
# only under that flag and can be written otherwise. Convolutions are left out, as there is no other way to write a
# network: the flag, which the host's --deterministic sets, makes them deterministic.
UNORDERED = re.compile(
    r"Upsample(Linear|Bilinear|Bicubic|Trilinear)|AdaptiveAvgPool[23]|AdaptiveMaxPool|AvgPool3|MaxPool3|FractionalMaxPool"
    r"|MaxUnpool|(Reflection|Replication)Pad|GridSampler|Cumsum|Put|Take|Gather|Scatter|IndexAdd|IndexSelect|IndexCopy"
    r"|RepeatInterleave|EmbeddingBag|Median|NllLoss|CtcLoss"
)


SUMS = re.compile(r"aten::(index_add|index_reduce|scatter_(add|reduce)|put|cumsum|cumprod|histc|bincount|_?histogram)")


class Sums(TorchDispatchMode):
    """Remembers the operations within it that add in no fixed order on CUDA, derivative or not."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if SUMS.match(func._schema.name):
            self.found.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def unordered(output: Tensor) -> list[str]:
    """The names of the nodes of output's graph whose derivative adds in no fixed order."""
    return sorted({node.name() for node in nodes(output) if UNORDERED.search(node.name()) or _reads_twice(node)})


def nodes(output: Tensor) -> Iterator[Any]:
    """Every node of the graph that made output, with those of what `recompute` will make again."""
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [before for before, _ in node.next_functions]
        if node.name() == "_RecomputeBackward":
            with torch.enable_grad():
                made = node.function(*(t.detach().clone().requires_grad_() for t in node.saved_tensors))
                waiting.append((made[0] if isinstance(made, tuple) else made).grad_fn)


def _reads_twice(node: Any) -> bool:
    """Whether indexing reads some value more than once, so that its derivative is a sum."""
    if node.name() != "IndexBackward0":
        return False
    indices = [index for index in node._saved_indices if index is not None]
    if indices[0].dtype == torch.bool:
        return False
    read = torch.stack([index.flatten() for index in torch.broadcast_tensors(*indices)])
    return read.shape[1] != read.unique(dim=1).shape[1]
