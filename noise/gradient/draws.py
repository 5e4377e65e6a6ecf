"""Networks that draw random numbers: the state of torch's generators is kept, so that they draw the same ones again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

T = TypeVar("T")


class Draws:
    """The state of torch's global generators, on the CPU and on the devices of tensors, as it was when this was made.

    As a context, it leaves the generators in that state.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._cpu = torch.get_rng_state()
        self._devices, self._states = get_device_states(*tensors)

    def again(self) -> None:
        """Sets the generators to that state: what was drawn since is drawn once more."""
        torch.set_rng_state(self._cpu)
        set_device_states(self._devices, self._states)

    def before(self, function: Callable[..., T]) -> Callable[..., T]:
        """function, which draws from that state each time it is called."""

        def drawing(*args: Any) -> T:
            self.again()
            return function(*args)

        return drawing

    def __enter__(self) -> Draws:
        return self

    def __exit__(self, *_: object) -> None:
        self.again()
