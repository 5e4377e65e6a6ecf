"""The published recipes from end to end, in the units of this pack, and what a graph has otherwise.

**Step.** Published is a step lr* along a gradient that is clipped to the norm c* over a batch of B samples of d values,
with the prior, of weight p*, in it. The same step as a share of each sample's radius (`optimizers`), and the pull of
the same prior as a proximal step of its own (`prior`), are

    learning_rate = lr* c* / sqrt(B d)        clip = W c* sqrt(d / B)        prior_weight = REACH p* sqrt(d / B) / c*

The clip is of each sample alone, so that none can starve the others. The prior acts where the clip would have cut it,
too, and holds each ring of the spectrum beside the radius.

**Weights.** W is how many times the published loss the wired objective is: its weight over the published one, times how
much faster its score rises here (`Term.slope`). So any weight can be wired, with the clip that fits it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..objectives.objective import Objective
from ..objectives.pretrained.preprocess import AS_PUBLISHED
from .prior import REACH

Slope = Callable[[int], float]


def as_published(n: int) -> float:
    """A score that is the published one, as qualities and the mean distance of pairs are."""
    return 1.0


def of_dpp(n: int) -> float:
    """Published: logdet(I + K) / (n ln 2), which is log2(1 + n) / n at its least, and 0 here. One counts as two."""
    n = max(n, 2)
    return 1 / (1 - math.log2(1 + n) / n)


def of_vendi(n: int) -> float:
    """Published: the Vendi score, 1 to n, which is 0 to 1 here. One counts as two."""
    return 1 / (max(n, 2) - 1)


def of_logits(n: int) -> float:
    """Published: the logit of CLIP, 100 times the cosine."""
    return 0.01


SLOPES: dict[str, Slope] = {"pairwise": as_published, "dpp": of_dpp, "vendi": of_vendi, "contrastive": as_published}


@dataclass(frozen=True)
class Term:
    """A term of a published loss.

    score: what it is here, see `called`. weight: as published. slope: by how much the score here rises where the
    published one rises by 1, for n pictures that are compared. target: here, where there is one.
    """

    score: str
    weight: float
    slope: Slope = as_published
    target: float | None = None

    def weight_here(self, n: int) -> float:
        """The weight with which the term here is the published one."""
        return self.weight / self.slope(n)


@dataclass(frozen=True)
class Recipe:
    """A published setting. source: where its numbers were read.

    lr, clip_norm, prior: as published. lead: the terms of which it takes one; others: those it takes beside it.
    latent: (C, H, W) of a sample. batch: pictures at once; total: in all. steps: of the sampler. alpha: of the starting
    noise, of the spectrum "paper"; 0 is white. rollback: see Settings. differs: what is otherwise whatever is wired.
    """

    lr: float
    clip_norm: float
    iterations: int
    lead: tuple[Term, ...]
    latent: tuple[int, int, int]
    batch: int
    total: int
    source: str
    others: tuple[Term, ...] = ()
    steps: int = 1
    alpha: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    prior: float = 0.01
    rollback: float = 1.0
    differs: tuple[str, ...] = ()

    @property
    def learning_rate(self) -> float:
        return self.lr * self.clip_norm / math.sqrt(self.batch * math.prod(self.latent))

    @property
    def prior_weight(self) -> float:
        return REACH * self.prior * math.sqrt(math.prod(self.latent) / self.batch) / self.clip_norm

    def clip(self, objective: Objective, n: int) -> float:
        """The clip for this objective, where n pictures are compared, references with them."""
        return self.scale(objective, n) * self.clip_norm * math.sqrt(math.prod(self.latent) / self.batch)

    def settings(self, objective: Objective, n: int) -> dict[str, Any]:
        """Every setting of the loop, for `Settings`."""
        return {
            "iterations": self.iterations,
            "learning_rate": self.learning_rate,
            "optimizer": self.optimizer,
            "momentum": self.momentum,
            "clip": self.clip(objective, n),
            "prior_weight": self.prior_weight,
            "whiteness_weight": 0.0,
            "basis": "full",
            "rollback": self.rollback,
        }

    def scale(self, objective: Objective, n: int) -> float:
        """W: by the term that the recipe leads with, else by the first diversity, else by the first score; or 1."""
        leaves = {called(leaf): leaf for leaf in objective.leaves() if leaf.weight}
        for term in self.lead:
            if term.score in leaves:
                return abs(leaves[term.score].weight) / term.weight_here(n)
        for leaf in sorted(leaves.values(), key=lambda leaf: leaf.role.compares != "set"):
            slope = SLOPES.get(getattr(leaf, "statistic", ""), as_published)
            return abs(leaf.weight) * slope(n) / self.lead[0].weight
        return 1.0

    def differences(self, objective: Objective, n: int, facts: Mapping[str, str]) -> list[str]:
        """One line for each thing that is otherwise here; facts: of the graph, as `facts_of` names them."""
        published = facts_of(self.alpha, self.steps, self.batch, self.total, self.latent)
        lines = [
            f"{name}: {published[name]} in the recipe, {here} here"
            for name, here in facts.items()
            if here != published[name]
        ]
        leaves, scale = {called(leaf): leaf for leaf in objective.leaves()}, self.scale(objective, n)
        lead = next((term for term in self.lead if term.score in leaves), self.lead[0])
        for term in (lead, *self.others):
            wanted = scale * term.weight_here(n)
            leaf = leaves.pop(term.score, None)
            if leaf is None:
                lines.append(f"{term.score}: weight {wanted:.3g} in the recipe, not wired here")
            elif not math.isclose(leaf.weight, wanted, rel_tol=0.01):
                lines.append(f"{term.score}: weight {wanted:.3g} in the recipe, {leaf.weight:.3g} here")
            if leaf is not None and leaf.target != term.target:
                lines.append(f"{term.score}: target {_told(term.target)} in the recipe, {_told(leaf.target)} here")
        lines += [f"{name}: not in the recipe, weight {leaf.weight:.3g} here" for name, leaf in leaves.items()]
        return lines + list(self.differs)


def called(objective: Objective) -> str:
    """The name of a score, with its model where that is not in it."""
    clip = getattr(objective, "clip", None)
    return f"{objective.name} by {clip.title}" if clip and objective.name.startswith("CLIP Score") else objective.name


def facts_of(noise: float | str, steps: int, at_once: int, total: int, latent: Sequence[int]) -> dict[str, str]:
    """What decides a result beside settings and objective, in words. noise: the alpha that it starts with, or words."""
    if not isinstance(noise, str):
        noise = f"{'pink' if noise > 0 else 'blue'}, alpha {noise:g}" if noise else "white"
    return {
        "starting noise": noise,
        "steps": str(steps),
        "pictures at once": str(at_once),
        "pictures in all": str(total),
        "latent": " x ".join(map(str, latent)),
    }


def _told(target: float | None) -> str:
    return "none" if target is None else f"{target:g}"


DIVGEN, RENO = "arXiv 2601.00090, released code", "arXiv 2406.04312, released code"
SDXL, FLUX, FLUX_2 = (4, 64, 64), (16, 64, 64), (128, 32, 32)  # latents of 512 x 512 pixels
DPP, VENDI, PATCHES = (
    f"DINOv2 ViT-B/14 {seen}{AS_PUBLISHED} {statistic}"
    for seen, statistic in (("class", "dpp"), ("class", "vendi"), ("patches", "pairwise"))
)
CLIP_B32 = f"CLIP Score{AS_PUBLISHED} by CLIP ViT-B-32/openai"
CLIP_H = "CLIP Score by CLIP ViT-H-14/laion2b_s32b_b79k"
ONE_BY_ONE = (
    "the first picture of a set: as it is drawn in the recipe, optimized for its quality here",
    "DPP: as heavy as in the recipe when all 16 are compared; with fewer it counts more here, with 2 3.6 times as much",
)
RENDERED = "rendered with 4 steps in the recipe: wire the noise found into a sampler with 4 steps"


RECIPES: dict[str, Recipe] = {
    "SDXL-Turbo": Recipe(
        10, 0.1, 50,
        (Term(DPP, 50, of_dpp), Term(VENDI, 50, of_vendi), Term(PATCHES, 50)),
        SDXL, 4, 4, DIVGEN,
        others=(Term(CLIP_B32, 10),),
        differs=("a stop at 4 times the first DPP or Vendi: never reached in the recipe, not here",),
    ),
    "SDXL-Turbo, DPP with HPSv2.1": Recipe(
        6, 0.1, 150, (Term(DPP, 150, of_dpp),), SDXL, 4, 4, DIVGEN, others=(Term("HPSv2.1", 3),)
    ),
    "FLUX.1 schnell, white noise": Recipe(
        6, 0.1, 80,
        (Term(DPP, 1.5, of_dpp),),
        FLUX, 4, 4, DIVGEN,
        others=(Term("HPSv2.1", 0, target=0.31),),
        rollback=0.0,
        differs=("a picture is put back when HPSv2.1 falls to 0.31: as the recipe says; its released settings leave "
                 "HPSv2.1 out, and so never do",),
    ),
    "FLUX.1 schnell, pink noise": Recipe(
        2, 0.15, 80,
        (Term(DPP, 5, of_dpp),),
        FLUX, 4, 4, DIVGEN,
        others=(Term("HPSv2.1", 5),),
        alpha=0.2,
        rollback=0.5,
        differs=("HPSv2.1: from iteration 20 on in the recipe, from the first here",
                 "a picture is put back when HPSv2.1 falls by 0.05: as the recipe says; its released code compares "
                 "HPSv2.1 itself with 0.05, and so never does"),
    ),
    "FLUX.1 schnell, one at a time": Recipe(
        3, 0.15, 25, (Term(DPP, 15, of_dpp),), FLUX, 1, 16, DIVGEN, others=(Term("HPSv2.1", 1),),
        differs=(*ONE_BY_ONE, RENDERED),
    ),
    "FLUX.2 klein, one at a time": Recipe(
        3, 0.15, 70,
        (Term(DPP.replace("class", "patches"), 15, of_dpp),),
        FLUX_2, 1, 16, DIVGEN,
        others=(Term("HPSv2.1", 5), Term(CLIP_H, 0.01, of_logits)),
        steps=4,
        differs=(*ONE_BY_ONE, "DPP of patches: the mean over their places in the recipe, of the mean similarity here"),
    ),
    "ReNO, one picture": Recipe(
        5, 0.1, 50,
        (Term("HPSv2.1", 5),),
        SDXL, 1, 1, RENO,
        others=(Term("PickScore", 0.05), Term(CLIP_H, 0.01, of_logits)),
        optimizer="nesterov",
        differs=("ImageReward: weight 1 in the recipe, not in this pack",),
    ),
}  # fmt: skip
