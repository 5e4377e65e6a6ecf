"""Noise Optimize: gradient steps on the starting noise of a batch, inside the guider's session."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import comfy.model_management
import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..noise.basis import BASES
from ..noise.history import Progress, Result, named
from ..noise.optimize import optimize
from ..noise.optimizers import OPTIMIZERS
from ..noise.recipes import RECIPES
from ..noise.sets import alone, in_turn, together
from ..noise.settings import Settings
from ..objectives.batch import PICTURES, Batch
from ..objectives.objective import Objective
from . import history, sockets
from .files import described
from .host.session import Session, run_in_session
from .host.wires import DifferentiableSampler
from .latents import FixedNoise, noise_for
from .measure import to_pictures
from .monitor import Monitor, to_images
from .networks import patchers
from .node import Node

STOP, KEEP = "stop the graph", "keep the best"
AS_SET = "as set here"
DEFAULT = Settings()
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
            search_aliases=["diversity", "variety", "mode collapse", "same picture", "ReNO", "initial noise", "seed"],
            inputs=[
                io.Noise.Input("noise", tooltip="Where to start: Random Noise, Pink Noise, or noise found before."),
                io.Guider.Input("guider", tooltip="The model and its prompts."),
                io.Sampler.Input(
                    "sampler",
                    tooltip="Any sampler. Differentiable Sampler sets how its gradient is taken; without, memory is "
                    "on auto.",
                ),
                io.Sigmas.Input("sigmas", tooltip="The steps. Few are enough here; the noise works with more."),
                io.Latent.Input("latent_image", tooltip="Size and batch; the batch is optimised together."),
                sockets.Objective.Input("objective", tooltip="What to raise: Diversity, Combine Objectives..."),
                io.Vae.Input("vae", optional=True, tooltip="For pictures, and for objectives that look at pictures."),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Pictures to differ from, such as earlier results. They take no part in the batch.",
                ),
                io.Int.Input(
                    "iterations",
                    default=DEFAULT.iterations,
                    min=0,
                    max=10000,
                    tooltip="Steps on the noise at most. Each costs about three times a sampling run. 0: just sample.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=DEFAULT.learning_rate,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.00001,
                    tooltip="Length of one step as a share of the noise radius, the same for every size and batch. "
                    "0.004 moves fast, 0.001 carefully.",
                ),
                io.Combo.Input(
                    "optimizer",
                    options=list(OPTIMIZERS),
                    default=DEFAULT.optimizer,
                    tooltip="sgd: as published. nesterov: as in ReNO. adam: steps of even length. cma: no gradient, "
                    "for models that have none; many more sampling runs. With adam and cma try learning_rate 0.02.",
                ),
                io.Float.Input(
                    "prior_weight",
                    default=DEFAULT.prior_weight,
                    min=0.0,
                    max=1000.0,
                    step=0.5,
                    advanced=True,
                    tooltip="How strongly the noise is held at the radius that noise has. 0: not at all.",
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
                    tooltip="A published recipe: its step, clip, momentum and optimizer in place of those set here. "
                    "Published iterations: "
                    + "; ".join(f"{name} {recipe.iterations}" for name, recipe in RECIPES.items())
                    + ".",
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
                    tooltip="For basis low frequency: the share of the frequencies of each side that is optimised.",
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
                    tooltip="How strongly the noise is held at the spectrum and independence it started with. 0: no.",
                ),
                io.Int.Input(
                    "population",
                    default=DEFAULT.population,
                    min=2,
                    max=1024,
                    advanced=True,
                    optional=True,
                    tooltip="For optimizer cma: sampling runs in one iteration.",
                ),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The noise found, for any sampler and Save Noise."),
                io.Latent.Output(display_name="latent", tooltip="What the wired sampler makes of it."),
                io.Image.Output(display_name="images", tooltip="The pictures; needs a VAE."),
                io.Image.Output(display_name="history", tooltip="Scores, radius and change over the iterations."),
                io.String.Output(display_name="report", tooltip="Before, after, how long and why it stopped."),
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
        vae: Any = None,
        references: Tensor | None = None,
        total_pictures: int = 0,
        preset: str = AS_SET,
        max_seconds: float = 0.0,
        on_cancel: str = STOP,
        **widgets: Any,
    ) -> io.NodeOutput:
        settings = Settings(seconds=max_seconds or math.inf, seed=noise.seed % 2**32, **widgets)
        if preset != AS_SET:
            recipe = RECIPES[preset]
            names = ("learning_rate", "clip", "momentum", "optimizer")
            settings = replace(settings, **{name: getattr(recipe, name) for name in names})
        if PICTURES in objective.needs and vae is None:
            raise ValueError("objective looks at pictures, and there is no VAE: wire one to vae.")
        total = total_pictures or len(latent_image["samples"])
        work = Work(noise, guider, sampler, sigmas, latent_image, objective, vae, settings, total, on_cancel == KEEP)
        device = comfy.model_management.get_torch_device()
        shown = None if references is None else Batch(pictures=to_pictures(references).to(device))
        batches = math.ceil(total / work.at_once)
        work.monitor = Monitor(cls.hidden.unique_id, batches * (settings.iterations + 1))
        return work.output(in_turn(work.make, total, work.at_once, shown), cls)


@dataclass
class Made:
    """A finished batch of the set: the samples that it is, and what the wired sampler made of the noise found."""

    samples: Sequence[int]
    result: Result
    batch: Batch


@dataclass
class Work:
    """One run of the node; `make` is called for each batch of the set of `total` pictures."""

    noise: Any
    guider: Any
    sampler: Any
    sigmas: Tensor
    latent: dict[str, Any]
    objective: Objective
    vae: Any
    settings: Settings
    total: int
    keep_on_cancel: bool = False
    monitor: Monitor = field(init=False)
    start: Tensor | None = None
    starts: dict[int, Batch] = field(default_factory=dict)
    cancelled: bool = False
    scores: tuple[dict[str, float], dict[str, float]] = field(default_factory=lambda: ({}, {}))

    @property
    def at_once(self) -> int:
        return min(self.total, len(self.latent["samples"]))

    @property
    def several(self) -> bool:
        """Whether the set is not just the batch of latent_image."""
        return self.total != len(self.latent["samples"])

    def make(self, samples: list[int], others: list[Batch]) -> tuple[Made, Batch]:
        """Optimises these samples of the set, each to differ from `others` too; with less memory if it runs out."""
        sampler = self.sampler
        if not isinstance(sampler, DifferentiableSampler):
            sampler = DifferentiableSampler(sampler)
        gradient = self.settings.iterations > 0 and OPTIMIZERS[self.settings.optimizer].update is not None
        while True:
            try:
                made = run_in_session(
                    self.guider,
                    sampler,
                    self.sigmas,
                    self.latent,
                    lambda session: self.optimise(session, samples, others),
                    vae=self.vae,
                    seed=self.noise.seed,
                    members=(samples, self.total) if self.several else None,
                    networks=patchers(self.objective.networks),
                )
                return made, made.batch
            except RuntimeError as error:
                if not comfy.model_management.is_oom(error):
                    raise
                if not gradient or sampler.memory != "auto":
                    raise type(error)(self.too_much(samples)) from error
            logging.warning("Noise Optimize ran out of memory; it begins again with memory low.")
            comfy.model_management.soft_empty_cache()
            sampler = DifferentiableSampler(sampler, "low", sampler.gradient_steps)

    def too_much(self, samples: Sequence[int]) -> str:
        """The sentence for a machine whose memory is too small."""
        size = " x ".join(map(str, self.latent["samples"].shape[2:]))
        fewer = "lower the batch of latent_image and set total_pictures to the number you want, or "
        return (
            f"Out of memory with {len(samples)} pictures at once of latent size {size}, even with memory low: "
            f"{fewer if len(samples) > 1 else ''}lower its size, or the chunk or size of the features."
        )

    def optimise(self, session: Session, samples: list[int], others: list[Batch]) -> Made:
        """The body of a session: the loop, then what any sampler node makes of the noise found."""
        if self.start is None:
            self.start = noise_for(self.noise, self.whole_set(session.shape)).float()
        noise = self.start[samples].to(session.device).clone()
        objective, settings = self.objective, self.settings
        if others:
            objective = objective.bind(references=together(others))
        elif len(samples) == 1 < self.total:
            objective = alone(objective)
        if self.cancelled or not objective.leaves():
            settings = replace(settings, iterations=0)

        def generate(noise: Tensor) -> Batch:
            return session.batch(noise, PICTURES in self.objective.needs)

        result = self.watched(session, samples, generate, objective, noise, settings)
        with torch.no_grad():
            batch = result.batch if result.plain else generate(result.noise)
            if batch.pictures is None and self.vae is not None:
                batch = replace(batch, pictures=session.decode(batch.latents))
            made = Made(samples, replace(result, batch=Batch()), batch)
            if self.several:
                self.take_stock(made, others)
        return made

    def watched(self, session: Session, samples: list[int], *loop: Any) -> Result:
        """`optimize`, shown in the node; where Cancel keeps the best, the best so far."""
        seen: list[Progress] = []
        done = samples[0] // self.at_once * (self.settings.iterations + 1)

        def on_step(progress: Progress) -> None:
            step, batch = progress.step, progress.batch
            if not step.iteration and self.several:
                self.starts[samples[0]] = batch
            seen[:] = [progress]
            images = session.preview(batch.latents) if batch.pictures is None else to_images(batch.pictures)
            first = progress.result.history[0].scores
            lines = [f"iteration {step.iteration} of {self.settings.iterations}"]
            if self.several:
                lines[0] = f"pictures {samples[0] + 1} to {samples[-1] + 1} of {self.total}, {lines[0]}"
            lines += [f"{name} {value:.3f} (start {first[name]:.3f})" for name, value in step.scores.items()]
            self.monitor.show(images, "\n".join(lines), done + step.iteration + 1)

        try:
            return optimize(*loop, on_step)
        except comfy.model_management.InterruptProcessingException:
            if not (self.keep_on_cancel and seen):
                raise
            self.cancelled = True
            return seen[0].result

    def take_stock(self, made: Made, others: list[Batch]) -> None:
        """Has finished pictures remembered by their features, and at the end measures the set before and after."""
        for batch in (made.batch, self.starts[made.samples[0]]):
            self.objective.bind(references=batch)
        if made.batch.pictures is not None:
            self.monitor.finish(to_images(made.batch.pictures))
        if made.samples[-1] + 1 == self.total:
            first = len(others) + 1 - len(self.starts)  # what comes before are the user's own references
            begun, finished = together(list(self.starts.values())), together([*others[first:], made.batch])
            objective = self.objective.bind(start=begun, references=together(others[:first]) if first else None)
            self.scores = named(objective(begun)), named(objective(finished))

    def whole_set(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """The latent for which the noise of the whole set is drawn."""
        if not self.several and tuple(self.latent["samples"].shape) == shape:
            return self.latent
        latent = {**self.latent, "samples": torch.zeros(self.total, *shape[1:])}
        if self.several:
            latent.pop("batch_index", None)
        return latent

    def output(self, made: list[Made], cls: type[io.ComfyNode]) -> io.NodeOutput:
        """What the node hands on."""
        parts = [(batch.samples, batch.result) for batch in made]
        first, best = parts[0][1].history[0], parts[0][1].history[parts[0][1].best]
        before, after = self.scores if self.several else (first.scores, best.scores)
        words = history.report(parts, before, after)
        kinds = {name: leaf.kind for name, leaf in zip(after, self.objective.leaves(), strict=True)}
        latent = self.whole_set((self.total, *made[0].result.noise.shape[1:])) if self.several else dict(self.latent)
        latent["samples"] = torch.cat([batch.batch.latents for batch in made]).cpu()
        for name in ("downscale_ratio_spacial", "downscale_ratio_temporal"):
            latent.pop(name, None)
        noise = FixedNoise(
            torch.cat([result.noise for _, result in parts]).cpu(),
            self.noise.seed,
            {name: value for name, value in asdict(self.settings).items() if value != math.inf},
            {"before": before, "after": after},
            described(self.noise),
            latent.get("batch_index"),
        )
        shown = ui.PreviewText(words).as_dict()
        images: Any = ExecutionBlocker(NO_VAE)
        if self.vae is not None:
            images = torch.cat([batch.batch.pictures for batch in made]).movedim(1, -1).cpu()
            shown |= ui.PreviewImage(images, cls=cls).as_dict()
        return io.NodeOutput(noise, latent, images, history.plot(parts, kinds), words, ui=shown)


NODES = [NoiseOptimize]
