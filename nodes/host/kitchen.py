"""The fused operations of comfy_kitchen in plain torch, which has derivatives.

They are custom operators without a formula for autograd. The host's `in_training` keeps most of them out of the way,
but Cosmos Predict2, Anima, ERNIE-Image and JoyImage call them whatever it says. comfy_kitchen brings the same functions
in plain torch, for devices that it has no kernels for.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

FUSED = ("apply_rope", "rms_rope", "adaln", "rms_adaln")  # how the names of those between a model's layers begin


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Within it, models that call a fused operation of comfy_kitchen by its name get the plain one."""
    kitchen, plain = (sys.modules.get(name) for name in ("comfy_kitchen", "comfy_kitchen.backends.eager"))
    names = [name for name in vars(plain) if name.startswith(FUSED) and not name.endswith("_")] if plain else []
    fused = {name: getattr(kitchen, name) for name in names if hasattr(kitchen, name)}
    try:
        for name in fused:
            setattr(kitchen, name, getattr(plain, name))
        yield
    finally:
        for name, function in fused.items():
            setattr(kitchen, name, function)
