"""Noise Search: the best K of N starting noises by quality and diversity, without any gradient."""

from __future__ import annotations

import time
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..noise import search
from ..noise.sets import together
from ..objectives.batch import PICTURES, Batch
from ..objectives.objective import Objective
from . import sockets
from .files import described
from .host.session import Session, run_in_session
from .latents import FixedNoise, noise_for
from .monitor import Monitor, to_images
from .networks import patchers
from .node import Node

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
                "Draws many starting noises, looks at the model's first prediction for each, and keeps the few that "
                "are good and differ most. Needs no gradient; a better start for Noise Optimize, or the baseline."
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
                    tooltip="How much the mean distance counts beside the mean quality; 1.5 as published.",
                ),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The noises kept, for any sampler or Noise Optimize."),
                io.Latent.Output(display_name="latent", tooltip="What the wired sampler makes of them."),
                io.Image.Output(display_name="images", tooltip="The pictures; needs a VAE."),
            ],
            hidden=[io.Hidden.unique_id],
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
    ) -> io.NodeOutput:
        if keep > candidates:
            raise ValueError(f"keep is {keep} of {candidates} candidates; raise candidates or lower keep.")
        leaves = [leaf for leaf in objective.leaves() if leaf.kind != "guard"]
        if not leaves:
            raise ValueError("objective has only guards, by which nothing can be chosen: add Diversity or a quality.")
        pictures = any(PICTURES in leaf.needs for leaf in leaves)
        if pictures and vae is None:
            raise ValueError("objective looks at pictures, and there is no VAE: wire one to vae.")
        wires = (guider, sampler, sigmas)
        options = {"vae": vae, "seed": noise.seed, "networks": patchers(objective.networks)}
        steps, at_once, began = len(sigmas) - 1, len(latent_image["samples"]), time.perf_counter()
        runs = sum(-(-count // at_once) for _, count in _counts(candidates, keep, steps))
        monitor = Monitor(cls.hidden.unique_id, runs + 1)
        drawn: list[Tensor] = []

        @torch.no_grad()
        def look(session: Session, rows: list[int], until: int) -> tuple[Tensor, Batch]:
            """The quality (n,) of some candidates, and their batch, which remembers its features."""
            if not drawn:
                like = {**latent_image, "samples": torch.zeros(candidates, *session.shape[1:])}
                like.pop("batch_index", None)
                drawn.append(noise_for(noise, like))
            latents = session.predicted(drawn[0][rows], until).latents
            batch = Batch(latents, session.decode(latents) if pictures else None)
            for leaf in leaves:
                leaf.distances(batch)
            images = to_images(batch.pictures) if batch.pictures is not None else session.preview(latents)
            monitor.show(images, f"{len(rows)} of {candidates} candidates after {until} of {steps} steps")
            return quality(leaves, batch), batch

        def predict(left: Tensor, until: int) -> tuple[Tensor, Tensor]:
            seen = []
            for rows in left.split(at_once):
                members = rows.tolist()
                body = lambda session, members=members: look(session, members, until)  # noqa: E731
                seen.append(run_in_session(*wires, latent_image, body, members=(members, candidates), **options))
            return torch.cat([q for q, _ in seen]), distances(leaves, together([batch for _, batch in seen]))

        with torch.no_grad():
            chosen = search.search(predict, candidates, keep, steps, diversity_weight)
        kept = drawn[0][chosen].clone()
        latent = {name: value for name, value in latent_image.items() if not name.startswith("downscale_ratio")}
        latent.pop("batch_index", None)
        whole = {**latent_image, "samples": _repeated(latent_image["samples"], keep)}

        finished = run_in_session(*wires, whole, lambda session: session.batch(kept, vae is not None), **options)
        seconds = time.perf_counter() - began
        words = f"Kept {keep} of {candidates} in {seconds:.1f} s: candidates {', '.join(str(i + 1) for i in chosen)}."
        monitor.show([] if finished.pictures is None else to_images(finished.pictures), words)
        result = FixedNoise(kept, noise.seed, {"candidates": candidates, "chosen": chosen}, {}, described(noise))
        shown = ui.PreviewText(words).as_dict()
        images: Any = ExecutionBlocker(NO_VAE)
        if finished.pictures is not None:
            images = finished.pictures.movedim(1, -1).cpu()
            shown |= ui.PreviewImage(images, cls=cls).as_dict()
        return io.NodeOutput(result, {**latent, "samples": finished.latents.cpu()}, images, ui=shown)


def quality(leaves: list[Objective], batch: Batch) -> Tensor:
    """(n,) the weighted sum of the scores that each picture has, capped at their targets."""
    total = torch.zeros(len(batch), dtype=torch.float64)
    for leaf in leaves:
        if leaf.kind == "quality":
            (score,) = leaf(batch)
            values = score.values if score.target is None else score.values.clamp(max=score.target)
            total += score.weight * values.cpu().double()
    return total


def distances(leaves: list[Objective], batch: Batch) -> Tensor:
    """(n, n) the weighted mean of the distances of all objectives of diversity; 0 where there is none."""
    found = [(leaf.weight, leaf.distances(batch)) for leaf in leaves]
    found = [(weight, matrix.cpu().double()) for weight, matrix in found if matrix is not None]
    if not found:
        return torch.zeros(len(batch), len(batch), dtype=torch.float64)
    return sum(weight * matrix for weight, matrix in found) / (sum(abs(weight) for weight, _ in found) or 1)


def _counts(candidates: int, keep: int, steps: int) -> list[tuple[int, int]]:
    """(steps, candidates that run so far) of each round."""
    rounds, left = [], candidates
    for until, remain in search.schedule(candidates, keep, steps):
        rounds.append((until, left))
        left = remain
    return rounds


def _repeated(samples: Tensor, count: int) -> Tensor:
    """The samples, over and over, until there are `count`."""
    return samples[torch.arange(count) % len(samples)]


NODES = [NoiseSearch]
