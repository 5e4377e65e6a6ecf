"""Finding a noise set: patterns that make the pictures of many prompts differ, kept by what they do to prompts unseen.

K patterns P are moved along the mean gradient over prompts p, with fresh noise around them at every iteration:

    minimise over P    mean_p total_loss(objective_p(generate_p(z(P, fresh))))

The fresh noise is what makes a pattern work with every seed; many prompts are what makes it work with prompts that it
was not found on; prompts that are kept out say which iteration is best. A step is a share of a pattern's norm, as in
noise/optimizers.py. After it the patterns are held to what white noise is: over the patterns each coefficient has mean
0 and variance 1, and each pattern has the norm sqrt(d). So a model sees nothing unusual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..objectives.batch import Batch, BrokenSamples
from ..objectives.objective import Objective, Score, Sum, total_loss
from .evaluation import Generate
from .history import named
from .optimizers import OPTIMIZERS, State, clipped
from .patterns import NoiseSet, apart, lowest

T = TypeVar("T")
BAND = 0.5  # of the frequencies of each side: on the demo's model more variety than a third, at the same adherence
HELD, ROUNDS = (
    8,
    32,
)  # patterns from which on each coefficient is held; how often coefficients and norms are set in turn
REMEMBERED = 0.8  # of how alike the patterns were so far, at each iteration
LOOKS = 4  # batches at least by which the prompts that are kept out judge an iteration
UNSEEN = 1 << 40  # first seed of their fresh noise, the same at each look


class Draw(Protocol):
    """draw(count, body) is what body gives for the `generate` of one prompt, which takes so many noises; nothing of it
    is kept afterwards."""

    def __call__(self, count: int, body: Callable[[Generate], T], /) -> T: ...


@dataclass(frozen=True)
class Prompt:
    """A prompt: its text, what its pictures are to be, how it is drawn, and what the gradient goes through, if that is
    something cheaper: a draft."""

    text: str
    objective: Objective
    draw: Draw
    draft: Draw | None = None


@dataclass(frozen=True)
class Finding:
    """How to find a set.

    learning_rate: the length of the first step as a share of a pattern's norm; it falls to 0 by half a cosine.
    clip: the gradient norm of a pattern above which a step is full, in loss per norm. strength: at which it is found.
    at_once: pictures drawn together; where it is less than the number of patterns, they are grouped anew each time.
    check_every: iterations from one look at the prompts kept out to the next.
    loss: how much quality may fall there, as a share of the span of the score.
    """

    iterations: int = 60
    learning_rate: float = 0.2
    optimizer: str = "sgd"
    momentum: float = 0.0
    clip: float = 0.1
    strength: float = 1.0
    at_once: int = 16
    check_every: int = 5
    loss: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Look:
    """The prompts kept out at one moment: every score as its mean over them, and a batch of each on the CPU."""

    scores: list[Score]
    batches: list[Batch]

    def worse(self, plain: Look, loss: float) -> tuple[float, float]:
        """What the best look has least of: quality short of what may be lost since `plain`, then loss of diversity."""
        lost = [
            math.copysign(1.0, now.weight) * float(was.values - now.values) / now.span
            for now, was in zip(self.scores, plain.scores, strict=True)
            if now.role.rollback
        ]
        short = max(0.0, max(lost, default=0.0) - loss)
        return short, sum(float(score.loss) for score in self.scores if score.role.compares == "set")


@dataclass(frozen=True)
class Found:
    """How far a search is.

    best: the iteration that `noise_set` is of. plain, now: the prompts kept out without a set, and with this one.
    history: by iteration, the scores of each look at them. slopes, looks: how often all patterns were drawn with and
    without a gradient. broken: batches that were passed over for NaN or infinity.
    """

    noise_set: NoiseSet
    best: int
    iteration: int
    plain: Look
    now: Look
    history: dict[int, dict[str, float]]
    slopes: int
    looks: int
    broken: int


def find_set(
    seen: Sequence[Prompt],
    unseen: Sequence[Prompt],
    start: NoiseSet,
    shape: Sequence[int],
    finding: Finding,
    on_step: Callable[[Found], None] | None = None,
) -> Found:
    """The set that is best on the prompts `unseen`, of those met on the way from `start` along the prompts `seen`.

    shape: (C, ..., H, W) of a latent. on_step: called before each step and at the end; what it raises ends the search,
    and the last that it saw is what was found.
    """
    update = OPTIMIZERS[finding.optimizer].update
    if update is None:
        raise ValueError(f"optimizer is {finding.optimizer!r}, which takes no gradient; choose sgd, nesterov or adam.")
    seen, unseen = ([replace(p, objective=without_guards(p.objective)) for p in each] for each in (seen, unseen))
    search, state = Search(start, tuple(shape), finding), State()
    plain = search.look(unseen, None)
    c, least, history = held(start.coefficients), (math.inf, math.inf), {}
    d = c.new_full((len(c),), c[0].numel())
    for iteration in range(finding.iterations + 1):
        last = iteration == finding.iterations
        if last or iteration % finding.check_every == 0:
            now = search.look(unseen, c)
            history[iteration] = named(now.scores)
            if now.worse(plain, finding.loss) < least:
                least, best = now.worse(plain, finding.loss), (search.kept(c, apart(search.alike)), iteration)
                shown = now
        counts = search.slopes, search.looks, search.broken
        found = Found(*best, iteration, plain, shown, dict(history), *counts)
        if on_step is not None:
            on_step(found)
        if not last:
            u = clipped(search.slope(seen, c), d, finding.clip)
            rate = finding.learning_rate * (1 + math.cos(math.pi * iteration / finding.iterations)) / 2
            c = held(c - rate * math.sqrt(c[0].numel()) * update(state, u, finding.momentum))
    return found


class Search:
    """Draws the patterns, counts what that costs, and remembers how alike their pictures were."""

    def __init__(self, start: NoiseSet, shape: tuple[int, ...], finding: Finding) -> None:
        self.start, self.shape, self.finding = start, shape, finding
        self.generator = torch.Generator().manual_seed(finding.seed)
        self.alike = torch.eye(len(start), dtype=torch.float64)
        self.slopes = self.looks = self.broken = 0

    def slope(self, prompts: Sequence[Prompt], c: Tensor) -> Tensor:
        """The gradient of the mean loss over prompts with respect to the patterns c."""
        total = torch.zeros_like(c)
        for prompt in prompts:
            for rows in self.groups(torch.randperm(len(c), generator=self.generator)):
                noise = self.noise(c, rows, self.generator)
                gradient, alike = (prompt.draft or prompt.draw)(len(rows), partial(self._slope, prompt, noise))
                basis, _ = lowest(gradient.nan_to_num(posinf=0.0, neginf=0.0), c.shape[-2:])
                total[rows] += math.sqrt(self.finding.strength) * basis.analyse(basis.start)
                if alike is not None:
                    block = (rows[:, None], rows)
                    self.alike[block] = REMEMBERED * self.alike[block] + (1 - REMEMBERED) * alike
            self.slopes += 1
        return total / len(prompts)

    def _slope(self, prompt: Prompt, noise: Tensor, generate: Generate) -> tuple[Tensor, Tensor | None]:
        leaf = noise.requires_grad_()
        with torch.enable_grad():
            batch = generate(leaf)
            try:
                (gradient,) = torch.autograd.grad(total_loss(prompt.objective(batch)), leaf)
            except BrokenSamples:
                self.broken += 1
                return torch.zeros_like(noise), None
        with torch.no_grad():
            return gradient, likeness(prompt.objective, batch.detach())

    def look(self, prompts: Sequence[Prompt], c: Tensor | None) -> Look:
        """The prompts with the patterns c, or without any, each time with the same fresh noise."""
        entries: list[list[Score]] = []
        shown = []
        for number, prompt in enumerate(prompts):
            parts = []
            for again in range(-(-LOOKS // len(prompts))):
                generator = torch.Generator().manual_seed(UNSEEN + 1000 * number + again)
                for rows in self.groups(torch.arange(len(self.start))):
                    noise = self.noise(c, rows, generator)
                    given, batch = prompt.draw(len(rows), partial(self._look, prompt, noise))
                    entries += given
                    parts += [] if again else [batch]
                self.looks += 1
            shown.append(parts)
        if not entries:
            raise ValueError("All pictures hold NaN or infinity: change the sampler, or the precision of model or VAE.")
        scores = [replace(each[0], values=torch.stack([s.mean for s in each]).mean()) for each in zip(*entries)]
        return Look(scores, [joined(parts) for parts in shown])

    @torch.no_grad()
    def _look(self, prompt: Prompt, noise: Tensor, generate: Generate) -> tuple[list[list[Score]], Batch]:
        batch = generate(noise)
        kept = Batch(*(None if t is None else t.cpu() for t in (batch.latents, batch.pictures)))
        try:
            scores = prompt.objective(batch)
            return [[replace(score, values=score.values.cpu()) for score in scores]], kept
        except BrokenSamples:
            self.broken += 1
            return [], kept

    def groups(self, rows: Tensor) -> Sequence[Tensor]:
        """The patterns in groups of nearly one size that are drawn together."""
        return rows.tensor_split(-(-len(rows) // self.finding.at_once))

    def noise(self, c: Tensor | None, rows: Tensor, generator: torch.Generator) -> Tensor:
        """(n, C, ...) fresh noise, with the patterns `rows` in it."""
        white = torch.randn(len(rows), *self.shape, generator=generator, dtype=self.start.coefficients.dtype)
        return white if c is None else self.kept(c).applied(white, rows.tolist(), self.finding.strength)

    def kept(self, c: Tensor, order: Sequence[int] = ()) -> NoiseSet:
        """The patterns as a set."""
        return replace(self.start, coefficients=c, order=tuple(order))


def held(c: Tensor) -> Tensor:
    """The patterns (K, C, h, w) nearest in proportion that are as white noise is on average: over the patterns each
    coefficient has mean 0 and variance 1 (where there are enough of them), and each pattern has the norm sqrt(d)."""
    x = c.flatten(1)
    for _ in range(ROUNDS):
        if len(x) >= HELD:
            x = x - x.mean(dim=0)
            x = x / x.square().mean(dim=0).sqrt()
        x = x * (math.sqrt(x.shape[1]) / torch.linalg.vector_norm(x, dim=1, keepdim=True))
    return x.reshape(c.shape)


def without_guards(objective: Objective) -> Objective:
    """The objective without what compares a picture with its start: each iteration starts from other noise."""
    kept = Sum(terms=tuple(leaf for leaf in objective.leaves() if leaf.role.compares != "start"))
    if not any(leaf.role.compares == "set" and leaf.weight for leaf in kept.leaves()):
        raise ValueError("objective has nothing by which pictures differ: add Diversity or LPIPS Diversity.")
    return kept


def likeness(objective: Objective, batch: Batch) -> Tensor | None:
    """(B, B) how alike the pictures are to what compares them, 0..1, on average; None where nothing gives distances."""
    compared = [(abs(leaf.weight), leaf.distances(batch)) for leaf in objective.leaves()]
    weighed = [(weight, distance.cpu().double()) for weight, distance in compared if weight and distance is not None]
    if not weighed:
        return None
    total = torch.stack([weight * distance for weight, distance in weighed]).sum(dim=0)
    return 1 - total / sum(weight for weight, _ in weighed)


def joined(parts: Sequence[Batch]) -> Batch:
    """One batch of several."""
    tensors = zip(*((part.latents, part.pictures) for part in parts), strict=True)
    return Batch(*(None if each[0] is None else torch.cat(each) for each in tensors))
