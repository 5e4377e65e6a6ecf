"""Prompt List: lines of text as a list, for whatever runs once for each of them."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .node import Node

EVERYDAY = (
    # people
    "a portrait of a woman",
    "an old man reading a newspaper",
    "a child playing with a ball",
    "a chef in a kitchen",
    "two friends at a table",
    "a dancer on a stage",
    "a firefighter",
    "a crowd at a concert",
    # animals
    "a dog",
    "a cat on a sofa",
    "a horse in a field",
    "an owl on a branch",
    "a fish under water",
    "a butterfly",
    # places
    "a house with a garden",
    "a street in a city",
    "a village in the mountains",
    "a beach",
    "a forest path",
    "a living room",
    "a train station",
    # things
    "a cup of coffee",
    "a bowl of fruit",
    "a bicycle against a wall",
    "a sports car",
    "an armchair",
    "a vase of flowers",
    # scenes
    "a picnic in a park",
    "a sailing boat in a storm",
    "a market on a winter evening",
    # words in the picture
    'a sign that says "OPEN"',
    'a poster with the words "SUMMER FESTIVAL"',
)


class PromptList(Node):
    """Lines as a list of texts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseOptimizePrompts",
            display_name="Prompt List",
            category="noise optimize/sampling",
            description=(
                "One prompt a line, as a list: what it is wired to runs once for each. With any text encode node it "
                "gives the conditionings that Find Noise Set takes. Comes with 32 everyday prompts."
            ),
            search_aliases=["prompts", "lines", "text list", "batch prompts", "find noise set"],
            inputs=[
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="\n".join(EVERYDAY),
                    tooltip="One prompt a line; empty lines count for nothing. Varied subjects are better than many.",
                )
            ],
            outputs=[
                io.String.Output(
                    display_name="prompts",
                    is_output_list=True,
                    tooltip="For the text of a text encode node, and for the prompts of Find Noise Set.",
                )
            ],
        )

    @classmethod
    def execute(cls, prompts: str) -> io.NodeOutput:
        lines = [line.strip() for line in prompts.splitlines() if line.strip()]
        if not lines:
            raise ValueError("prompts is empty; write one prompt a line.")
        return io.NodeOutput(lines)


NODES = [PromptList]
