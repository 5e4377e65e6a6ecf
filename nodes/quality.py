"""CLIP Score, Preference and Aesthetic: the quality of each picture."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..objectives.pretrained.clip import load_clip
from ..objectives.quality import PREFERENCES, aesthetic, clip_score, preference
from .clip import model_input, other_model_input
from .inputs import (
    ITS_OWN,
    PUBLISHED,
    chunk_input,
    form_input,
    precision_input,
    read_target,
    target_input,
    weight_input,
)
from .networks import dtype, folders, progress
from .node import Node
from .sockets import objective_output

CATEGORY = "noise optimize/objectives"


def prompt_input() -> io.String.Input:
    tooltip = (
        "What the pictures should show: the prompt that they are made from. Empty: the prompt that is drawn, where "
    )
    tooltip += "that is known, as in Find Noise Set."
    return io.String.Input("prompt", multiline=True, tooltip=tooltip)


class CLIPScoreNode(Node):
    """Cosine of picture and prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeCLIPScore",
            display_name="CLIP Score",
            category=CATEGORY,
            description="Asks that each picture shows what the prompt says: the cosine of the two in CLIP's space.",
            search_aliases=["clipscore", "prompt adherence", "text alignment"],
            inputs=[
                prompt_input(),
                model_input(),
                weight_input(),
                target_input(0.3, -1.0, 1.0, "the cosine of picture and prompt, about 0.2 to 0.4 for most models"),
                other_model_input(),
                precision_input(),
                chunk_input(),
                form_input("normalized twice, as in the released code with model ViT-B-32/openai"),
            ],
            outputs=[objective_output()],
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        model: str,
        weight: float,
        target: dict[str, Any],
        other_model: str,
        precision: str,
        chunk: int,
        form: str = ITS_OWN,
    ) -> io.NodeOutput:
        name = other_model.strip() or model
        clip = load_clip(name, folders(), dtype(precision), progress(), text=True, chunk=chunk)
        return io.NodeOutput(clip_score(clip, prompt, weight, read_target(target), published=form == PUBLISHED))


class PreferenceNode(Node):
    """HPSv2.1 or PickScore."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizePreference",
            display_name="Preference",
            category=CATEGORY,
            description="Asks for pictures that people would choose for the prompt, by a model of their choices.",
            search_aliases=["hps", "hpsv2", "pickscore", "human preference", "reward"],
            inputs=[
                prompt_input(),
                io.Combo.Input(
                    "model",
                    options=list(PREFERENCES),
                    default="HPSv2.1",
                    tooltip="HPSv2.1: about 0.2 to 0.35. PickScore: about 15 to 25, so give it a smaller weight.",
                ),
                weight_input(),
                target_input(0.28, -100.0, 100.0, "HPSv2.1 is near 0.3, PickScore near 22"),
                precision_input(),
                chunk_input(),
            ],
            outputs=[objective_output()],
        )

    @classmethod
    def execute(
        cls, prompt: str, model: str, weight: float, target: dict[str, Any], precision: str, chunk: int
    ) -> io.NodeOutput:
        objective = preference(
            model,
            prompt,
            folders(),
            dtype(precision),
            progress(),
            weight=weight,
            target=read_target(target),
            chunk=chunk,
        )
        return io.NodeOutput(objective)


class AestheticNode(Node):
    """LAION's linear head on CLIP ViT-L/14."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeAesthetic",
            display_name="Aesthetic",
            category=CATEGORY,
            description="Asks for pictures that people find beautiful, whatever they show, by LAION's predictor.",
            search_aliases=["laion aesthetic", "beauty", "aesthetic score"],
            inputs=[
                weight_input(0.1),
                target_input(6.0, 0.0, 10.0, "1 to 10; most pictures lie between 4 and 7", step=0.1),
                precision_input(),
                chunk_input(),
            ],
            outputs=[objective_output()],
        )

    @classmethod
    def execute(cls, weight: float, target: dict[str, Any], precision: str, chunk: int) -> io.NodeOutput:
        objective = aesthetic(
            folders(), dtype(precision), progress(), weight=weight, target=read_target(target), chunk=chunk
        )
        return io.NodeOutput(objective)


NODES = [CLIPScoreNode, PreferenceNode, AestheticNode]
