"""A way to pictures: one variant of a graph, by its starting noise, and by what chooses or optimises it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .graphs import Graph, Layout, node, pruned
from .scores import Term, objective

SET = 4  # pictures of a prompt
LARGE = {
    "iterations": 5, "learning_rate": 0.35, "optimizer": "large steps", "prior_weight": 4.0, "basis": "full",
    "clip": 0.1, "rollback": 0.1, "total_pictures": 0, "preset": "as set here",
}  # fmt: skip
WHITE, PINK = "white", "pink, alpha 0.2"


def coloured(alpha: float, spectrum: str = "paper", low: float = 0.0, high: float = 0.5) -> dict[str, Any]:
    """Pink Noise, which with alpha 0 is Random Noise bit for bit; the seed is added with the prompt."""
    return node("NoiseOptimizePinkNoise", alpha=alpha, spectrum=spectrum, low=low, high=high)


STARTS = {WHITE: coloured(0.0), PINK: coloured(0.2)}


@dataclass(frozen=True)
class Way:
    """One variant of a graph.

    noise: the node of its starting noise, without the seed. terms: of its objective. candidates: of Noise Search, 0
    for none. settings: widgets of Noise Optimize, or None for none. steps: in place of the graph's. prompts: how many
    are drawn, from the first, or None for all. measured: whether its pictures are.
    """

    name: str
    noise: dict[str, Any]
    terms: tuple[Term, ...] = ()
    candidates: int = 0
    settings: dict[str, Any] | None = None
    batch: int = SET
    steps: int | None = None
    prompts: int | None = None
    measured: bool = True

    @property
    def eyes(self) -> set[str]:
        """By whom it is optimised or chosen."""
        return {term.eye for term in self.terms}

    def graph(self, layout: Layout, prompt: str, seed: int) -> Graph:
        """The nodes "pictures", "report" and "history", where there is something to tell, and what they need."""
        graph, wires = layout.variant(prompt, self.batch, self.steps)
        named = {name: wires[name] for name in ("guider", "sampler", "sigmas", "latent_image")}
        graph["noise of study"] = node(self.noise["class_type"], **self.noise["inputs"], seed=seed)
        started = named | {"noise": ["noise of study", 0]}
        if self.terms:
            graph |= objective(self.terms, prompt)
        chosen = {"vae": wires["vae"], "objective": ["objective", 0]}
        if self.settings is not None:
            graph["way"] = node("NoiseOptimize", **started, **chosen, **self.settings)
            pictures, told = ["way", 2], {"report": ["way", 4], "history": ["way", 5]}
        elif self.candidates:
            graph["way"] = node("NoiseOptimizeSearch", **started, **chosen, candidates=self.candidates, keep=self.batch)
            pictures, told = ["way", 2], {"report": ["way", 3]}
        else:
            graph["sampled"] = node("SamplerCustomAdvanced", **started)
            graph["decoded"] = node("VAEDecode", samples=["sampled", 0], vae=wires["vae"])
            pictures, told = ["decoded", 0], {}
        graph["pictures"] = node("PreviewImage", images=pictures)
        graph |= {name: node("PreviewAny", source=wire) for name, wire in told.items()}
        return pruned(graph, ["pictures", *told])
