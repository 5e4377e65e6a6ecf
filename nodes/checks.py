"""What comes in by wires, checked before anything runs: one sentence that names the input and what belongs there.

The host compares kinds of wires only where both ends have one, and looks at the limits of a widget only where no wire
is in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..noise.files import SEEDS
from ..objectives.features.base import Features
from ..objectives.objective import Objective
from . import sockets
from .latents import check_latent

LISTED = 16  # choices that a sentence names at most


def has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def is_images(value: Any) -> bool:
    shaped = isinstance(value, Tensor) and value.ndim == 4 and 0 not in value.shape and value.shape[-1] != 2
    return shaped and value.is_floating_point() and bool(value.isfinite().all())


def is_sigmas(value: Any) -> bool:
    shaped = isinstance(value, Tensor) and value.ndim == 1 and value.is_floating_point()
    return shaped and bool(value.isfinite().all())


def is_conditioning(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_condition, value))


def is_condition(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 1 and isinstance(value[1], dict)


WIRES: dict[str, tuple[Callable[[Any], bool], str]] = {
    io.Noise.io_type: (has("generate_noise"), "Random Noise, Pink Noise or another node that gives NOISE"),
    io.Guider.io_type: (has("sample", "set_conds"), "a Basic, CFG or Dual CFG Guider"),
    io.Sampler.io_type: (has("sample", "max_denoise"), "a sampler, such as KSamplerSelect gives"),
    io.Sigmas.io_type: (is_sigmas, "a scheduler: a list of finite numbers"),
    io.Vae.io_type: (has("decode", "decode_tiled"), "a VAE"),
    io.Image.io_type: (
        is_images,
        "pictures: a batch of at least one, with 1, 3 or 4 channels of finite decimal numbers",
    ),
    io.Model.io_type: (has("get_model_object"), "a diffusion model"),
    io.Conditioning.io_type: (is_conditioning, "what a text encode node gives"),
    io.ClipVision.io_type: (has("encode_image", "model", "patcher"), "Load CLIP Vision"),
    sockets.Features.io_type: (lambda value: isinstance(value, Features), "a node of features, such as DINO Features"),
    sockets.Objective.io_type: (lambda value: isinstance(value, Objective), "an objective, such as Diversity gives"),
}


def check_inputs(
    inputs: Sequence[io.Input], given: Mapping[str, Any], in_lists: bool = False, prefix: str = ""
) -> None:
    """Raises ValueError for the first input that does not get what it can use.

    inputs: of a schema. given: values by their names. in_lists: whether each is a list of values. prefix: of the names
    in an input that has inputs of its own.
    """
    for each in inputs:
        values = [] if each.id not in given else given[each.id] if in_lists else [given[each.id]]
        for value in values or []:
            if not (each.optional and value is None and not hasattr(each, "default")):
                check(each, f"{prefix}{each.id}", value)


def check(each: io.Input, name: str, value: Any) -> None:
    """One input of a schema."""
    kind = each.get_io_type()
    if isinstance(each, io.Autogrow.Input):
        check_inputs(each.template.get_all(), value, prefix=f"{name}.")
    elif isinstance(each, io.DynamicCombo.Input):
        options = {option.key: option.inputs for option in each.options}
        check_choice(name, value[each.id], options)
        check_inputs(options[value[each.id]], value, prefix=f"{name}.")
    elif isinstance(each, io.Combo.Input):
        check_choice(name, value, each.options)
    elif isinstance(each, io.Int.Input):
        check_number(each, name, value, Integral, "a whole number")
    elif isinstance(each, io.Float.Input):
        check_number(each, name, value, Real, "a number")
    elif isinstance(each, (io.String.Input, io.Boolean.Input)):
        if not isinstance(value, str if isinstance(each, io.String.Input) else bool):
            raise ValueError(f"{name} gets {named(value)}; give it {'text' if kind == 'STRING' else 'true or false'}.")
    elif kind == io.Latent.io_type:
        check_latent(value)
    elif kind in WIRES and not WIRES[kind][0](value):
        raise ValueError(f"{name} gets {named(value)}; wire {WIRES[kind][1]} to it.")
    elif kind == io.Noise.io_type and not (isinstance(getattr(value, "seed", None), Integral) and value.seed in SEEDS):
        raise ValueError(f"{name} has the seed {shortened(getattr(value, 'seed', None))}; set one below 2**64 in it.")


def check_number(each: Any, name: str, value: Any, kind: type, what: str) -> None:
    low, high = (limit if limit is not None else side for limit, side in ((each.min, -math.inf), (each.max, math.inf)))
    if not isinstance(value, kind) or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name} is {shortened(value)}; set it to {what} from {low} to {high}.")


def check_choice(name: str, value: Any, options: Any) -> None:
    if not (isinstance(value, str) and value in list(options)):
        names = list(map(str, options))
        listed = ", ".join(names) if len(names) <= LISTED else f"{', '.join(names[:LISTED])} and the others of its list"
        raise ValueError(f"{name} is {shortened(value)}; choose one of {listed}.")


def shortened(value: Any, letters: int = 60) -> str:
    """A value for a sentence."""
    text = " ".join(repr(value).split())
    return text if len(text) <= letters else f"{text[:letters]}..."


def named(value: Any) -> str:
    """What a value is, for a sentence: of a tensor its size, of anything else its class."""
    if isinstance(value, Tensor):
        size = " x ".join(map(str, value.shape)) or "one number"
        return f"a tensor of {size} ({str(value.dtype).removeprefix('torch.')})"
    return "nothing" if value is None else f"a {type(value).__name__}"
