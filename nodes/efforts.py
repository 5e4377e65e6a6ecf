"""The efforts of Diverse Sampler, as rows of a table: how each gets to pictures that differ, and what it hands out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
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
from .keeping import ALL_KEPT, Kept
from .latents import ColouredNoise, FixedNoise, batch_size, filled, noise_for, of_size
from .monitor import write
from .networks import patchers
from .rounds import Search
from .run import Run, Ways
from .seeds import noise_from, source_of

LARGE = Settings(optimizer="large steps", learning_rate=0.35)
DRAWN = 4  # candidates that a search draws for each picture at variety 1, beside those that a plain run has
SCHEDULE, WEIGHT = "half way only", 1.5  # of a search
WAYS = Ways(
    "memory to auto or low", "set at_once to fewer pictures", "lower the size of latent_image, or set effort to search"
)


@dataclass(frozen=True)
class Wanted:
    """The wires and widgets of a Diverse Sampler.

    latent: of all pictures, to be computed `at_once`. objective: None where the effort needs none. references: pictures
    to differ from, as the objective sees them. set: as in Diverse Seeds. kept: pictures that stay.
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
    kept: Kept = field(default_factory=Kept)

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
        return ColouredNoise(self.seed, Spectrum(alpha=0.0))

    def with_kept_noise(self) -> Wanted:
        """With the noise of what is kept; where no file is named, that is KSampler's."""
        if not self.kept.places or self.kept.noise is not None:
            return self
        samples = host.fitted(self.sampling.model, self.latent)
        drawn = FixedNoise(noise_for(self.random, {**self.latent, "samples": samples}), self.seed)
        return replace(self, kept=replace(self.kept, noise=drawn))

    @property
    def still(self) -> bool:
        """Whether no picture may become another."""
        return not self.variety or len(self.kept.places) == self.count


@dataclass(frozen=True)
class Handed:
    """What a Diverse Sampler hands out.

    drawn: what the pictures start from. pictures: (B, 3, H, W) where they were decoded on the way. words: what was done
    and what it cost. noise: NOISE that gives `drawn` and serves any size; None where there is none. line: how the score
    rose, for the browser.
    """

    drawn: FixedNoise
    latent: dict[str, Any]
    pictures: Tensor | None
    words: str
    noise: Any = None
    line: dict[str, Any] = field(default_factory=lambda: {"label": "", "line": []})


def plain(wanted: Wanted) -> Handed:
    """KSampler, bit for bit."""
    return rendered(wanted, wanted.random, ALL_KEPT if wanted.variety else "off: variety is 0")


def from_set(wanted: Wanted) -> Handed:
    """What KSampler makes of the noise set of its model, or of pink noise where there is none."""
    source, said = source_of(wanted.sampling.model, wanted.set)
    return rendered(wanted, noise_from(source, wanted.seed, wanted.variety), said)


def rendered(wanted: Wanted, noise: Any, said: str) -> Handed:
    """What KSampler makes of a NOISE, with that of kept pictures in it. said: what that is."""
    kept, latent = wanted.kept, wanted.latent
    words = f"{said} · costs 1 plain run of {wanted.count}"
    write(kept.briefly + words, wanted.node_id)
    samples = host.fitted(wanted.sampling.model, latent)
    started, seed = kept.start(noise_for(noise, {**latent, "samples": samples})), kept.seed(wanted.seed)
    made = wanted.sampling.sampled(samples, started, seed, latent.get("noise_mask"))
    drawn = FixedNoise(started, seed, spectrum=described(noise), batch_index=latent.get("batch_index"))
    return Handed(drawn, filled(latent, made), None, words, None if kept.places else noise)


def searched(wanted: Wanted) -> Handed:
    """The noises of a search that lead to pictures that differ most, among them those kept. Variety says among how many
    it chooses."""
    sampling, count, kept = wanted.sampling, wanted.count, wanted.kept
    candidates = count + round(DRAWN * wanted.variety * (count - len(kept.places)))
    turn = {name: value for name, value in wanted.turn.items() if name != "batch_index"}
    wires = wanted.random, sampling.guider(), sampling.sampler(), sampling.sigmas(), turn
    leaves = [leaf for leaf in of(wanted).leaves() if leaf.role.search != "nothing"]
    if not leaves:
        raise ValueError("objective has only guards, by which nothing can be chosen: add Diversity or a quality.")
    load_models_gpu(patchers([network for leaf in leaves for network in leaf.networks]))
    leaves = [leaf.bind(references=wanted.references) for leaf in leaves]
    found = Search(*wires, leaves, wanted.vae, candidates, count, wanted.node_id, kept).run(SCHEDULE, WEIGHT)
    settings = {"candidates": candidates, "chosen": found.chosen, "schedule": SCHEDULE}
    seed = kept.seed(wanted.seed)
    drawn = FixedNoise(found.noise, seed, settings, {"after": found.scores}, described(wanted.random))
    whole = {name: value for name, value in wanted.latent.items() if name != "batch_index"}
    latent = filled(whole, found.batch.get(LATENTS).cpu())
    return Handed(drawn, latent, found.batch.pictures, found.report)


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
        kept=wanted.kept,
        ways=WAYS,
    )
    made = list(run.batches())
    before, after, finished = run.scores(made)
    latent = filled(wanted.latent, torch.cat([part.batch.get(LATENTS) for part in made]).cpu())
    drawn = FixedNoise(
        torch.cat([part.result.noise for part in made]).cpu(),
        run.seed,
        {"look_at": FIRST} | {name: value for name, value in asdict(settings).items() if name != "seconds"},
        {"before": before, "after": after} | ({"finished": finished} if finished else {}),
        described(noise),
        latent.get("batch_index"),
    )
    pictures = None if wanted.vae is None else torch.cat([part.batch.get(PICTURES) for part in made])
    parts = [(part.places, part.result) for part in made]
    words = f"{history.report(parts, before, after, finished)}\n{run.cost()}"
    return Handed(drawn, latent, pictures, words, line=run.line.shown)


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
