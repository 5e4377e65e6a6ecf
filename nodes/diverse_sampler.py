"""Diverse Sampler: KSampler with a dial for how much its pictures differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..objectives.batch import PICTURES
from ..objectives.objective import Objective
from . import host, keeping, sockets
from .differing import DIFFER_IN, LAYOUT, differing, references
from .efforts import EFFORTS, Effort, Handed, Wanted, plain
from .files import stamp
from .latents import batch_size, of_size, parts
from .node import Node
from .noise_sets import readable, set_names, set_path
from .seeds import AUTO, PINK

SEVERAL = 4  # pictures where latent_image has one
NO_VAE = "Diverse Sampler has no pictures: wire a VAE to its vae, or use its latent."


class DiverseSampler(Node):
    """KSampler's sockets and widgets, then how different the pictures are to be and what that may cost."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDiverseSampler",
            display_name="Diverse Sampler",
            category="noise optimize",
            description=(
                "Takes KSampler's place, and makes the pictures of one prompt differ: four at once where the latent "
                "has one. Model and prompt stay as they are. variety 0 is KSampler, bit for bit."
            ),
            search_aliases=[
                "same image",
                "same face",
                "different",
                "variation",
                "seed variance",
                "variety",
                "seed",
                "ksampler",
            ],  # fmt: skip
            inputs=[
                io.Model.Input("model", tooltip="Any model, with its LoRAs and patches."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the starting noise, as in KSampler. The same seed gives the same pictures.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Sampling steps, as in KSampler."),
                io.Float.Input(
                    "cfg", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="Guidance, as in KSampler."
                ),
                io.Combo.Input("sampler_name", options=host.SAMPLERS, tooltip="As in KSampler."),
                io.Combo.Input("scheduler", options=host.SCHEDULERS, tooltip="As in KSampler."),
                io.Conditioning.Input("positive", tooltip="What the pictures should show."),
                io.Conditioning.Input("negative", tooltip="What they should not show; unused where cfg is 1."),
                io.Latent.Input(
                    "latent_image", tooltip="An empty latent, or a picture to start from with denoise below 1."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="As in KSampler. The lower, the less the pictures can differ.",
                ),
                io.Float.Input(
                    "variety",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    optional=True,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How different the pictures are to be. 0: exactly KSampler. quick and thorough stop when "
                    "the score of differ_in is there: 0 for identical pictures, 1 for pictures with nothing in "
                    "common. set takes so much of the noise set, search chooses among more, up to 5 for each picture.",
                ),
                io.Combo.Input(
                    "effort",
                    options=list(EFFORTS),
                    default="quick",
                    optional=True,
                    tooltip="What it may cost, in plain sampling runs; the node says the price before and after. set: "
                    "1, as KSampler; takes a noise set for the model, and does little where there is none. search: "
                    "about 3; needs no gradient, for compiled models. quick: about 3 with 4 steps, 2 with 8. thorough: "
                    "up to 6 with 4 steps, 4 with 8; goes on where quick has not reached the variety.",
                ),
                io.Combo.Input(
                    "differ_in",
                    options=list(DIFFER_IN),
                    default=LAYOUT,
                    optional=True,
                    tooltip="In what the pictures are to differ. layout and colors: where things are and in what "
                    "colors; no download, no VAE. objects: what is shown, as DINOv2 sees it; fetches 346 MB once. "
                    "colors: which colors and how much of each; no download. The last two need a VAE. Not used by set.",
                ),
                io.Boolean.Input(
                    "keep_prompt",
                    default=True,
                    optional=True,
                    tooltip="Holds each picture's sharpness and contrast at no less than its plain picture has, so "
                    "that it does not become different by losing what the prompt asks for. No download; needs a VAE, "
                    "and has no part in set and search.",
                ),
                io.Int.Input(
                    "pictures",
                    default=0,
                    min=0,
                    max=256,
                    optional=True,
                    tooltip=f"How many. 0: as many as latent_image has, or {SEVERAL} where it has one and variety is "
                    "above 0.",
                ),
                io.Int.Input(
                    "at_once",
                    default=0,
                    min=0,
                    max=256,
                    optional=True,
                    advanced=True,
                    tooltip="How many pictures are computed together, which is what memory grows with. 0: all. Fewer: "
                    "one batch after another, each different from all before. Not used by set.",
                ),
                io.Combo.Input(
                    "memory",
                    options=list(host.MEMORY),
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="How quick and thorough take the gradient: fast keeps all of the model's call, low "
                    "computes it again in parts, auto chooses.",
                ),
                io.Combo.Input(
                    "set",
                    options=[AUTO, PINK, *set_names()],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip=f"What effort set starts from. {AUTO}: the noise set that was found for this kind of "
                    f"model, or {PINK} where there is none.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="For the pictures, keep_prompt, and what is compared as pictures."
                ),
                sockets.Objective.Input(
                    "objective",
                    optional=True,
                    tooltip="What to raise in place of differ_in: Diversity, Combine Objectives... A diversity without "
                    "a target gets variety as its target.",
                ),
                io.Image.Input(
                    "differ_from",
                    optional=True,
                    tooltip="Pictures to differ from, too, such as earlier results. Not used by set.",
                ),
                *keeping.keep_inputs("this seed in KSampler"),
            ],
            outputs=[
                io.Latent.Output(display_name="LATENT", tooltip="As KSampler gives it."),
                io.Image.Output(display_name="IMAGE", tooltip="The pictures; needs a VAE."),
                io.Noise.Output(
                    display_name="NOISE", tooltip="The noise they start from, for any sampler or Save Noise."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, set: str | None = None) -> bool | str:
        return True if set in (AUTO, PINK) else readable(set)

    @classmethod
    def fingerprint_inputs(cls, set: str = AUTO, **_: Any) -> str:
        names = set_names() if set == AUTO else [] if set == PINK else [set]
        return "\n".join(stamp(name, set_path) for name in names)

    @classmethod
    def execute(
        cls,
        seed: int,
        latent_image: dict[str, Any],
        variety: float = 0.6,
        effort: str = "quick",
        differ_in: str = LAYOUT,
        keep_prompt: bool = True,
        pictures: int = 0,
        at_once: int = 0,
        memory: str = "auto",
        set: str = AUTO,
        vae: Any = None,
        objective: Objective | None = None,
        differ_from: Tensor | None = None,
        keep: str = "",
        kept_from: str = "",
        **widgets: Any,
    ) -> io.NodeOutput:
        batch = batch_size(latent_image)
        count = pictures or (SEVERAL if batch == 1 and variety else batch)
        latent, chosen = of_size(latent_image, count), EFFORTS[effort]
        sampling, kept = host.KSampler(**widgets), keeping.Kept.of(keep, kept_from, count)
        wanted = Wanted(
            sampling, seed, latent, variety, None, vae, None, at_once, memory, set, cls.hidden.unique_id, kept
        ).with_kept_noise()
        if not wanted.still:
            refuse(wanted, chosen)
        if not wanted.still and chosen.looks:
            goal = differing(differ_in, variety, objective, keep_prompt and vae is not None and chosen.gradient)
            wanted = compared(wanted, goal, differ_from)
        handed = (plain if wanted.still else chosen.make)(wanted)
        shown = ui.PreviewText("\n".join([*kept.told, handed.words])).as_dict()
        shown["kept"] = [kept.shown(keeping.write(handed.drawn), count) | handed.line]
        images: Any = ExecutionBlocker(NO_VAE)
        if vae is not None:
            images = as_images(handed, vae)
            frames = len(images) // count
            shown |= ui.PreviewImage(images[frames // 2 :: frames], cls=cls).as_dict()
        return io.NodeOutput(handed.latent, images, handed.noise or handed.drawn, ui=shown)


def refuse(wanted: Wanted, effort: Effort) -> None:
    """Raises ValueError with one sentence for wires and widgets with which no variety can be had."""
    sampling, samples = wanted.sampling, wanted.latent["samples"]
    if host.starts_elsewhere(sampling.model):
        raise ValueError(
            "model carries Diverse Seeds, which puts other noise in place of what is found here: take Diverse Seeds "
            "off the model wire, or set variety to 0."
        )
    if len(sampling.sigmas()) < 2:
        raise ValueError("denoise is 0, with which nothing is sampled: raise denoise, or set variety to 0.")
    if host.one_video(sampling.model.model):
        raise ValueError(
            "The model makes one video of the batch of latent_image, whose pictures belong together: set variety to 0."
        )
    if samples.is_nested and effort.looks:
        raise ValueError("latent_image holds several latents in one (picture and sound): set effort to set.")
    mask = wanted.latent.get("noise_mask")
    if isinstance(mask, Tensor) and not mask.any():
        raise ValueError("latent_image has an empty mask: nothing may change. Paint one, or set variety to 0.")
    guider = sampling.guider()
    samples = host.latent_image(guider, {**wanted.latent, "samples": parts(samples)[0]})
    if wanted.vae is not None:
        host.refuse_vae(wanted.vae, samples)
    if effort.gradient:
        with torch.inference_mode(False):
            host.refuse_gradient(guider, sampling.sampler())
    own = "batch_index" in wanted.latent or not bool((samples == samples[:1]).all())
    if effort.looks and own and 0 < wanted.at_once < wanted.count:
        raise ValueError(
            f"at_once is {wanted.at_once} of {wanted.count} pictures, and those of latent_image are not alike: set "
            "at_once to 0."
        )


def compared(wanted: Wanted, objective: Objective, differ_from: Tensor | None) -> Wanted:
    """With the objective, and with pictures to differ from as it sees them; raises ValueError where that cannot be."""
    if PICTURES in objective.needs and wanted.vae is None:
        raise ValueError(
            "objective or differ_in looks at pictures, and there is no VAE: wire one to vae, or set differ_in to "
            f"{LAYOUT}."
        )
    wanted = replace(wanted, objective=objective)
    if differ_from is not None:
        samples = host.latent_image(wanted.sampling.guider(), wanted.latent)
        return replace(wanted, references=references(differ_from, objective, wanted.vae, samples))
    if wanted.count == 1 and any(leaf.role.compares == "set" for leaf in objective.leaves()):
        raise ValueError(
            "pictures is 1, which has nothing to differ from: set pictures to 0 or to 2 and more, wire pictures to "
            "differ_from, or set effort to set."
        )
    return wanted


def as_images(handed: Handed, vae: Any) -> Tensor:
    """The pictures (B, H, W, C) of what is handed out, as VAE Decode gives them: of a video all frames."""
    samples = parts(handed.latent["samples"])[0]
    if handed.pictures is not None and (samples.ndim < 5 or samples.shape[2] == 1):
        return handed.pictures.movedim(1, -1).cpu()
    images: Tensor = vae.decode(samples)
    return images.flatten(0, -4) if images.ndim == 5 else images


NODES = [DiverseSampler]
