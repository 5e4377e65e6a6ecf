"""Noise Search: the best K of N starting noises by quality and diversity, without any gradient."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..noise import search
from ..noise.candidates import Scored, joined, scored
from ..noise.history import named
from ..noise.schedules import SCHEDULES, Rounds, for_each_place, price
from ..objectives.batch import LATENTS, PICTURES, Batch
from ..objectives.objective import Objective
from . import sockets
from .files import described
from .host.foresight import Begun
from .host.session import Session, run_in_session
from .latents import FixedNoise, batch_size, filled, noise_for
from .monitor import Monitor, to_pil
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
                    "end: all run all steps; dearer, hardly better. published: prunes at every step from the first; "
                    "cheapest, finds less.",
                ),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The noises kept, for any sampler or Noise Optimize."),
                io.Latent.Output(display_name="latent", tooltip="What the wired sampler makes of them."),
                io.Image.Output(display_name="images", tooltip="The pictures; needs a VAE."),
                io.String.Output(display_name="report", tooltip="What was kept, its scores, and what it cost."),
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
        work = Work(noise, guider, sampler, sigmas, latent, leaves, vae, candidates, keep, cls.hidden.unique_id)
        return work.output(*work.search(schedule, diversity_weight), cls)


@dataclass
class Work:
    """One run of the node.

    Candidate i is computed as the picture at place i mod keep of the batch that is handed out (nodes/host/places.py).
    """

    noise: Any
    guider: Any
    sampler: Any
    sigmas: Tensor
    latent: dict[str, Any]
    leaves: list[Objective]
    vae: Any
    candidates: int
    keep: int
    node_id: str | None
    resumable: bool = False
    done: int = 0  # steps that candidates which are left have made, where they can go on from there
    states: dict[int, Tensor] = field(default_factory=dict)
    made: int = 0  # steps of single candidates in all
    broken: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.perf_counter)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def at_once(self) -> int:
        return batch_size(self.latent)

    def session(self, body: Any, rows: list[int]) -> Any:
        """body(session) for these candidates."""
        return self.run(body, self.latent, members=([i % self.keep for i in rows], self.keep))

    def run(self, body: Any, latent: dict[str, Any], **members: Any) -> Any:
        networks = dict.fromkeys(network for leaf in self.leaves for network in leaf.networks)
        options = {"vae": self.vae, "seed": self.noise.seed, "networks": patchers(networks)}
        with torch.no_grad():
            return run_in_session(self.guider, self.sampler, self.sigmas, latent, body, **options, **members)

    @torch.no_grad()
    def search(self, schedule: str, weight: float) -> tuple[list[int], Tensor, Batch, dict[str, float]]:
        """The candidates kept, their noise, what the wired sampler makes of it, and the scores of that."""
        rounds = SCHEDULES[schedule](self.candidates, self.keep, self.steps)
        first = list(range(min(self.at_once, self.candidates)))
        stops = [until for until, _ in rounds]
        placed, self.resumable, shape = self.session(
            lambda session: (session.places_matter(), session.resumable(stops), session.shape), first
        )
        places = torch.arange(self.candidates) % self.keep if placed else None
        if placed:
            rounds = for_each_place(rounds, self.candidates, self.keep)
        drawn = noise_for(self.noise, filled(self.latent, torch.zeros(self.candidates, *shape[1:])))
        monitor = self.monitor(rounds)

        def predict(left: Tensor, until: int) -> tuple[Tensor, Tensor]:
            parts = [self.look(drawn, rows.tolist(), until, monitor) for rows in left.split(self.at_once)]
            self.done = until if self.resumable else 0
            quality, distance = joined(self.leaves, parts)
            self.broken |= set(left[search.broken(quality, distance)].tolist())
            return quality, distance

        chosen = search.search(predict, self.candidates, rounds, weight, places)
        if placed:
            chosen.sort(key=lambda candidate: candidate % self.keep)
        kept = drawn[chosen].clone()
        samples = self.latent["samples"]
        whole = {**self.latent, "samples": samples[torch.arange(self.keep) % len(samples)]}
        batch, scores = self.run(lambda session: self.finish(session, kept), whole)
        monitor.show([] if batch.pictures is None else to_pil(batch.pictures), self.report(chosen, scores))
        return chosen, kept, batch, scores

    def monitor(self, rounds: Rounds) -> Monitor:
        """Shows before the first candidate what the search will cost."""
        counts = [self.candidates, *(kept for _, kept in rounds)][: len(rounds)]
        monitor = Monitor(self.node_id, sum(-(-count // self.at_once) for count in counts) + 1)
        runs = self.runs(price(rounds, self.candidates, self.resumable))
        monitor.show([], f"{self.candidates} candidates will cost as much as {runs}", 0)
        return monitor

    def look(self, drawn: Tensor, rows: list[int], until: int, monitor: Monitor) -> Scored:
        """What the objectives see of some candidates after so many steps."""

        def body(session: Session) -> Scored:
            foreseen = session.predicted(drawn[rows], until, self.begun(rows))
            if foreseen.begun is not None and foreseen.begun.samples is not None:
                self.states.update(zip(rows, foreseen.begun.samples.cpu(), strict=True))
            latents = foreseen.latents
            pictures = session.decode(latents) if any(PICTURES in leaf.needs for leaf in self.leaves) else None
            seen = scored(self.leaves, Batch(latents, pictures))
            self.made += len(rows) * (until - self.done)
            images = session.preview(latents) if pictures is None else to_pil(pictures)
            monitor.show(images, f"{len(rows)} of {self.candidates} candidates after {until} of {self.steps} steps")
            return seen

        return self.session(body, rows)

    def begun(self, rows: list[int]) -> Begun | None:
        """Where these candidates stand, if they can go on from there."""
        if not self.resumable:
            return None
        return Begun(self.done, torch.stack([self.states[i] for i in rows]) if self.done else None)

    def finish(self, session: Session, kept: Tensor) -> tuple[Batch, dict[str, float]]:
        batch = session.batch(kept, self.vae is not None)
        scores = [leaf(batch) for leaf in self.leaves if len(kept) > 1 or leaf.role.compares != "set"]
        return batch, named([score for each in scores for score in each])

    def runs(self, made: int) -> str:
        """The price of so many steps of single candidates, and of the run that makes the result."""
        count = 1 + made / (self.keep * self.steps)
        return f"{count:.1f} plain sampling runs of {self.keep} picture{'s'[: self.keep > 1]}"

    def report(self, chosen: list[int], scores: Mapping[str, float]) -> str:
        lines = [
            f"Kept {self.keep} of {self.candidates} candidates: {', '.join(str(i + 1) for i in chosen)}.",
            f"It cost as much as {self.runs(self.made)}, in {time.perf_counter() - self.began:.1f} s.",
            *(f"{name} {value:.3f}" for name, value in scores.items()),
        ]
        if self.broken:
            kept = len(self.broken & set(chosen))
            lines.append(
                f"{len(self.broken)} candidates had NaN or infinity"
                + (f", and {kept} of them had to be kept: raise candidates." if kept else " and were passed over.")
            )
        return "\n".join(lines)

    def output(
        self, chosen: list[int], kept: Tensor, batch: Batch, scores: dict[str, float], cls: type[io.ComfyNode]
    ) -> io.NodeOutput:
        """What the node hands on."""
        words = self.report(chosen, scores)
        settings = {"candidates": self.candidates, "chosen": chosen}
        noise = FixedNoise(kept, self.noise.seed, settings, {"after": scores}, described(self.noise))
        shown = ui.PreviewText(words).as_dict()
        images: Any = ExecutionBlocker(NO_VAE)
        if batch.pictures is not None:
            images = batch.pictures.movedim(1, -1).cpu()
            shown |= ui.PreviewImage(images, cls=cls).as_dict()
        latent = filled(self.latent, batch.get(LATENTS).cpu())
        return io.NodeOutput(noise, latent, images, words, ui=shown)


NODES = [NoiseSearch]
