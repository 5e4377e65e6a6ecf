"""Diverse Seeds: the node on the model wire that makes each seed start from noise that leads to another picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..noise.coloured import Spectrum, colour
from ..noise.set_files import load_set
from . import host
from .files import stamp
from .latents import ColouredNoise, SetNoise
from .monitor import write
from .node import Node
from .noise_sets import check_model, readable, set_names, set_path, strength_input

Source: TypeAlias = SetNoise | ColouredNoise  # NOISE that has another noise for each seed
AUTO, PINK = "auto", "pink noise"
ALPHA = 0.3  # of pink noise at strength 1; above it pictures turn patchy


class DiverseSeeds(Node):
    """MODEL in, MODEL out: what samples with it from noise alone starts from a noise set, or from pink noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDiverseSeeds",
            display_name="Diverse Seeds",
            category="noise optimize",
            description=(
                "Put it on the model wire of any graph, before the sampler: every seed then starts from noise that "
                "leads to another picture, at no cost. Prompt, model and sampler stay as they are. Image to image, "
                "inpainting and second passes are left alone."
            ),
            search_aliases=["same image", "same face", "different", "variation", "variety", "seed variance", "seed"],
            inputs=[
                io.Model.Input("model", tooltip="Any model; LoRAs and patches may come before or after this node."),
                io.Combo.Input(
                    "set",
                    options=[AUTO, PINK, *set_names()],
                    tooltip=f"What seeds start from. {AUTO}: the noise set that was found for this kind of model, or "
                    f"{PINK} where there is none. {PINK}: more coarse structure; needs no set, and does less.",
                ),
                strength_input(
                    "0: exactly the pictures without this node. 1: as different as it gets, some less well formed.",
                    io.NumberDisplay.slider,
                ),
                io.Noise.Input(
                    "noise",
                    optional=True,
                    tooltip="Noise Set, Find Noise Set, Load Noise or Pink Noise, in place of the set chosen here.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="For the sampler or guider.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, set: str | None = None) -> bool | str:
        return True if set in (AUTO, PINK) else readable(set)

    @classmethod
    def fingerprint_inputs(cls, set: str, **_: Any) -> str:
        names = set_names() if set == AUTO else [] if set == PINK else [set]
        return "\n".join(stamp(name, set_path) for name in names)

    @classmethod
    def execute(cls, model: Any, set: str, strength: float, noise: Any = None) -> io.NodeOutput:
        source, said = source_of(model, set, noise)
        write(said if strength else "off: strength is 0", cls.hidden.unique_id)
        return io.NodeOutput(host.starting_from(model, remade(source, strength)) if strength else model)


def source_of(model: Any, set: str, noise: Any = None) -> tuple[Source, str]:
    """What these widgets and wires tell the seeds of a MODEL to start from, and what that is, for the node."""
    if noise is not None:
        source = of_noise(noise)
    elif set == AUTO:
        source = found_for(model)
    else:
        source = pink() if set == PINK else SetNoise(load_set(set_path(set)), 0)
    if isinstance(source, SetNoise):
        check_model(source.found, model)
        return source, f"{len(source.found)} patterns{source.found.whose()}"
    return source, "pink noise" if noise is not None or set == PINK else "pink noise · no set for this model yet"


def of_noise(noise: Any) -> Source:
    """What a NOISE tells all seeds to start from: itself, if it has another noise for each."""
    if isinstance(noise, (SetNoise, ColouredNoise)):
        return noise
    raise ValueError(
        "noise is noise of one seed, from which all seeds would give one picture: wire Noise Set, Find Noise Set, Load "
        "Noise with a set, or Pink Noise."
    )


def found_for(model: Any) -> Source:
    """The first noise set in the list that was found for a network of this layout, else pink noise."""
    wanted = host.layout(model)
    sets = (load_set(set_path(name)) for name in set_names())
    return next((SetNoise(found, 0) for found in sets if found.settings.get("layout") == wanted), pink())


def pink() -> ColouredNoise:
    """What stands in for a noise set."""
    return ColouredNoise(0, Spectrum(alpha=ALPHA))


def noise_from(source: Source, seed: int, strength: float) -> Source:
    """The noise that another seed has, at a share of its strength; 0 is Random Noise, bit for bit."""
    if isinstance(source, ColouredNoise):
        return ColouredNoise(seed, replace(source.spectrum, alpha=source.spectrum.alpha * strength))
    return SetNoise(source.found, seed, source.strength * strength, source.pattern)


def remade(source: Source, strength: float) -> host.Remake:
    """What puts a set, or a color, into the noise of a run."""

    def remake(noise: Tensor, seed: int, part: int) -> Tensor:
        made = noise_from(source, seed, strength)
        return colour(noise, made.spectrum) if isinstance(made, ColouredNoise) else made.made(part, noise)

    return remake


NODES = [DiverseSeeds]
