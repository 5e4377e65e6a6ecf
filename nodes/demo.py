"""Load Demo Model, Demo Prompt and Demo Score: a tiny FLUX that ships with the pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.utils
from comfy_api.v0_0_2 import io

from ..objectives.demo import PROMPTS, DemoScore
from ..objectives.features.demo import DemoFeatures, load_tower
from . import host
from .checks import shortened
from .inputs import read_target, target_input, weight_input
from .node import Node
from .sockets import Features, objective_output

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "demo"
MODELS = {"few-step (4 steps, cfg 1)": "student", "teacher (20 steps, cfg 1 to 4)": "teacher"}
NOTHING = "(nothing)"  # the last row of the table: the empty prompt
DRAWN = "(the prompt that is drawn)"


class LoadDemo(Node):
    """The shipped model, through the host's own loaders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeLoadDemo",
            display_name="Load Demo Model",
            category="noise optimize/demo",
            description=(
                "A tiny FLUX with its VAE and features, shipped with this pack: it draws 64 x 64 pictures in a second "
                "on any computer, and repeats itself as large few-step models do."
            ),
            search_aliases=["demo model", "example model", "tiny flux", "toy model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MODELS),
                    tooltip="few-step: distilled with guidance, so it repeats itself. teacher: what it was made from.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Laid out as FLUX.1 schnell."),
                io.Vae.Output(display_name="vae", tooltip="Laid out as TAESD; 64 pixels are 8 latent pixels."),
                Features.Output(display_name="features", tooltip="For Diversity; trained without labels."),
            ],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        patcher, vae = host.load_demo(FOLDER / f"{MODELS[model]}.safetensors", FOLDER / "vae.safetensors")
        return io.NodeOutput(patcher, vae, DemoFeatures(load_tower(FOLDER / "features.safetensors")))


class DemoPrompt(Node):
    """A row of the shipped table of prompt embeddings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDemoPrompt",
            display_name="Demo Prompt",
            category="noise optimize/demo",
            description="What the demo model can draw. It has no text encoder: each prompt is a row of a table.",
            search_aliases=["demo conditioning", "demo text"],
            inputs=[
                io.Combo.Input(
                    "prompt",
                    options=[*PROMPTS, NOTHING],
                    tooltip="What to draw. (nothing) is the negative prompt for the teacher.",
                ),
                io.String.Input(
                    "text",
                    optional=True,
                    force_input=True,
                    tooltip="One of these prompts from a wire, such as Prompt List, in place of the one chosen here.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="For a guider or sampler."),
                io.Combo.Output(display_name="prompt", tooltip="What is drawn, for prompt of Demo Score."),
            ],
        )

    @classmethod
    def execute(cls, prompt: str, text: str | None = None) -> io.NodeOutput:
        prompt = prompt if text is None else text.strip()
        if prompt not in (*PROMPTS, NOTHING):
            raise ValueError(
                f"text is {shortened(prompt)}, which the demo model cannot draw; give it one of {PROMPTS}."
            )
        table = comfy.utils.load_torch_file(str(FOLDER / "prompts.safetensors"))
        row = (
            slice(len(PROMPTS), None) if prompt == NOTHING else slice(PROMPTS.index(prompt), PROMPTS.index(prompt) + 1)
        )
        return io.NodeOutput([[table["context"][row].float(), {"pooled_output": table["pooled"][row].float()}]], prompt)


class DemoScoreNode(Node):
    """The shipped classifier as an objective of quality."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizeDemoScore",
            display_name="Demo Score",
            category="noise optimize/demo",
            description=(
                "Asks that each picture of the demo model shows what the prompt says, as CLIP Score does for large "
                "models: the probability that a small classifier gives the prompt."
            ),
            search_aliases=["demo quality", "demo classifier"],
            inputs=[
                io.Combo.Input(
                    "prompt",
                    options=[*PROMPTS, DRAWN],
                    tooltip="The prompt that the pictures are made from; in Find Noise Set, the one that is drawn.",
                ),
                weight_input(),
                target_input(0.9, 0.0, 1.0, "the probability of the prompt, 0 to 1"),
            ],
            outputs=[objective_output()],
        )

    @classmethod
    def execute(cls, prompt: str, weight: float, target: dict[str, Any]) -> io.NodeOutput:
        network = load_tower(FOLDER / "score.safetensors", len(PROMPTS))
        row = None if prompt == DRAWN else PROMPTS.index(prompt)
        return io.NodeOutput(DemoScore(network=network, prompt=row, weight=weight, target=read_target(target)))


NODES = [LoadDemo, DemoPrompt, DemoScoreNode]
