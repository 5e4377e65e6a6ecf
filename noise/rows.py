"""Random draws for some rows of a batch that are those which the whole batch would get, whoever draws them and how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

UNTAGGED = ("aten::_standard_gamma", "aten::binomial", "aten::_sample_dirichlet")  # random, and not marked as such


class RowsOfWhole(TorchDispatchMode):
    """Within it, code that draws for `rows` of a batch of `total` gets the rows of what it would draw for all of it.

    A draw is any operation that torch marks as random, with any generator, from `torch.randn` to a Brownian tree. It is
    taken to be for the batch if it gives len(rows) rows and at least `dims` dimensions: then all rows are drawn, and
    those of `rows` (in any order, also more than once) picked. Other draws, such as one number, are left alone. Not
    seen: other libraries' generators, and statistics taken over the rows of a draw.
    """

    def __init__(self, rows: Sequence[int], total: int, dims: int = 3) -> None:
        super().__init__()
        self.rows, self.total, self.dims = list(rows), total, dims

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags and func._schema.name not in UNTAGGED:
            return func(*args, **kwargs)
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        whole = {name: self._whole(name, value) for name, value in given.items()}
        if all(whole[name] is given[name] for name in given):
            return func(*args, **kwargs)
        drawn = func(**whole)
        if func._schema.is_mutable:
            return given["self"].copy_(drawn[self.rows])
        return tree_map_only(Tensor, lambda t: t[self.rows], drawn)

    def _whole(self, name: str, value: Any) -> Any:
        """An argument of a draw for the whole batch: its size, or a tensor whose other rows are those of the first."""
        if name == "size" and self._of_batch(value):
            return [self.total, *value[1:]]
        if isinstance(value, Tensor) and self._of_batch(value.shape):
            whole = value[:1].expand(self.total, *value.shape[1:]).clone()
            whole[self.rows] = value
            return whole
        return value

    def _of_batch(self, shape: Sequence[int]) -> bool:
        return len(shape) >= self.dims and shape[0] == len(self.rows)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within it, draws are as ever; for a network that the code calls."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()
