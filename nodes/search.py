"""Noise Search: the best K of N starting noises by quality and diversity, without any gradient."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..noise.schedules import SCHEDULES
from ..objectives.batch import LATENTS, PICTURES
from ..objectives.objective import Objective
from . import sockets
from .files import described
from .latents import FixedNoise, filled
from .node import Node
from .rounds import Search

NO_VAE = "Noise Search has no pictures: wire a VAE to its vae."


class NoiseSearch(Node):
    """Draws candidates, scores them cheaply, keeps a few."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeSearch",
            display_name="Noise Search",
            category="noise optimize/sampling",
            description=(
                "Draws many starting noises, looks at what the model makes of each, and keeps the few that are good "
                "and differ most. Needs no gradient. Keeping 4 of 64 costs as much as 11 plain sampling runs of 4."
            ),
            search_aliases=["group selection", "best of n", "seed search", "diversity", "candidates"],
            inputs=[
                io.Noise.Input("noise", tooltip="Where candidates come from: Random Noise or Pink Noise."),
                io.Guider.Input("guider", tooltip="The model and its prompts."),
                io.Sampler.Input("sampler", tooltip="Any sampler."),
                io.Sigmas.Input("sigmas", tooltip="The steps."),
                io.Latent.Input("latent_image", tooltip="Size, and how many candidates are computed at once."),
                sockets.Objective.Input(
                    "objective",
                    tooltip="What to choose by. Objectives of diversity give the distances, those of quality the "
                    "quality; guards are not used, as there is no start to compare with.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="For pictures, and for objectives that look at pictures. A tiny VAE makes it fast.",
                ),
                io.Int.Input("candidates", default=64, min=1, max=65536, tooltip="How many noises are drawn."),
                io.Int.Input("keep", default=4, min=1, max=4096, tooltip="How many are kept: the batch you get."),
                io.Float.Input(
                    "diversity_weight",
                    default=1.5,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    advanced=True,
                    optional=True,
                    tooltip="How much the mean distance of pairs counts beside the mean quality, on top of the weights "
                    "of the objectives. The published 1.5 is for each pair: 2.25 here for 4 kept.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default=next(iter(SCHEDULES)),
                    optional=True,
                    tooltip="half way: all candidates run half of the steps, four times those wanted run on. to the "
                    "end: all run all steps; costs most, hardly better. published: prunes at every step from the "
                    "first; cheapest, finds less. half way only: keeps those wanted half way; for few candidates.",
                ),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The noises kept, for any sampler or Noise Optimize."),
                io.Latent.Output(display_name="latent", tooltip="What the wired sampler makes of them."),
                io.Image.Output(display_name="images", tooltip="The pictures; needs a VAE."),
                io.String.Output(display_name="report", tooltip="What was kept, its scores, and what it cost."),
            ],
            hidden=[io.Hidden.unique_id],
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
        candidates: int,
        keep: int,
        vae: Any = None,
        diversity_weight: float = 1.5,
        schedule: str = "half way",
    ) -> io.NodeOutput:
        if keep > candidates:
            raise ValueError(f"keep is {keep} of {candidates} candidates; raise candidates or lower keep.")
        leaves = [leaf for leaf in objective.leaves() if leaf.role.search != "nothing"]
        if not leaves:
            raise ValueError("objective has only guards, by which nothing can be chosen: add Diversity or a quality.")
        if vae is None and any(PICTURES in leaf.needs for leaf in leaves):
            raise ValueError("objective looks at pictures, and there is no VAE: wire one to vae.")
        latent = {name: value for name, value in latent_image.items() if name != "batch_index"}
        search = Search(noise, guider, sampler, sigmas, latent, leaves, vae, candidates, keep, cls.hidden.unique_id)
        found = search.run(schedule, diversity_weight)
        shown = ui.PreviewText(found.report).as_dict()
        images: Any = ExecutionBlocker(NO_VAE)
        if found.batch.pictures is not None:
            images = found.batch.pictures.movedim(1, -1).cpu()
            shown |= ui.PreviewImage(images, cls=cls).as_dict()
        settings = {"candidates": candidates, "chosen": found.chosen, "schedule": schedule}
        kept = FixedNoise(found.noise, noise.seed, settings, {"after": found.scores}, described(noise))
        made = filled(latent, found.batch.get(LATENTS).cpu())
        return io.NodeOutput(kept, made, images, found.report, ui=shown)


NODES = [NoiseSearch]
