"""One run of Noise Optimize over a set: batch after batch, each in its own session and different from all before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import comfy.model_management
import torch
from torch import Tensor

from ..noise.bill import FINISHED, IN_DOUBT, LAST, Bill, counted, in_words
from ..noise.history import CANCELLED, Progress, Result, named
from ..noise.optimize import optimize
from ..noise.optimizers import OPTIMIZERS
from ..noise.recipes import Recipe
from ..noise.sets import alone, together, turns
from ..noise.settings import Settings
from ..objectives.batch import LATENTS, PICTURES, Batch, BrokenSamples
from ..objectives.objective import Objective
from . import host
from .keeping import ALL_KEPT, Kept
from .latents import noise_for
from .looks import Looks, finish, scored
from .monitor import Line, Monitor, fitting, tell, to_pil, write
from .networks import patchers
from .retry import saving_memory

T = TypeVar("T")


@dataclass(frozen=True)
class Ways:
    """What helps where memory is too small, in the words of the node that runs: for fewer pictures at once, and else.

    memory: where its widget `memory` is.
    """

    memory: str = "memory to auto or low in Differentiable Sampler"
    fewer: str = "lower the batch of latent_image and set total_pictures to the number you want"
    last: str = "lower the size of latent_image, or the chunk or size of the features"


@dataclass(frozen=True)
class Made:
    """A finished batch of the set.

    places: of its pictures in the set. result: what the loop found, without any history where the batch was broken
    before it. start, seen: what the loop saw of the batch as it began, and of the noise found. batch: what the wired
    sampler makes of that. scores: of the batch, where the loop saw predictions only.
    """

    places: list[int]
    result: Result
    start: Batch
    seen: Batch
    batch: Batch
    scores: dict[str, float] | None = None

    @property
    def sound(self) -> bool:
        return len(self.result.history) > 0


@dataclass
class Run:
    """The wires and settings of a run over a set of `total` pictures, as many at a time as `latent` has samples.

    references: pictures to differ from. keep: whether Cancel keeps the best so far and goes on. recipe: whose clip
        goes with the number of pictures that are compared. look: what the loop looks at, as `look_of` gives it.
        compare: when a result that was found by predictions is compared with its start. kept: pictures that stay.
        ways: what the node says where memory is too small.
    start: (total, C, ...) the noise that the set starts from, in float32 on the CPU.
    """

    noise: Any
    guider: Any
    sampler: Any
    sigmas: Tensor
    latent: dict[str, Any]
    objective: Objective
    vae: Any
    settings: Settings
    total: int
    references: Batch | None = None
    keep: bool = False
    node_id: str | None = None
    recipe: Recipe | None = None
    look: str = FINISHED
    compare: str = IN_DOUBT
    kept: Kept = field(default_factory=Kept)
    ways: Ways = Ways()
    bill: Bill = field(default_factory=Bill, init=False)
    announced: bool = field(default=False, init=False)
    line: Line = field(init=False)
    began: float = field(default_factory=time.perf_counter, init=False)
    start: Tensor = field(init=False)
    monitor: Monitor = field(init=False)
    parts_of: host.Whole = field(init=False)

    def __post_init__(self) -> None:
        host.refuse_wires(self.guider, self.sigmas)
        drawn = noise_for(self.noise, self.whole(host.latent_image(self.guider, self.latent).shape))
        self.start = self.kept.start(drawn.float())
        self.line = Line.of(self.objective)
        self.parts_of = host.Whole(self.total)
        self.sampler = host.DifferentiableSampler.of(self.sampler)
        if self.look == LAST and not self.sampler.gradient_steps:
            half = math.ceil((len(self.sigmas) - 1) / 2)
            self.sampler = host.DifferentiableSampler(self.sampler, self.sampler.memory, half)
        count = math.ceil(self.total / self.at_once)
        self.monitor = Monitor(self.node_id, count * (self.settings.iterations + 1))

    @property
    def at_once(self) -> int:
        return min(self.total, len(self.latent["samples"]))

    @property
    def seed(self) -> int:
        """What the noise that a sampler injects is drawn from."""
        return self.kept.seed(self.noise.seed)

    @property
    def several(self) -> bool:
        """Whether the set is not just the batch of `latent`."""
        return self.total != len(self.latent["samples"])

    def whole(self, shape: Sequence[int]) -> dict[str, Any]:
        """The LATENT of the whole set, with samples of this shape; where that is `latent` itself, with its content."""
        if not self.several and tuple(self.latent["samples"].shape) == tuple(shape):
            return self.latent
        latent = {**self.latent, "samples": torch.zeros(self.total, *shape[1:])}
        if self.several:
            latent.pop("batch_index", None)
        return latent

    def batches(self) -> Iterator[Made]:
        """The set, batch by batch. Once the run was cancelled, what is left of it is only sampled."""
        settings, others = self.settings, [] if self.references is None else [self.references]
        ahead = self.kept_ahead() if settings.iterations else {}
        for places in turns(self.total, self.at_once):
            ahead.pop(places[0], None)
            different_from = [*others, *ahead.values()]
            if self.recipe is not None:
                compared = len(places) + sum(map(len, different_from))
                settings = replace(settings, clip=self.recipe.clip(self.objective, compared))
            stays = set(places) <= set(self.kept.places)
            made = self.made(
                places, different_from, replace(settings, iterations=0) if stays else settings, self.sampler
            )
            if stays and made.sound:
                made = replace(made, result=replace(made.result, stopped=ALL_KEPT))
            others = [*others, made.batch] if made.sound else others
            if made.result.stopped == CANCELLED:
                settings = replace(settings, iterations=0)
            if self.several and made.batch.pictures is not None:
                self.monitor.finish(to_pil(made.batch.pictures))
            yield made

    def kept_ahead(self) -> dict[int, Batch]:
        """What is kept of each batch but the first, sampled, by the first place of that batch: the batches before it
        are made to differ from that, too."""

        @torch.no_grad()
        def rendered(session: host.Session) -> Batch:
            looks = Looks.at(session, FINISHED, 0, PICTURES in self.objective.needs, self.bill)
            return looks.render(self.start[stay].to(session.device))

        ahead: dict[int, Batch] = {}
        for places in list(turns(self.total, self.at_once))[1:]:
            if stay := [place for place in places if place in self.kept.places]:
                batch = self.in_session(stay, self.sampler, rendered)
                ahead |= {} if batch.broken().any() else {places[0]: batch}
        return ahead

    def in_session(self, places: list[int], sampler: Any, body: Callable[[host.Session], T]) -> T:
        """body(session) of the pictures at these places."""
        return host.run_in_session(
            self.guider,
            sampler,
            self.sigmas,
            self.latent,
            body,
            vae=self.vae,
            seed=self.seed,
            members=(places, self.parts_of) if self.several else None,
            networks=patchers(self.objective.networks),
        )

    def made(self, places: list[int], others: list[Batch], settings: Settings, sampler: Any) -> Made:
        """The pictures at these places, made to differ from `others` too; where memory `auto` runs out, with low."""
        gradient = settings.iterations > 0 and OPTIMIZERS[settings.optimizer].update is not None

        def made(sampler: host.DifferentiableSampler) -> Made:
            return self.in_session(places, sampler, partial(self.optimized, places, others, settings, sampler))

        try:
            return saving_memory(sampler, made) if gradient else made(sampler)
        except RuntimeError as error:
            if not comfy.model_management.is_oom(error):
                raise
            memory = "" if not gradient else "fast" if sampler.memory == "fast" else "low"
            raise type(error)(self.too_much(len(places), memory)) from error

    def too_much(self, count: int, memory: str) -> str:
        """The sentence for a machine whose memory is too small. memory: "fast" or "low", or "" without a gradient."""
        size = " x ".join(map(str, self.latent["samples"].shape[2:]))
        how = {"fast": "with memory fast", "low": "even with memory low", "": "without any gradient"}[memory]
        ways = [f"set {self.ways.memory}"] if memory == "fast" else []
        ways += [self.ways.fewer] if count > 1 else []
        at_once = f"{counted(str(count), 'picture')} at once of latent size {size}"
        return f"Out of memory with {at_once}, {how}: {', or '.join([*ways, self.ways.last])}."

    def optimized(
        self, places: list[int], others: list[Batch], settings: Settings, sampler: Any, session: host.Session
    ) -> Made:
        """What a session is opened for: the loop, then what any sampler node makes of the noise found.

        The best so far is what was found on a Cancel that keeps it, and where memory runs out that `auto` cannot save.
        A batch that is broken as it begins stays as it is sampled, so that those before it are not lost.
        """
        objective = self.objective
        if others:
            objective = objective.bind(references=together(others))
        elif len(places) == 1 < self.total:
            objective = alone(objective)
        if not objective.leaves():
            settings = replace(settings, iterations=0)
        looks = self.looks(session, sampler.gradient_steps, settings)
        watch = Watch(self, session, places)
        noise = self.start[places].to(session.device).clone()
        try:
            result = optimize(looks, objective, noise, settings, watch, self.kept.free(places, session.mask, noise))
        except comfy.model_management.InterruptProcessingException:
            if watch.last is None or not self.keep:
                raise
            result = watch.last.result
        except RuntimeError as error:
            again = sampler.memory == "auto" and session.memory.mode != "low"
            if watch.last is None or again or not comfy.model_management.is_oom(error):
                raise
            result = replace(watch.last.result, stopped="memory ran out")
        except BrokenSamples as error:
            if places[0] == 0:
                raise
            result = Result(noise, Batch(), (), 0, str(error))
        found = finish(looks, objective, result, noise, watch.start if result.history else None, self.compare)
        result, batch = found.result, found.batch
        if batch.pictures is None and self.vae is not None:
            with torch.no_grad():
                batch = replace(batch, pictures=session.decode(batch.get(LATENTS)))
        start = watch.start if result.history else batch
        seen = batch if found.scores is None else result.batch
        return Made(places, replace(result, batch=Batch()), start, seen, batch, found.scores)

    def looks(self, session: host.Session, gradient_steps: int, settings: Settings) -> Looks:
        """How the loop looks, on the bill of the whole run; before the first look it is said what that will cost."""
        look = self.look if settings.iterations else FINISHED
        looks = Looks.at(session, look, gradient_steps, PICTURES in self.objective.needs, self.bill)
        if settings.iterations and not self.announced:
            self.announced = True
            runs, most = map(self.of_the_set, looks.prices.of_a_run(settings, self.compare))
            self.monitor.show([], f"will cost {runs:.3g} plain runs of {self.total}, at most {most:.3g}", 0)
        return looks

    def of_the_set(self, runs: float) -> float:
        """The price of the set where that of a batch is so many plain runs: one whose pictures are all kept is sampled
        once, and what is kept of later batches once more."""
        batches = list(turns(self.total, self.at_once))
        stay = [set(places) & set(self.kept.places) for places in batches]
        once = sum(len(places) for places, kept in zip(batches, stay, strict=True) if len(kept) == len(places))
        return (runs * (self.total - once) + once + sum(map(len, stay[1:]))) / self.total

    def cost(self) -> str:
        """What the run did cost, for the report; in the node it is said shorter."""
        runs, seconds = f"{self.bill.spent / self.total:.3g}", time.perf_counter() - self.began
        cost = f"cost {counted(runs, 'plain run')} of {self.total}"
        write(f"{self.kept.briefly}{cost} · {seconds:.1f} s", self.node_id)
        return f"It cost as much as {in_words(runs, self.total)}, in {seconds:.1f} s."

    def scores(self, made: Sequence[Made]) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Every score before and after: of the batch as the loop saw it, or of the set without what is broken in it.
        And of the finished pictures, where the loop saw predictions only."""
        made = [part for part in made if part.sound]
        predicted = any(part.scores is not None for part in made)
        if not self.several:
            result = made[0].result
            return result.history[0].scores, result.history[result.best].scores, made[0].scores or {}
        comfy.model_management.load_models_gpu(patchers(self.objective.networks))
        begun, seen, ended = (together([getattr(part, name) for part in made]) for name in ("start", "seen", "batch"))
        objective = self.objective.bind(start=begun, references=self.references)
        with torch.no_grad():
            finished = named(scored(objective, ended)) if predicted else {}
            return named(objective(begun)), named(objective(seen)), finished


class Watch:
    """Shows a batch in the node at each of its iterations; start: the batch as it began, last: the latest progress."""

    start: Batch

    def __init__(self, run: Run, session: host.Session, places: list[int]) -> None:
        self.run, self.session, self.places = run, session, places
        self.last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        step, batch, run = progress.step, progress.batch, self.run
        if self.last is None:
            self.start = batch
        self.last = progress
        run.line.enter(step.scores)
        tell(run.line, run.node_id)
        images = self.session.preview(batch.get(LATENTS)) if batch.pictures is None else to_pil(batch.pictures)
        words = [f"iteration {step.iteration} of {run.settings.iterations}"]
        if run.several:
            words.insert(0, f"pictures {self.places[0] + 1} to {self.places[-1] + 1} of {run.total}")
        words += [f"{name} {value:.3f}" for name, value in step.scores.items()]
        text = fitting(words)
        before = self.places[0] // run.at_once * (run.settings.iterations + 1)
        run.monitor.show(images, text, before + step.iteration + 1)
