"""Noise Set: noise with patterns that were found once for a model, so that every prompt's pictures differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.v0_0_2 import io

from ..noise.patterns import NoiseSet
from ..noise.set_files import is_set, load_set
from . import host
from .checks import shortened
from .demo import FOLDER
from .files import SUFFIX, listed, located, stamp
from .latents import BY_SEED, IN_ORDER, SetNoise
from .networks import own_folders
from .node import Node

SHIPPED = {"demo model": FOLDER / "set.safetensors"}
MODELS = " [models]"  # marks a file of models/noise_optimize
CHOSEN = "chosen"


class NoiseSetNode(Node):
    """Random Noise with a pattern in its low frequencies."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeSet",
            display_name="Noise Set",
            category="noise optimize/noise",
            description=(
                "Takes the place of Random Noise and makes the pictures of every prompt differ, at no cost: a set of "
                "patterns was found once for the model, and each seed starts from the next of them with fresh noise "
                "around it. Any size, any number of steps."
            ),
            search_aliases=[
                "diversity",
                "same picture",
                "mode collapse",
                "random noise",
                "pattern",
                "preset",
            ],
            inputs=[
                io.Combo.Input(
                    "set",
                    options=set_names(),
                    tooltip="A noise set of the model that you use: one that is shipped, a file that Save Noise wrote, "
                    "or one that lies in the input folder or in models/noise_optimize.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the fresh noise, the same as in Random Noise. The next seed takes the next "
                    "pattern, and four in a row differ.",
                ),
                strength_input(
                    "0: exactly Random Noise of this seed. 0.5: different, and on the prompt nearly as often. 1: as "
                    "different as it gets.",
                ),
                io.Combo.Input(
                    "pattern",
                    options=[BY_SEED, IN_ORDER, CHOSEN],
                    tooltip="by seed: each seed and each picture of a batch takes the next pattern. in order: a batch "
                    "begins with the first, whatever the seed is. chosen: the one with this number for all pictures: "
                    "each keeps its character over prompts and seeds.",
                ),
                io.Int.Input(
                    "number",
                    default=1,
                    min=1,
                    max=4096,
                    optional=True,
                    tooltip="For pattern chosen: which one, from 1.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Only to check that the set was found for latents of this model.",
                ),
            ],
            outputs=[
                io.Noise.Output(tooltip="For any sampler that takes NOISE, for Noise Optimize and for Noise Search."),
                io.String.Output(display_name="report", tooltip="Where the set comes from and what it does."),
            ],
        )

    @classmethod
    def validate_inputs(cls, set: str | None = None) -> bool | str:
        return readable(set)

    @classmethod
    def fingerprint_inputs(cls, set: str, **_: Any) -> str:
        return stamp(set, set_path)

    @classmethod
    def execute(
        cls, set: str, seed: int, strength: float, pattern: str, number: int = 1, model: Any = None
    ) -> io.NodeOutput:
        found = load_set(set_path(set))
        if model is not None:
            check_model(found, model)
        which = chosen(found, number) if pattern == CHOSEN else pattern
        return io.NodeOutput(SetNoise(found, seed, strength, which), told(found))


def strength_input(tooltip: str, shown: io.NumberDisplay | None = None) -> io.Float.Input:
    """The widget `strength`. shown: how, where it is not a plain number."""
    return io.Float.Input(
        "strength", default=0.5, min=0.0, max=1.0, step=0.05, round=0.001, display_mode=shown, tooltip=tooltip
    )


def readable(name: str | None) -> bool | str:
    """Whether a set that was chosen can be read, or why not; one that comes by wire is not looked at yet."""
    try:
        if name is not None:
            load_set(set_path(name))
    except ValueError as error:
        return str(error)
    return True


def check_model(found: NoiseSet, model: Any) -> None:
    """Raises ValueError where a set was found for latents of another kind than this model's."""
    name, channels = host.latent_format(model)
    held = found.latent_format or name, found.coefficients.shape[1]
    if held != (name, channels):
        raise ValueError(
            f"the noise set was found for latents of {held[1]} channels{found.whose()}, and the model has {channels} "
            f"({name}); choose a set that was found for this model."
        )


def chosen(found: NoiseSet, number: int) -> int:
    """The index of the pattern with this number."""
    if number > len(found):
        raise ValueError(f"number is {number} and the set has {len(found)} patterns; set it to {len(found)} or less.")
    return number - 1


def told(found: NoiseSet) -> str:
    """What a set is, in lines."""
    h, w = found.coefficients.shape[2:]
    lines = [f"{len(found)} patterns of {h} x {w} coefficients a channel{found.whose()}."]
    if found.prompts:
        lines.append(f"Found on: {', '.join(found.prompts)}.")
    if found.unseen:
        lines.append(f"Not seen while finding: {', '.join(found.unseen)}.")
    plain, now = (found.scores.get(name, {}) for name in ("plain", "set"))
    lines += [
        f"{name} on those: plain {plain[name]:.3f}, with the set {now[name]:.3f}." for name in now if name in plain
    ]
    lines.append(f"Order: {', '.join(str(number + 1) for number in found.order)}.")
    return "\n".join(lines)


def set_names() -> list[str]:
    """The noise sets that are shipped, in models/noise_optimize, and in the input and output folders."""
    shared = [
        path.relative_to(folder).as_posix() + MODELS
        for folder in map(Path, own_folders())
        for path in sorted(folder.rglob(f"*{SUFFIX}"))
        if is_set(path)
    ]
    saved = [name for name in listed() if is_set(located(name))]
    return [*(name for name, path in SHIPPED.items() if path.exists()), *shared, *saved]


def set_path(name: str) -> Path:
    """The file of a listed noise set; raises ValueError where the name leads out of ComfyUI's folders."""
    if name in SHIPPED:
        return SHIPPED[name]
    if not str(name).endswith(MODELS):
        return located(name)
    inside = [(folder, folder / name.removesuffix(MODELS)) for folder in map(Path, own_folders())]
    for folder, path in inside:
        if path.exists() and path.resolve().is_relative_to(folder.resolve()):
            return path
    raise ValueError(f"set {shortened(name)} is not in models/noise_optimize; choose one of the list.")


NODES = [NoiseSetNode]
