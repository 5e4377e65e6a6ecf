"""The efforts of Diverse Sampler, as rows of a table: how each gets to pictures that differ, and what it hands out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from comfy.model_management import load_models_gpu
from torch import Tensor

from ..noise.bill import FIRST
from ..noise.coloured import Spectrum
from ..noise.settings import Settings
from ..objectives.batch import LATENTS, PICTURES, Batch
from ..objectives.objective import Objective
from . import history, host
from .files import described
from .latents import FixedNoise, batch_size, filled, noise_for, of_size
from .monitor import write
from .networks import patchers
from .rounds import Search
from .run import Run
from .seeds import noise_from, source_of

LARGE = Settings(optimizer="large steps", learning_rate=0.35)
DRAWN = 4  # candidates that a search draws for each picture at variety 1, beside those that a plain run has
SCHEDULE, WEIGHT = "half way only", 1.5  # of a search


@dataclass(frozen=True)
class Wanted:
    """The wires and widgets of a Diverse Sampler.

    latent: of all pictures, to be computed `at_once`. objective: None where the effort needs none. references: pictures
    to differ from, as the objective sees them. set: as in Diverse Seeds.
    """

    sampling: host.KSampler
    seed: int
    latent: dict[str, Any]
    variety: float
    objective: Objective | None = None
    vae: Any = None
    references: Batch | None = None
    at_once: int = 0
    memory: str = "auto"
    set: str = "auto"
    node_id: str | None = None

    @property
    def count(self) -> int:
        """How many pictures there will be."""
        return batch_size(self.latent)

    @cached_property
    def turn(self) -> dict[str, Any]:
        """The LATENT of as many pictures as are computed at once."""
        return of_size(self.latent, min(self.at_once or self.count, self.count))

    @property
    def random(self) -> Any:
        """The NOISE of KSampler."""
        return noise_from(Spectrum(alpha=0.0), self.seed, 0.0)


@dataclass(frozen=True)
class Handed:
    """What a Diverse Sampler hands out. pictures: (B, 3, H, W) where they were decoded on the way. words: what was done
    and what it cost."""

    noise: Any
    latent: dict[str, Any]
    pictures: Tensor | None
    words: str


def plain(wanted: Wanted) -> Handed:
    """KSampler, bit for bit."""
    return rendered(wanted, wanted.random, "off: variety is 0")


def from_set(wanted: Wanted) -> Handed:
    """What KSampler makes of the noise set of its model, or of pink noise where there is none."""
    source, said = source_of(wanted.sampling.model, wanted.set)
    return rendered(wanted, noise_from(source, wanted.seed, wanted.variety), said)


def rendered(wanted: Wanted, noise: Any, said: str) -> Handed:
    """What KSampler makes of a NOISE. said: what that is."""
    words = f"{said} · costs 1 plain run of {wanted.count}"
    write(words, wanted.node_id)
    latent = wanted.latent
    samples = host.fitted(wanted.sampling.model, latent)
    drawn = noise_for(noise, {**latent, "samples": samples})
    made = wanted.sampling.sampled(samples, drawn, wanted.seed, latent.get("noise_mask"))
    return Handed(noise, filled(latent, made), None, words)


def searched(wanted: Wanted) -> Handed:
    """The noises of a search that lead to pictures that differ most. Variety says among how many it chooses."""
    sampling, count = wanted.sampling, wanted.count
    candidates = count + round(DRAWN * wanted.variety * count)
    turn = {name: value for name, value in wanted.turn.items() if name != "batch_index"}
    wires = wanted.random, sampling.guider(), sampling.sampler(), sampling.sigmas(), turn
    leaves = [leaf for leaf in of(wanted).leaves() if leaf.role.search != "nothing"]
    if not leaves:
        raise ValueError("objective has only guards, by which nothing can be chosen: add Diversity or a quality.")
    load_models_gpu(patchers([network for leaf in leaves for network in leaf.networks]))
    leaves = [leaf.bind(references=wanted.references) for leaf in leaves]
    found = Search(*wires, leaves, wanted.vae, candidates, count, wanted.node_id).run(SCHEDULE, WEIGHT)
    settings = {"candidates": candidates, "chosen": found.chosen, "schedule": SCHEDULE}
    noise = FixedNoise(found.noise, wanted.seed, settings, {"after": found.scores}, described(wanted.random))
    whole = {name: value for name, value in wanted.latent.items() if name != "batch_index"}
    latent = filled(whole, found.batch.get(LATENTS).cpu())
    return Handed(noise, latent, found.batch.pictures, found.report)


def optimised(wanted: Wanted, iterations: int) -> Handed:
    """The noises that large steps along the gradient of the first prediction lead to, until variety is reached."""
    sampling, noise = wanted.sampling, wanted.random
    settings = replace(LARGE, iterations=iterations, seed=wanted.seed % 2**32)
    run = Run(
        noise,
        sampling.guider(),
        host.DifferentiableSampler(sampling.sampler(), wanted.memory),
        sampling.sigmas(),
        wanted.turn,
        of(wanted),
        wanted.vae,
        settings,
        wanted.count,
        wanted.references,
        node_id=wanted.node_id,
        look=FIRST,
    )
    made = list(run.batches())
    before, after, finished = run.scores(made)
    latent = filled(wanted.latent, torch.cat([part.batch.get(LATENTS) for part in made]).cpu())
    found = FixedNoise(
        torch.cat([part.result.noise for part in made]).cpu(),
        wanted.seed,
        {"look_at": FIRST} | {name: value for name, value in asdict(settings).items() if name != "seconds"},
        {"before": before, "after": after} | ({"finished": finished} if finished else {}),
        described(noise),
        latent.get("batch_index"),
    )
    pictures = None if wanted.vae is None else torch.cat([part.batch.get(PICTURES) for part in made])
    parts = [(part.places, part.result) for part in made]
    return Handed(found, latent, pictures, f"{history.report(parts, before, after, finished)}\n{run.cost()}")


def of(wanted: Wanted) -> Objective:
    if wanted.objective is None:
        raise ValueError("There is no objective: only effort set needs none.")
    return wanted.objective


@dataclass(frozen=True)
class Effort:
    """make: what does it. looks: whether it looks at what the pictures show. gradient: whether it takes one."""

    make: Callable[[Wanted], Handed]
    looks: bool = True
    gradient: bool = False


EFFORTS = {
    "set": Effort(from_set, looks=False),
    "search": Effort(searched),
    "quick": Effort(partial(optimised, iterations=2), gradient=True),
    "thorough": Effort(partial(optimised, iterations=5), gradient=True),
}
