"""Noise Optimize: gradient steps on the starting noise of a batch, inside the guider's session."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import comfy.model_management
import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..noise.basis import BASES
from ..noise.bill import ALWAYS, AUTOMATIC, IN_DOUBT, LOOKS, look_of
from ..noise.optimizers import OPTIMIZERS
from ..noise.recipes import RECIPES, facts_of
from ..noise.settings import FEWEST, Settings
from ..objectives.batch import LATENTS, PICTURES, Batch
from ..objectives.objective import Objective
from . import history, keeping, sockets
from .files import described
from .keeping import Kept
from .latents import FixedNoise, SetNoise, batch_size, filled
from .measure import to_pictures
from .node import Node
from .run import Run

STOP, KEEP = "stop the graph", "keep the best"
AS_SET = "as set here"
DEFAULT = Settings()
FRESH = Settings(iterations=5, learning_rate=0.35, optimizer="large steps")  # of a node that is new to a graph
NO_VAE = "Noise Optimize has no pictures: wire a VAE to its vae."


class NoiseOptimize(Node):
    """Optimises noise so that the objective rises."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimize",
            display_name="Noise Optimize",
            category="noise optimize/sampling",
            description=(
                "Changes the starting noise of a batch, step by step, until its pictures differ and are good, as the "
                "objective asks. Takes what SamplerCustomAdvanced takes; with 0 iterations it is the same. The noise "
                "it finds works in any sampler, with more steps too, at the same latent size."
            ),
            search_aliases=["diversity", "mode collapse", "same picture", "ReNO", "initial noise", "seed"],
            inputs=[
                io.Noise.Input("noise", tooltip="Where to start: Random Noise, Pink Noise, or noise found before."),
                io.Guider.Input("guider", tooltip="The model and its prompts."),
                io.Sampler.Input(
                    "sampler",
                    tooltip="Any sampler. Differentiable Sampler sets how its gradient is taken; without, memory is "
                    "on auto.",
                ),
                io.Sigmas.Input("sigmas", tooltip="The steps. Few are enough here; the noise works with more."),
                io.Latent.Input("latent_image", tooltip="Size and batch; the batch is optimized together."),
                sockets.Objective.Input("objective", tooltip="What to raise: Diversity, Combine Objectives..."),
                io.Vae.Input("vae", optional=True, tooltip="For pictures, and for objectives that look at pictures."),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Pictures to differ from, such as earlier results. They take no part in the batch.",
                ),
                io.Int.Input(
                    "iterations",
                    default=FRESH.iterations,
                    min=0,
                    max=10000,
                    tooltip="How much variety is worth to you. With large steps and a sampler of 4 steps, 2 cost as "
                    "much as 3 plain sampling runs, and 5 as much as 5 and give more; of 8 steps, 2 and 3. A run ends "
                    "by itself when more brings nothing. 0: just sample.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=FRESH.learning_rate,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.00001,
                    advanced=True,
                    tooltip="Length of one step as a share of the noise radius, the same for every size and batch. "
                    "0.35 for large steps; 0.004 for sgd and nesterov, to which momentum adds; 0.02 for adam and cma.",
                ),
                io.Combo.Input(
                    "optimizer",
                    options=list(OPTIMIZERS),
                    default=FRESH.optimizer,
                    tooltip="large steps: few and cheap, shortened where they bring nothing, ended by themselves. sgd: "
                    "as published. nesterov: as in ReNO. adam: steps of even length. cma: no gradient, for models that "
                    "have none; many more sampling runs. With the others than large steps set learning_rate, too.",
                ),
                io.Float.Input(
                    "prior_weight",
                    default=DEFAULT.prior_weight,
                    min=0.0,
                    max=1000.0,
                    step=0.5,
                    advanced=True,
                    tooltip="How strongly the noise is held at the radius that noise has, and at the spectrum that it "
                    "starts with. 0: not at all.",
                ),
                io.Combo.Input(
                    "basis",
                    options=list(BASES),
                    default=DEFAULT.basis,
                    tooltip="full: all of the noise. low frequency: only what decides the composition; the fine part "
                    "of the noise stays as it is.",
                ),
                io.Float.Input(
                    "clip",
                    default=DEFAULT.clip,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    round=0.0001,
                    advanced=True,
                    tooltip="Gradient, per picture, above which a step has its full length. Lower: full steps for "
                    "longer.",
                ),
                io.Float.Input(
                    "rollback",
                    default=DEFAULT.rollback,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of its starting quality a picture may lose before its noise is put back, as a "
                    "share of the score's usual range. 0.1 is 0.01 of HPSv2.1, 1 of PickScore, 0.02 of CLIP Score, "
                    "0.3 of Aesthetic. 1: never put back. Needs an objective of quality.",
                ),
                io.Int.Input(
                    "total_pictures",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="0: as many as latent_image has. More: they are made one batch after another, each "
                    "different from all before, in the memory of one batch.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[AS_SET, *RECIPES],
                    default=AS_SET,
                    advanced=True,
                    optional=True,
                    tooltip="A published recipe, in place of all that is set here, and of total_pictures where that is "
                    "0. The report says in what the rest of the graph differs from it.",
                ),
                io.Float.Input(
                    "max_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=1.0,
                    optional=True,
                    tooltip="Budget of time for each batch; 0: none.",
                ),
                io.Combo.Input(
                    "on_cancel",
                    options=[STOP, KEEP],
                    default=STOP,
                    optional=True,
                    tooltip="What Cancel does here: stop the graph, or go on in the graph with the best noise so far.",
                ),
                io.Float.Input(
                    "momentum",
                    default=DEFAULT.momentum,
                    min=0.0,
                    max=0.999,
                    step=0.01,
                    advanced=True,
                    optional=True,
                    tooltip="How much of the last step goes on; 0.9 makes the step up to ten times as long.",
                ),
                io.Float.Input(
                    "band",
                    default=round(DEFAULT.band, 3),
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    advanced=True,
                    optional=True,
                    tooltip="For basis low frequency: the share of the frequencies of each side that is optimized.",
                ),
                io.Float.Input(
                    "whiteness_weight",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    round=0.0001,
                    advanced=True,
                    optional=True,
                    tooltip="How strongly the values of the noise are kept independent of each other, beside what "
                    "prior_weight does. 0: not at all.",
                ),
                io.Int.Input(
                    "population",
                    default=DEFAULT.population,
                    min=FEWEST,
                    max=1024,
                    advanced=True,
                    optional=True,
                    tooltip="For optimizer cma: sampling runs in one iteration.",
                ),
                io.Combo.Input(
                    "look_at",
                    options=list(LOOKS),
                    default=AUTOMATIC,
                    advanced=True,
                    optional=True,
                    tooltip="What is scored and differentiated. first prediction: the picture that the model foresees "
                    "from the noise alone, one call of the model. finished picture: that after all steps. last steps: "
                    "the same, with a gradient through the last half of the steps only. automatic: first prediction "
                    "for large steps, finished picture for the other optimizers. What is found is rendered with all "
                    "steps.",
                ),
                io.Combo.Input(
                    "compare_with_start",
                    options=[IN_DOUBT, ALWAYS],
                    default=IN_DOUBT,
                    advanced=True,
                    optional=True,
                    tooltip="When the start is rendered, too, by one plain sampling run more, so that you get it where "
                    "it scores better. in doubt: where the finished pictures keep less than half of what the first "
                    "predictions promised. always: to be sure. Looking at the finished picture needs neither.",
                ),
                *keeping.keep_inputs(),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The noise found, for any sampler and Save Noise."),
                io.Latent.Output(display_name="latent", tooltip="What the wired sampler makes of it."),
                io.Image.Output(display_name="images", tooltip="The pictures; needs a VAE."),
                io.Image.Output(display_name="history", tooltip="Scores, radius and change over the iterations."),
                io.String.Output(display_name="report", tooltip="Before, after, how long and why it stopped."),
                io.String.Output(
                    display_name="history_json",
                    tooltip="The history as numbers: every score, radius, gradient norm, change by third of the "
                    "spectrum and seconds of each iteration, as JSON.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        noise: Any,
        guider: Any,
        sampler: Any,
        sigmas: Tensor,
        latent_image: dict[str, Any],
        objective: Objective,
        vae: Any = None,
        references: Tensor | None = None,
        total_pictures: int = 0,
        preset: str = AS_SET,
        max_seconds: float = 0.0,
        on_cancel: str = STOP,
        look_at: str = AUTOMATIC,
        compare_with_start: str = IN_DOUBT,
        keep: str = "",
        kept_from: str = "",
        **widgets: Any,
    ) -> io.NodeOutput:
        settings = Settings(seconds=max_seconds or math.inf, seed=noise.seed % 2**32, **widgets)
        total = total_pictures or batch_size(latent_image)
        recipe = RECIPES.get(preset)
        if recipe is not None:
            settings = replace(settings, **recipe.settings(objective, total))
            total = total_pictures or (recipe.total if recipe.total > recipe.batch else total)
        if PICTURES in objective.needs and vae is None:
            raise ValueError("objective looks at pictures, and there is no VAE: wire one to vae.")
        mask = latent_image.get("noise_mask")
        if settings.iterations and mask is not None and not mask.any():
            raise ValueError("latent_image has an empty mask: nothing may change. Paint one, or set iterations to 0.")
        if references is not None:
            references = to_pictures(references).to(comfy.model_management.get_torch_device())
        run = Run(
            noise,
            guider,
            sampler,
            sigmas,
            latent_image,
            objective,
            vae,
            settings,
            total,
            None if references is None else Batch(pictures=references),
            keep=on_cancel == KEEP,
            node_id=cls.hidden.unique_id,
            recipe=recipe,
            look=look_of(settings, look_at if recipe is None else AUTOMATIC),
            compare=compare_with_start,
            kept=Kept.of(keep, kept_from, total),
        )
        made = list(run.batches())
        before, after, finished = run.scores(made)
        latents = torch.cat([part.batch.get(LATENTS) for part in made]).cpu()
        latent = filled(run.whole(latents.shape), latents)
        found = FixedNoise(
            torch.cat([part.result.noise for part in made]).cpu(),
            run.seed,
            {"preset": preset, "look_at": run.look}
            | {name: value for name, value in asdict(settings).items() if value != math.inf},
            {"before": before, "after": after} | ({"finished": finished} if finished else {}),
            described(noise),
            latent.get("batch_index"),
        )
        parts = [(part.places, part.result) for part in made]
        words = "\n".join([history.report(parts, before, after, finished), *run.kept.told, run.cost()])
        if recipe is not None:
            facts = facts_of(start_of(noise), len(sigmas) - 1, run.at_once, total, run.start.shape[1:])
            compared = total + (0 if references is None else len(references))
            otherwise = recipe.differences(objective, compared, facts) or ["everything here is as published"]
            words = "\n".join([words, f"Preset {preset} ({recipe.source}):", *(f"- {line}." for line in otherwise)])
        panels = {name: leaf.role.panel for name, leaf in zip(after, objective.leaves(), strict=True)}
        shown = ui.PreviewText(words).as_dict()
        shown["kept"] = [run.kept.shown(keeping.write(found), total) | run.line.shown]
        images: Any = ExecutionBlocker(NO_VAE)
        if vae is not None:
            images = torch.cat([part.batch.get(PICTURES) for part in made]).movedim(1, -1).cpu()
            shown |= ui.PreviewImage(images, cls=cls).as_dict()
        return io.NodeOutput(
            found, latent, images, history.plot(parts, panels), words, history.numbers(parts), ui=shown
        )


def start_of(noise: Any) -> float | str:
    """What the optimisation starts from, for `facts_of`: the alpha of the noise, 0 for white, or what else it is."""
    if isinstance(noise, (FixedNoise, SetNoise)):
        return "noise that was found or saved"
    spectrum = described(noise) or {"kind": "paper", "alpha": 0.0}
    return float(spectrum["alpha"]) if spectrum["kind"] == "paper" else str(spectrum["kind"])


NODES = [NoiseOptimize]
