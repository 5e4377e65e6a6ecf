"""One search for a noise set in the host: a session for each prompt in turn, and what is shown and reported of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import comfy.model_management
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..noise.bill import in_words
from ..noise.evaluation import Generate
from ..noise.find_set import LOOKS, Finding, Found, Prompt, find_set
from ..noise.history import named
from ..noise.patterns import NoiseSet
from ..objectives.batch import PICTURES
from ..objectives.objective import Objective
from . import host
from .monitor import Monitor, to_pil
from .networks import patchers
from .plots import COLOURS, GREY, figure_to_image, label_axes, new_figure
from .retry import saving_memory

T = TypeVar("T")
ROWS, COLUMNS, GAP = 8, 8, 4  # of a sheet: prompts and pictures at most, pixels between prompts


@dataclass
class Search:
    """The wires and settings of a search for a noise set.

    texts: the prompts; conditionings: of each, its positive and negative. held_out: places of those that are kept out.
    draft: after how many steps the gradient takes what the model foresees; None: it goes through all.
    keep: whether Cancel keeps the best so far. found: the best so far.
    """

    model: Any
    texts: Sequence[str]
    conditionings: Sequence[tuple[Any, Any]]
    cfg: float
    sampler: host.DifferentiableSampler
    sigmas: Tensor
    latent: dict[str, Any]
    objective: Objective
    prompted: bool
    vae: Any
    held_out: Sequence[int]
    draft: int | None
    keep: bool
    node_id: str | None
    found: Found | None = None
    price: float = 1.0
    began: float = field(default_factory=time.perf_counter)
    monitor: Monitor = field(init=False)

    def run(self, start: NoiseSet, finding: Finding) -> Found:
        """Raises the host's interruption where Cancel was pressed and there is nothing to keep, or nothing is kept."""
        prompts = [self.prompt(place) for place in range(len(self.texts))]
        seen = [prompt for place, prompt in enumerate(prompts) if place not in self.held_out]
        unseen = [prompts[place] for place in self.held_out]
        start = replace(start, prompts=tuple(p.text for p in seen), unseen=tuple(p.text for p in unseen))
        shape, self.price = self.session(0, 1, lambda session: (session.shape[1:], self.gradient_price(session)))
        self.monitor = Monitor(self.node_id, finding.iterations + 1)
        looks = len(unseen) * -(-LOOKS // len(unseen)) * (2 + finding.iterations // finding.check_every)
        cost = finding.iterations * len(seen) * self.price + looks
        self.monitor.show([], f"will cost as much as {self.runs(cost, len(start))}", 0)
        try:
            with torch.inference_mode(False):
                return find_set(seen, unseen, start, shape, finding, self.watch)
        except comfy.model_management.InterruptProcessingException:
            if self.found is None or not self.keep:
                raise
            return self.found

    def prompt(self, place: int) -> Prompt:
        objective = self.objective.for_prompt(self.texts[place]) if self.prompted else self.objective
        whole, draft = (partial(self.draw, place, until) for until in (None, self.draft))
        return Prompt(self.texts[place], objective, whole, None if self.draft is None else draft)

    def draw(self, place: int, until: int | None, count: int, body: Callable[[Generate], T]) -> T:
        """body with what draws `count` pictures of a prompt."""
        pictures = PICTURES in self.objective.needs or (self.vae is not None and until is None)

        def drawn(session: host.Session) -> T:
            return body(lambda noise: session.batch(noise.to(session.device), pictures, until))

        def by(sampler: host.DifferentiableSampler) -> T:
            self.sampler = sampler  # for what is drawn after, too
            return self.session(place, count, drawn)

        return saving_memory(self.sampler, by)

    def session(self, place: int, count: int, body: Callable[[host.Session], T]) -> T:
        samples = self.latent["samples"]
        latent = {name: value for name, value in self.latent.items() if name != "batch_index"}
        latent["samples"] = samples[:1].expand(count, *samples.shape[1:]).clone()
        guider = host.guider_of(self.model, *self.conditionings[place], self.cfg)
        options = {"vae": self.vae, "seed": 0, "networks": patchers(self.objective.networks)}
        return host.run_in_session(guider, self.sampler, self.sigmas, latent, body, **options)

    def gradient_price(self, session: host.Session) -> float:
        """What one gradient costs in plain sampling runs: each call of the model it goes through counts three times."""
        return 3 * session.calls(self.draft) / session.calls()

    def runs(self, cost: float, patterns: int) -> str:
        return in_words(f"{cost:.0f}", patterns)

    def watch(self, found: Found) -> None:
        """Shows how the best set so far does on the prompts that are kept out."""
        self.found = found
        plain, now = named(found.plain.scores), named(found.now.scores)
        lines = [f"iteration {found.iteration}, best so far: {found.best}"]
        lines += [f"{name} {now[name]:.3f} (plain {plain[name]:.3f})" for name in now]
        picture = sheet(found)
        self.monitor.show([] if picture is None else [picture], "\n".join(lines), found.iteration + 1)

    def report(self, found: Found, whole: int) -> str:
        """What was found, on what, and what it cost. whole: the iterations that were asked for."""
        plain, now = named(found.plain.scores), named(found.now.scores)
        kept = found.noise_set
        lines = [f"Prompts that were kept out: {', '.join(kept.unseen)}."]
        lines += [f"{name} on them: {plain[name]:.4f} plain, {now[name]:.4f} with the set" for name in now]
        cost = self.runs(found.slopes * self.price + found.looks, len(kept))
        lines += [
            f"Found on {len(kept.prompts)} prompts; iteration {found.best} of {found.iteration} is kept.",
            f"It cost as much as {cost}, in {time.perf_counter() - self.began:.1f} s; using the set costs nothing.",
        ]
        if found.iteration < whole:
            lines.append("It was cancelled.")
        if not found.best:
            lines.append("Nothing was better than patterns drawn at random and kept quality: raise iterations or loss.")
        if found.broken:
            lines.append(f"Batches with NaN or infinity that were passed over: {found.broken}.")
        return "\n".join(lines)


def finished(found: Found, finding: Finding) -> NoiseSet:
    """The set with what it was found by."""
    scores = {"plain": named(found.plain.scores), "set": named(found.now.scores)}
    settings = asdict(finding) | {"iteration": found.best}
    return replace(found.noise_set, scores=scores, settings=found.noise_set.settings | settings)


def sheet(found: Found) -> Image.Image | None:
    """Of each prompt kept out, a row of plain pictures and below it one with the set, neighbours side by side."""
    order = found.noise_set.order[:COLUMNS]
    rows = [row for pair in zip(found.plain.batches[:ROWS], found.now.batches[:ROWS], strict=True) for row in pair]
    pictures = [to_pil(batch.pictures[list(order)]) for batch in rows if batch.pictures is not None]
    if not pictures:
        return None
    width, height = pictures[0][0].size
    page = Image.new("RGB", (len(order) * width, len(pictures) * height + (len(pictures) // 2 - 1) * GAP), "white")
    for row, images in enumerate(pictures):
        for column, image in enumerate(images):
            page.paste(image, (column * width, row * height + row // 2 * GAP))
    return page


def as_image(page: Image.Image) -> Tensor:
    """(1, H, W, 3) float32 in 0..1: a picture as ComfyUI's IMAGE."""
    return torch.from_numpy(np.array(page)).float()[None] / 255


def plot(found: Found) -> Tensor:
    """(1, H, W, 3) every score of the prompts kept out over the iterations, with the plain one as a dashed line."""
    plain, roles = named(found.plain.scores), [score.role.panel for score in found.plain.scores]
    panels = list(dict.fromkeys(roles))
    figure = new_figure(1024, 320 * len(panels) + 80)
    colours = dict(zip(plain, COLOURS * 3))
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        for name in (name for name, role in zip(plain, roles, strict=True) if role == panel):
            steps = list(found.history)
            values = [found.history[step][name] for step in steps]
            axes.plot(steps, values, color=colours[name], label=name, linewidth=2.5, marker=".")
            axes.plot([found.best], [found.history[found.best][name]], "o", color=colours[name], markersize=9)
            axes.axhline(plain[name], color=colours[name], linestyle="--", linewidth=1.5)
        axes.axvline(found.best, color=GREY, linestyle=":")
        axes.legend(fontsize=13)
        label_axes(axes, f"{panel} of the prompts kept out (dashed: plain)", "iteration", "score")
    return figure_to_image(figure)
