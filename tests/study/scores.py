"""What pictures are optimised and measured by: rows of tables, each a name and the pack's own nodes.

A term of an objective is called "<features> <statistic>" ("DINO patches pairwise"), or by a row of QUALITIES or LPIPS.
The first word says who looks ("DINO"): a metric by the same network as an objective is no independent one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .graphs import Graph, node

STATISTICS = ("pairwise", "dpp", "vendi", "contrastive")
NETWORK = {"precision": "auto", "chunk": 8}
NO_TARGET = {"target": "none"}
B32, OPENAI, H14 = "ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/openai", "ViT-H-14/laion2b_s32b_b79k"


def dino(tokens: str, form: str) -> dict[str, Any]:
    widgets = {"model": "DINOv2 ViT-B/14", "tokens": tokens, "size": 252, "form": form, **NETWORK}
    return node("NoiseOptimizeDINOFeatures", **widgets)


def clip_score(model: str, form: str = "its own") -> dict[str, Any]:
    return node("NoiseOptimizeCLIPScore", model=model, other_model="", form=form, **NETWORK)


def preference(model: str) -> dict[str, Any]:
    return node("NoiseOptimizePreference", model=model, **NETWORK)


FEATURES = {  # nodes that give FEATURES; by their last output
    "DINO patches": dino("patches", "its own"),
    "DINO class": dino("class", "its own"),
    "DINO patches as published": dino("patches", "published"),
    "DINO class as published": dino("class", "published"),
    "DreamSim": node("NoiseOptimizeDreamSimFeatures", model="ensemble", chunk=8),
    "CLIP": node("NoiseOptimizeCLIPFeatures", model=B32, other_model="", **NETWORK),
    "color": node("NoiseOptimizeColorFeatures", color_space="lab", bins=8),
    "latent": node("NoiseOptimizeLatentFeatures", grid=8),
    "demo": node("NoiseOptimizeLoadDemo", model="few-step (4 steps, cfg 1)"),
}
OUTPUTS = {"demo": 2}  # of these the output that is FEATURES; 0 of the others
LPIPS = {"LPIPS": node("NoiseOptimizeLPIPS", network="AlexNet", size=256, **NETWORK)}
QUALITIES = {  # nodes that are given the prompt
    "CLIP Score": clip_score(B32),
    "CLIP Score openai": clip_score(OPENAI),
    "CLIP Score as published": clip_score(OPENAI, "published"),
    "CLIP Score H-14": clip_score(H14),
    "HPSv2.1": preference("HPSv2.1"),
    "PickScore": preference("PickScore"),
    "demo score": node("NoiseOptimizeDemoScore"),
}


@dataclass(frozen=True)
class Term:
    """A term of an objective: its name, its weight, and the score above which it pulls no more, or None."""

    name: str
    weight: float = 1.0
    target: float | None = None

    @property
    def eye(self) -> str:
        """Who looks."""
        return self.name.split()[0]

    def nodes(self, prompt: str) -> Graph:
        """The node that is called as the term, and what it needs."""
        count = {"weight": self.weight, **NO_TARGET}
        if self.target is not None:
            count |= {"target": "at least", "target.value": self.target}
        for table, given in ((QUALITIES, {"prompt": prompt}), (LPIPS, {})):
            if self.name in table:
                row = table[self.name]
                return {self.name: node(row["class_type"], **row["inputs"], **given, **count)}
        seen, _, statistic = self.name.rpartition(" ")
        if seen not in FEATURES or statistic not in STATISTICS:
            raise KeyError(f"There is no term {self.name!r}.")
        wire = [f"features {seen}", OUTPUTS.get(seen, 0)]
        return {
            f"features {seen}": FEATURES[seen],
            self.name: node("NoiseOptimizeDiversity", features=wire, statistic=statistic, **count),
        }


def objective(terms: Iterable[Term], prompt: str) -> Graph:
    """The sum of terms as the node "objective"."""
    terms = list(terms)
    parts: Graph = {}
    for term in terms:
        parts |= term.nodes(prompt)
    inputs = {f"objectives.objective_{i}": [term.name, 0] for i, term in enumerate(terms, 1)}
    return parts | {"objective": node("NoiseOptimizeCombine", **inputs)}


@dataclass(frozen=True)
class Metric:
    """A number that a set of pictures has: the term it is measured by, and how the source counts it.

    counted: from the score of this pack and the number of pictures.
    """

    term: Term
    counted: Callable[[float, int], float] = lambda score, pictures: score

    @property
    def eye(self) -> str:
        return self.term.eye


METRICS = {
    "DINO diversity": Metric(Term("DINO patches as published pairwise")),
    "Vendi": Metric(Term("DINO class as published vendi"), lambda score, n: 1 + (n - 1) * score),
    "DreamSim": Metric(Term("DreamSim pairwise")),
    "LPIPS": Metric(Term("LPIPS")),
    "CLIP Vendi": Metric(Term("CLIP vendi"), lambda score, n: 1 + (n - 1) * score),
    "color": Metric(Term("color pairwise")),
    "CLIPScore": Metric(Term("CLIP Score openai")),
    "HPSv2.1": Metric(Term("HPSv2.1")),
    "PickScore": Metric(Term("PickScore")),
}
JUDGED = {"judge Vendi": "judge", "judge adherence": "judge"}  # of the demo's pictures: demo_judge.py


def eye_of(metric: str) -> str:
    return METRICS[metric].eye if metric in METRICS else JUDGED[metric]


def measuring(files: list[str], prompt: str, metrics: Iterable[str]) -> Graph:
    """A graph that measures pictures that Load Image finds under these names; "is <metric>" tells each score."""
    graph: Graph = {}
    for i, file in enumerate(files):
        graph[f"picture {i}"] = node("LoadImage", image=file)
        if i:
            before = [f"batch {i - 1}" if i > 1 else "picture 0", 0]
            graph[f"batch {i}"] = node("ImageBatch", image1=before, image2=[f"picture {i}", 0])
    images = [f"batch {len(files) - 1}" if len(files) > 1 else "picture 0", 0]
    for metric in metrics:
        term = METRICS[metric].term
        graph |= term.nodes(prompt)
        graph[f"measure {metric}"] = node("NoiseOptimizeMeasure", images=images, objective=[term.name, 0])
        graph[f"is {metric}"] = node("PreviewAny", source=[f"measure {metric}", 1])
    return graph
