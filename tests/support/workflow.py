"""A workflow as the frontend saves it, turned into the API format that ComfyUI runs, as the frontend would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Definition = dict[str, Any]
Graph = dict[str, dict[str, Any]]
VALUES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
NOTES = ("Note", "MarkdownNote")
ALWAYS, NEVER = 0, 2  # modes of a node: it runs, or it is muted
LINK = ("id", "origin_id", "origin_slot")  # what a list begins with that stands for a link outside subgraphs
INPUT = -10  # the id of what a subgraph's inputs come from


def widgets(definition: Definition, values: Iterator[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of each widget that a node's definition lists, taking `values` in the order they are saved in.

    Widgets that a definition has gained since, at its end, are left out.
    """
    for group in ("required", "optional"):
        for name, (kind, *rest) in definition.get(group, {}).items():
            options = rest[0] if rest else {}
            if options.get("forceInput") or not (isinstance(kind, list) or kind in VALUES):
                continue
            try:
                value = next(values)
            except StopIteration:
                return
            yield prefix + name, value
            if options.get("control_after_generate"):
                next(values)
            if kind == "COMFY_DYNAMICCOMBO_V3":
                (chosen,) = (option for option in options["options"] if option["key"] == value)
                yield from widgets(chosen["inputs"], values, f"{prefix}{name}.")


def subgraphs(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The subgraphs that a workflow defines, by the type of the nodes that stand for them."""
    return {each["id"]: each for each in (workflow.get("definitions") or {}).get("subgraphs", ())}


def nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node of a workflow, those inside its subgraphs too."""
    return [node for part in (workflow, *subgraphs(workflow).values()) for node in part["nodes"]]


@dataclass
class Part:
    """A workflow, or one of its subgraphs in the place of the node that stands for it in `outside`."""

    workflow: dict[str, Any]
    known: dict[str, dict[str, Any]]
    prefix: str = ""
    outside: Part | None = None
    place: dict[str, Any] | None = None

    def inside(self, node: dict[str, Any]) -> Part:
        return Part(self.known[node["type"]], self.known, f"{self.prefix}{node['id']}:", self, node)

    def source(self, link: int | None) -> list[Any] | None:
        """Node and output that a wire comes from, or None where it comes from an input that is not wired."""
        if link is None:
            return None
        links = (each if isinstance(each, dict) else dict(zip(LINK, each)) for each in self.workflow["links"])
        node, output = next((each["origin_id"], each["origin_slot"]) for each in links if each["id"] == link)
        if node == INPUT:
            wanted = self.workflow["inputs"][output]["name"]
            wires = (wire["link"] for wire in self.place["inputs"] if wire["name"] == wanted)
            return self.outside.source(next(wires, None))
        (start,) = (each for each in self.workflow["nodes"] if each["id"] == node)
        if start["type"] in self.known:
            within = self.inside(start)
            return within.source(within.workflow["outputs"][output]["linkIds"][0])
        return [f"{self.prefix}{node}", output]

    def graph(self, definition: Callable[[str], Definition]) -> Graph:
        found: Graph = {}
        for node in self.workflow["nodes"]:
            mode = node.get("mode", ALWAYS)
            if mode not in (ALWAYS, NEVER):
                raise ValueError("Only the frontend can resolve a bypassed node.")
            if node["type"] in NOTES or mode == NEVER:
                continue
            if node["type"] in self.known:
                found |= self.inside(node).graph(definition)
                continue
            inputs = dict(widgets(definition(node["type"]), iter(node.get("widgets_values") or ())))
            wires = {wire["name"]: self.source(wire.get("link")) for wire in node["inputs"]}
            inputs |= {name: wire for name, wire in wires.items() if wire is not None}
            found[f"{self.prefix}{node['id']}"] = {"class_type": node["type"], "inputs": inputs}
        return found


def api(workflow: dict[str, Any], definition: Callable[[str], Definition]) -> Graph:
    """definition: a node type's `input` as ComfyUI's /object_info tells it.

    Notes and muted nodes are left out; a node inside a subgraph is named as the frontend does, place:node. A widget
    of a subgraph's own node must have the value that it has inside. Errors: ValueError for a bypassed node.
    """
    return Part(workflow, subgraphs(workflow)).graph(definition)
