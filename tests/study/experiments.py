"""Which ways each experiment compares: rows of tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from noise_optimize.noise.bill import Prices
from noise_optimize.noise.recipes import CLIP_B32, CLIP_H, DPP, PATCHES, RECIPES, VENDI
from noise_optimize.noise.schedules import half_way, price
from noise_optimize.noise.settings import Settings

from .graphs import Layout, node
from .scores import Term
from .ways import LARGE, SET, STARTS, WHITE, Way, coloured

COSTS = {"steps": (1, 4, 10, 20, 50), "batch": (2, 4, 8)}
TERMS = {  # of the published recipes, by the name of their score
    DPP: "DINO class as published dpp",
    VENDI: "DINO class as published vendi",
    PATCHES: "DINO patches as published pairwise",
    DPP.replace("class", "patches"): "DINO patches as published dpp",
    CLIP_B32: "CLIP Score as published",
    CLIP_H: "CLIP Score H-14",
    "HPSv2.1": "HPSv2.1",
    "PickScore": "PickScore",
}


@dataclass(frozen=True)
class Study:
    """What the rows depend on: the steps of the graph, the objective, and what is chosen on the command line.

    main: the objective of ways that are not about objectives. score: the quality among them, or none. diversities: what
    the experiment on objectives compares. recipe: a row of RECIPES. noise_set: of Noise Set, "" for none.
    """

    steps: int
    main: tuple[Term, ...]
    score: tuple[Term, ...]
    diversities: tuple[str, ...]
    recipe: str = ""
    noise_set: str = ""

    @classmethod
    def of(cls, layout: Layout, look: str, recipe: str = "", noise_set: str = "") -> Study:
        """look: a row of LOOKS, or "" for the demo's where the graph has the demo model, else DINO."""
        main, score, diversities = LOOKS[look or ("demo" if layout.demo else "dino")]
        return cls(layout.steps, (*main, *score), score, diversities, recipe, noise_set)


LOOKS: dict[str, tuple[tuple[Term, ...], tuple[Term, ...], tuple[str, ...]]] = {
    "dino": (
        (Term("DINO patches vendi"), Term("latent contrastive")),
        (Term("CLIP Score", 2.0),),
        ("DINO patches pairwise", "DINO class dpp", "DINO class vendi", "DreamSim pairwise", "CLIP vendi", "LPIPS",
         "color dpp", "latent contrastive"),
    ),
    "demo": (
        (Term("demo vendi"), Term("latent contrastive")),
        (Term("demo score", 4.0, 0.97),),
        ("demo pairwise", "demo dpp", "demo vendi", "color dpp", "latent contrastive"),
    ),
    "latent": ((Term("latent contrastive"),), (), ("latent contrastive", "latent dpp", "latent vendi", "color dpp")),
}  # fmt: skip


def search_passes(candidates: int, steps: int) -> float:
    """Plain sampling runs of a set that Noise Search takes, with the final one."""
    return 1 + price(half_way(candidates, SET, steps), candidates, resumed=True) / SET / steps


def affordable(passes: float, steps: int) -> int:
    """The most iterations, through the first prediction, that cost no more than so many plain runs, though an earlier
    one may be the best and be rendered again."""
    prices, k = Prices(steps, 1, 1, finishes=False), 0
    while prices.of_a_run(Settings(iterations=k + 1))[0] + 1 <= passes:
        k += 1
    return k


def plain() -> dict[str, Way]:
    return {start: Way(start, noise) for start, noise in STARTS.items()}


def ways(study: Study) -> list[Way]:
    """Search and optimisation at equal passes, from white and pink noise, beside plain sampling and a noise set."""
    rows = list(plain().values())
    if study.noise_set:
        for strength in (0.5, 1.0):
            inputs = {"set": study.noise_set, "strength": strength, "pattern": "by seed"}
            rows.append(Way(f"noise set, strength {strength:g}", node("NoiseOptimizeSet", **inputs)))
    for start, noise in STARTS.items():
        for n in (16, 64):
            rows.append(Way(f"group selection of {n}, {start}", noise, study.main, candidates=n))
            k = affordable(search_passes(n, study.steps), study.steps)
            if k:
                settings = LARGE | {"iterations": k}
                rows.append(Way(f"optimized at the price of {n}, {start}", noise, study.main, settings=settings))
    return rows


def gradient(study: Study) -> list[Way]:
    """Whether a gradient arrives: one step of the loop, of the new settings and of the published kind."""
    small = LARGE | {"optimizer": "sgd", "learning_rate": 0.004, "iterations": 1}
    return [
        plain()[WHITE],
        Way("one large step, white", STARTS[WHITE], study.main, settings=LARGE | {"iterations": 1}),
        Way("one published step, white", STARTS[WHITE], study.main, settings=small),
    ]


def spectra(study: Study) -> list[Way]:
    """Other spectra of the starting noise, nothing optimised: alpha from 0 to 0.5, blue, bands."""
    rows = [Way(f"alpha {k / 20:.2f}", coloured(k / 20)) for k in range(1, 11)]
    rows.append(Way("blue, alpha -0.20", coloured(-0.2)))
    rows += [Way(f"band {a:g} to {b:g}", coloured(0.0, "band", a, b)) for a, b in ((0.0, 0.5), (0.5, 1.0))]
    return [plain()[WHITE], *rows]


def objectives(study: Study) -> list[Way]:
    """Each diversity alone with the score, five large steps: for metrics that it did not optimise."""
    rows = [
        Way(f"{name}, 5 iterations", STARTS[WHITE], (Term(name), *study.score), settings=LARGE)
        for name in study.diversities
    ]
    return [plain()[WHITE], *rows]


def published(study: Study) -> list[Way]:
    """A published recipe with each of its objectives, from its own noise and from the other."""
    recipe = RECIPES[study.recipe]
    rows = list(plain().values())
    for lead in recipe.lead:
        scale = 1 / lead.weight_here(recipe.total)
        others = [term for term in recipe.others if term.weight or term.target is not None]
        terms = (
            Term(TERMS[lead.score], 1.0, lead.target),
            *(Term(TERMS[t.score], scale * t.weight_here(recipe.total), t.target) for t in others),
        )
        for start, noise in STARTS.items():
            settings = LARGE | {"preset": study.recipe, "total_pictures": recipe.total}
            name = f"{study.recipe}, {TERMS[lead.score]}, {start}"
            rows.append(Way(name, noise, terms, settings=settings, batch=recipe.batch, steps=recipe.steps))
    return rows


def priced(steps: int, batch: int) -> str:
    return f"{steps} steps, batch {batch}"


def cost(study: Study) -> list[Way]:
    """Seconds of an iteration through the whole schedule, of the first prompt: steps by pictures at once."""
    settings = LARGE | {"optimizer": "sgd", "learning_rate": 0.004, "iterations": 3, "look_at": "finished picture"}
    return [
        Way(priced(steps, batch), STARTS[WHITE], study.main, 0, settings, batch, steps, 1, False)
        for steps in COSTS["steps"]
        for batch in COSTS["batch"]
    ]


EXPERIMENTS: dict[str, Callable[[Study], list[Way]]] = {
    each.__name__: each for each in (ways, gradient, spectra, objectives, published, cost)
}
