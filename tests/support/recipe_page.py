"""docs/recipes.md, made from noise/recipes.py: python tests/support/recipe_page.py > docs/recipes.md"""

from __future__ import annotations

import math
import sys

import pack

INTRO = """\
# The published recipes, in this pack

Made from `noise/recipes.py` by `python tests/support/recipe_page.py > docs/recipes.md`; a test holds the two together.

The widget *preset* of Noise Optimize takes every setting of the loop from a recipe: iterations, learning_rate,
optimizer, momentum, clip, prior_weight, whiteness_weight, basis and rollback, and total_pictures where that is 0. What
lies outside the node is compared with the recipe, and the report says in one line each what is otherwise. So to run a
recipe from end to end, choose it as preset, run, and wire what the report asks for.

*Weights.* Diversities go from 0 to 1 here, so the same weight pulls otherwise: a published DPP of 4 pictures rises 2.38
times as fast here, a published Vendi score a third as fast. The tables have the weights that make the published
balance. Any multiple of all of them does the same, as *clip* is converted for the objective that is wired; that of a
table is for its weights.

*The prior* is a step of its own here, not a part of the gradient that the clip cuts, and it holds each ring of the
spectrum beside the radius.

*To compare with published figures*, set *form* to `published` in DINO Features and CLIP Score, and use Measure Images
with the same objectives. With a DPP of d and a Vendi of v here for n pictures, the published ones are
log2(1 + n) / n + (1 - log2(1 + n) / n) d, which is 0.580 + 0.420 d for 4 pictures, and 1 + (n - 1) v.
"""
ROWS = ("iterations", "learning_rate", "optimizer", "momentum", "clip", "prior_weight", "rollback")


def page() -> str:
    """The whole text."""
    from noise_optimize.noise.recipes import RECIPES

    return "\n".join([INTRO, *(section(name, recipe) for name, recipe in RECIPES.items())])


def section(name: str, recipe) -> str:
    """One recipe: what the preset sets, what to wire, and what is otherwise."""
    from noise_optimize.noise.recipes import facts_of

    compared = max(recipe.total, 2)
    facts = facts_of(recipe.alpha, recipe.steps, recipe.batch, recipe.total, recipe.latent)
    clip = recipe.clip_norm * math.sqrt(math.prod(recipe.latent) / recipe.batch)
    settings = {row: getattr(recipe, row) for row in ROWS if row != "clip"} | {"clip": clip}
    rows = [("setting", "value"), ("---", "---")]
    rows += [(row, settings[row] if isinstance(settings[row], str) else f"{settings[row]:.3g}") for row in ROWS]
    rows += [*facts.items()]
    alternatives = " or ".join(_term(term, compared) for term in recipe.lead)
    rows += [("objective", "; ".join([alternatives, *(_term(term, compared) for term in recipe.others)]))]
    lines = [f"| {left} | {right} |" for left, right in rows]
    notes = [f"- {each[0].upper()}{each[1:]}." for each in recipe.differs]
    return "\n".join([f"## {name}\n", f"{recipe.source}.\n", *lines, *(["", *notes] if notes else []), ""])


def _term(term, compared: int) -> str:
    target = "" if term.target is None else f", target {term.target:g}"
    return f"{term.score}, weight {term.weight_here(compared):.3g} (published {term.weight:g}){target}"


if __name__ == "__main__":
    pack.register()
    sys.stdout.write(page())
