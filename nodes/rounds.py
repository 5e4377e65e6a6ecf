"""One run of Noise Search: its candidates, round by round, and what the wired sampler makes of those that are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..noise.bill import in_words
from ..noise.candidates import Scored, joined, scored
from ..noise.history import named
from ..noise.schedules import SCHEDULES, Rounds, for_each_place, price
from ..noise.search import broken, search
from ..objectives.batch import PICTURES, Batch, BrokenSamples
from ..objectives.objective import Objective
from . import host
from .keeping import Kept
from .latents import batch_size, filled, noise_for
from .monitor import Monitor, to_pil
from .networks import patchers

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """The candidates kept, their noise (K, C, ...), what the wired sampler makes of it, and the scores of that."""

    chosen: list[int]
    noise: Tensor
    batch: Batch
    scores: dict[str, float]
    report: str


@dataclass
class Search:
    """The wires and widgets of a search, and how far it is.

    Candidate i is computed as the picture at places[i] of the batch that is handed out (host/places.py): the first
    `keep` at theirs, the others in turn at those that are free. kept: pictures that stay, which are the candidates at
    their own places, always chosen.
    resumable: whether a round goes on where the one before it stopped (host/foresight.py), from `states`, which have
    made `done` steps. made: steps of single candidates in all. broken: candidates with NaN or infinity.
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
    kept: Kept = field(default_factory=Kept)
    resumable: bool = False
    states: dict[int, Tensor] = field(default_factory=dict)
    done: int = 0
    made: int = 0
    broken: set[int] = field(default_factory=set)
    began: float = field(default_factory=time.perf_counter)
    drawn: Tensor = field(init=False)
    monitor: Monitor = field(init=False)
    whole: host.Whole = field(init=False)
    places: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.whole = host.Whole(self.keep)
        free = cycle(place for place in range(self.keep) if place not in self.kept.places)
        self.places = [*range(self.keep), *islice(free, self.candidates - self.keep)]

    @torch.no_grad()
    def run(self, schedule: str, weight: float) -> Found:
        rounds = SCHEDULES[schedule](self.candidates, self.keep, self.steps)
        stops = [until for until, _ in rounds]
        placed, self.resumable, shape = self.session(
            lambda session: (session.places_matter(), session.resumable(stops), session.shape),
            list(range(min(self.at_once, self.candidates))),
        )
        places = torch.tensor(self.places) if placed else None
        if places is not None:
            rounds = for_each_place(rounds, int(places.bincount().min()) * self.keep, self.keep)
        drawn = noise_for(self.noise, filled(self.latent, torch.zeros(self.candidates, *shape[1:])))
        self.drawn = torch.cat([self.kept.start(drawn[: self.keep]), drawn[self.keep :]])
        self.monitor = self.announced(rounds)
        chosen = search(self.predict, self.candidates, rounds, weight, places, self.kept.places)
        chosen = self.arranged(chosen, placed)
        noise, samples = self.drawn[chosen].clone(), self.latent["samples"]
        whole = {**self.latent, "samples": samples[torch.arange(self.keep) % len(samples)]}
        batch, scores = self.in_session(lambda session: self.finish(session, noise), whole)
        report = self.report(chosen, scores)
        self.monitor.show([] if batch.pictures is None else to_pil(batch.pictures), report)
        return Found(chosen, noise, batch, scores, report)

    def arranged(self, chosen: list[int], placed: bool) -> list[int]:
        """The candidates chosen, in the order of the batch: those kept at their places, the others at what is free."""
        others = [candidate for candidate in chosen if candidate not in self.kept.places]
        free = iter(sorted(others, key=self.places.__getitem__) if placed else others)
        return [place if place in self.kept.places else next(free) for place in range(self.keep)]

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def at_once(self) -> int:
        return batch_size(self.latent)

    def session(self, body: Callable[[host.Session], T], rows: list[int]) -> T:
        """body(session) for these candidates."""
        return self.in_session(body, self.latent, ([self.places[i] for i in rows], self.whole))

    def in_session(
        self,
        body: Callable[[host.Session], T],
        latent: dict[str, Any],
        members: tuple[list[int], host.Whole] | None = None,
    ) -> T:
        networks = dict.fromkeys(network for leaf in self.leaves for network in leaf.networks)
        seed = self.kept.seed(self.noise.seed)
        options = {"vae": self.vae, "seed": seed, "networks": patchers(networks), "members": members}
        return host.run_in_session(self.guider, self.sampler, self.sigmas, latent, body, **options)

    def announced(self, rounds: Rounds) -> Monitor:
        """Says before the first candidate what the search will cost."""
        counts = [self.candidates, *(kept for _, kept in rounds)][: len(rounds)]
        monitor = Monitor(self.node_id, sum(-(-count // self.at_once) for count in counts) + 1)
        cost = self.runs(price(rounds, self.candidates, self.resumable))
        monitor.show([], f"{self.candidates} candidates will cost as much as {cost}", 0)
        return monitor

    def predict(self, left: Tensor, until: int) -> tuple[Tensor, Tensor]:
        """Quality and distances of the candidates that are left, after so many steps."""
        parts = [self.look(rows.tolist(), until) for rows in left.split(self.at_once)]
        self.done = until if self.resumable else 0
        quality, distance = joined(self.leaves, parts)
        self.broken |= set(left[broken(quality, distance)].tolist())
        return quality, distance

    def look(self, rows: list[int], until: int) -> Scored:
        """What the objectives see of as many candidates as are computed at once."""

        def body(session: host.Session) -> Scored:
            foreseen = session.predicted(self.drawn[rows], until, self.begun(rows))
            if foreseen.begun is not None and foreseen.begun.samples is not None:
                self.states.update(zip(rows, foreseen.begun.samples.cpu(), strict=True))
            latents = foreseen.latents
            pictures = session.decode(latents) if any(PICTURES in leaf.needs for leaf in self.leaves) else None
            seen = scored(self.leaves, Batch(latents, pictures))
            self.made += len(rows) * (until - self.done)
            images = session.preview(latents) if pictures is None else to_pil(pictures)
            self.monitor.show(images, f"{len(rows)} of {self.candidates} candidates, step {until} of {self.steps}")
            return seen

        return self.session(body, rows)

    def begun(self, rows: list[int]) -> host.Begun | None:
        """Where these candidates stand, if they can go on from there."""
        if not self.resumable:
            return None
        return host.Begun(self.done, torch.stack([self.states[i] for i in rows]) if self.done else None)

    def finish(self, session: host.Session, noise: Tensor) -> tuple[Batch, dict[str, float]]:
        """What any sampler node makes of the noise, and its scores; none where a broken one had to be kept."""
        batch = session.batch(noise, self.vae is not None)
        try:
            scores = [leaf(batch) for leaf in self.leaves if len(noise) > 1 or leaf.role.compares != "set"]
        except BrokenSamples:
            scores = []
        return batch, named([score for each in scores for score in each])

    def runs(self, made: int) -> str:
        """The price of so many steps of single candidates, and of the run that makes the result."""
        return in_words(f"{1 + made / (self.keep * self.steps):.1f}", self.keep)

    def report(self, chosen: list[int], scores: Mapping[str, float]) -> str:
        lines = [
            f"Chose {self.keep} of {self.candidates} candidates: {', '.join(str(i + 1) for i in chosen)}.",
            f"It cost as much as {self.runs(self.made)}, in {time.perf_counter() - self.began:.1f} s.",
            *(f"{name} {value:.3f}" for name, value in scores.items()),
        ]
        if self.broken:
            kept = len(self.broken & set(chosen))
            outcome = f"{kept} of them had to be kept: raise candidates" if kept else "none of them was kept"
            lines.append(f"Candidates with NaN or infinity: {len(self.broken)}; {outcome}.")
        return "\n".join(lines)
