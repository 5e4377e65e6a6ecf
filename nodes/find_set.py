"""Find Noise Set: patterns of noise that make the pictures of every prompt differ, found on many prompts at once."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..noise.find_set import BAND, Finding
from ..noise.optimizers import OPTIMIZERS
from ..noise.patterns import NoiseSet
from ..objectives.batch import PICTURES
from . import finding, host, sockets
from .latents import SetNoise
from .node import Node
from .noise_sets import check_model

KEEP, STOP = "keep the best", "stop the graph"
DRAFT, WHOLE = "first prediction", "whole run"
FEWEST = 3  # prompts
DEFAULT = Finding()
NO_VAE = "Find Noise Set has no pictures: wire a VAE to its vae."


class FindNoiseSet(Node):
    """Moves patterns along the gradient of many prompts, and keeps those that serve the prompts kept out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeFindSet",
            display_name="Find Noise Set",
            category="noise optimize/sampling",
            description=(
                "Finds, once for a model, patterns of noise that make the pictures of every prompt differ, also of "
                "prompts that it never saw: some are kept out to choose by. Save the result with Save Noise, and use "
                "it with Noise Set at no cost."
            ),
            search_aliases=["diversity", "same picture", "train noise", "noise set", "patterns"],
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that the set is for."),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="Many prompts as a list: a text encode node that gets a Prompt List runs once for each.",
                ),
                io.Sampler.Input("sampler", tooltip="Any sampler. Differentiable Sampler sets its memory."),
                io.Sigmas.Input("sigmas", tooltip="The steps. Few are enough; the set works with more."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="Size, and by its batch how many pictures are drawn together; at least 2. The set works at "
                    "other sizes, too.",
                ),
                sockets.Objective.Input(
                    "objective",
                    tooltip="Diversity, and something that keeps the prompt, such as CLIP Score with an empty prompt. "
                    "Guards take no part.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="For pictures, and for objectives that look at pictures."),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="One for all prompts, or a list with one for each."
                ),
                io.String.Input(
                    "prompts",
                    optional=True,
                    force_input=True,
                    tooltip="The texts of the prompts, from the same Prompt List: for objectives whose prompt is "
                    "empty, and for the report.",
                ),
                io.Noise.Input("noise", optional=True, tooltip="A noise set to go on from; else it begins at random."),
                io.Int.Input(
                    "patterns",
                    default=16,
                    min=4,
                    max=256,
                    tooltip="How many patterns the set has, where it begins at random.",
                ),
                io.Int.Input(
                    "iterations",
                    default=DEFAULT.iterations,
                    min=0,
                    max=10000,
                    tooltip="Steps on the patterns. Each takes a gradient for every prompt that is not kept out; the "
                    "node says what that will cost before it begins.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance; counts only with a negative. 1 for distilled models.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=DEFAULT.learning_rate,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.0001,
                    tooltip="Length of the first step as a share of a pattern's norm; it falls to 0 towards the end.",
                ),
                io.Combo.Input(
                    "gradient",
                    options=[DRAFT, WHOLE],
                    tooltip="first prediction: through what the model foresees at its first step. whole run: through "
                    "all steps, which costs as many times more.",
                ),
                io.Int.Input(
                    "held_out",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Prompts that are kept out to choose the best iteration by, spread over the list. 0: a "
                    "quarter of them.",
                ),
                io.Float.Input(
                    "loss",
                    default=DEFAULT.loss,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    advanced=True,
                    tooltip="How much quality the prompts kept out may lose, as a share of the score's usual range. "
                    "0.05 is 0.01 of CLIP Score.",
                ),
                io.Float.Input(
                    "band",
                    default=BAND,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    advanced=True,
                    tooltip="The share of the frequencies of each side that a pattern holds; what is above is fresh "
                    "noise.",
                ),
                io.Combo.Input(
                    "optimizer",
                    options=[name for name, row in OPTIMIZERS.items() if row.update is not None],
                    default=DEFAULT.optimizer,
                    advanced=True,
                    tooltip="How steps are taken from gradients, as in Noise Optimize.",
                ),
                io.Float.Input(
                    "momentum",
                    default=DEFAULT.momentum,
                    min=0.0,
                    max=0.999,
                    step=0.01,
                    advanced=True,
                    tooltip="How much of the last step goes on; 0.9 makes the step up to ten times as long.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the patterns at the beginning and of the fresh noise around them.",
                ),
                io.Combo.Input(
                    "on_cancel",
                    options=[KEEP, STOP],
                    default=KEEP,
                    tooltip="What Cancel does here: go on in the graph with the best set so far, or stop the graph.",
                ),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The set, for Save Noise and for any sampler."),
                io.Image.Output(
                    display_name="images",
                    tooltip="Of each prompt kept out, a row of plain pictures and below it one with the set.",
                ),
                io.Image.Output(display_name="plot", tooltip="The scores of the prompts kept out over the iterations."),
                io.String.Output(display_name="report", tooltip="What the set does to them, and what it cost."),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, **lists: Any) -> io.NodeOutput:
        given: dict[str, Any] = {name: values[0] if values else None for name, values in lists.items()}
        model, sampler, sigmas, latent = (given[name] for name in ("model", "sampler", "sigmas", "latent_image"))
        objective, vae = given["objective"], given.get("vae")
        conditionings = paired(lists["conditioning"], lists.get("negative"))
        texts = named_prompts(lists.get("prompts"), len(conditionings))
        if PICTURES in objective.needs and vae is None:
            raise ValueError("objective looks at pictures, and there is no VAE: wire one to vae.")
        held_out = spread(len(conditionings), given["held_out"] or max(1, len(conditionings) // 4))
        guider = host.guider_of(model, *conditionings[0], given["cfg"])
        host.refuse_wires(guider, sigmas)
        if given["iterations"]:
            with torch.inference_mode(False):
                host.refuse_gradient(guider, getattr(sampler, "sampler", sampler))
        samples = host.latent_image(guider, latent)
        if len(samples) < 2:
            raise ValueError("latent_image holds 1 picture, which differs from nothing; raise its batch to 2 or more.")
        if latent.get("noise_mask") is not None:
            raise ValueError("latent_image has a mask, and a set is for whole pictures; wire an empty latent.")
        settings = Finding(
            at_once=len(samples),
            **{name: given[name] for name in ("iterations", "learning_rate", "optimizer", "momentum", "loss", "seed")},
        )
        start = begun(given.get("noise"), model, samples.shape, given["patterns"], given["band"], settings.seed)
        search = finding.Search(
            model,
            texts,
            conditionings,
            given["cfg"],
            host.DifferentiableSampler.of(sampler),
            sigmas,
            latent,
            objective,
            bool(lists.get("prompts")),
            vae,
            held_out,
            1 if given["gradient"] == DRAFT else None,
            given["on_cancel"] == KEEP,
            cls.hidden.unique_id,
        )
        found = search.run(start, settings)
        words = search.report(found, settings.iterations)
        shown = ui.PreviewText(words).as_dict()
        images: Any = ExecutionBlocker(NO_VAE)
        if (page := finding.sheet(found)) is not None:
            images = finding.as_image(page)
            shown |= ui.PreviewImage(images, cls=cls).as_dict()
        noise = SetNoise(finding.finished(found, settings), 0)
        return io.NodeOutput(noise, images, finding.plot(found), words, ui=shown)


def paired(positive: list[Any], negative: list[Any] | None) -> list[tuple[Any, Any]]:
    """The conditionings of each prompt."""
    if len(positive) < FEWEST:
        raise ValueError(
            f"conditioning gets {len(positive)} of at least {FEWEST} prompts: wire a Prompt List to the text of the "
            "node that encodes it."
        )
    negative = negative or [None]
    if len(negative) not in (1, len(positive)):
        raise ValueError(
            f"negative gets {len(negative)} conditionings for {len(positive)} prompts; wire one, or one for each."
        )
    return list(zip(positive, negative * (len(positive) if len(negative) == 1 else 1), strict=True))


def named_prompts(texts: list[str] | None, count: int) -> list[str]:
    """What the prompts are called."""
    if not texts:
        return [f"prompt {number + 1}" for number in range(count)]
    if len(texts) != count:
        raise ValueError(
            f"prompts gets {len(texts)} texts for {count} conditionings; wire the same Prompt List to both."
        )
    return texts


def spread(count: int, wanted: int) -> list[int]:
    """So many places of a list, evenly spread; raises ValueError where too few others are left."""
    if count - wanted < FEWEST - 1:
        raise ValueError(f"held_out is {wanted} of {count} prompts; keep at least {FEWEST - 1} to find the set on.")
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def begun(noise: Any, model: Any, shape: torch.Size, patterns: int, band: float, seed: int) -> NoiseSet:
    """The set to begin with: one that was found, or patterns drawn at random."""
    name, channels = host.latent_format(model)
    about: dict[str, Any] = {
        "size": tuple(shape[2:]),
        "model": host.model_name(model),
        "latent_format": name,
        "settings": {"layout": host.layout(model)},  # by which Diverse Seeds finds the set of a model
    }
    if noise is not None:
        if not isinstance(noise, SetNoise):
            raise ValueError("noise is no noise set; wire Noise Set or Load Noise with one, or nothing.")
        check_model(noise.found, model)
        return NoiseSet(noise.found.coefficients, **about)
    sides = [max(1, round(band * side)) for side in (1, *shape[2:])[-2:]]
    generator = torch.Generator().manual_seed(seed)
    return NoiseSet(torch.randn(patterns, channels, *sides, generator=generator), **about)


NODES = [FindNoiseSet]
