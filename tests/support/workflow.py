"""A workflow as the frontend saves it, turned into the API format that ComfyUI runs, as the frontend would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Definition = dict[str, Any]
VALUES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}


def widgets(definition: Definition, values: Iterator[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of each widget that a node's definition lists, taking `values` in the order they are saved in."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in definition.get(group, {}).items():
            options = rest[0] if rest else {}
            if options.get("forceInput") or not (isinstance(kind, list) or kind in VALUES):
                continue
            value = next(values)
            yield prefix + name, value
            if options.get("control_after_generate"):
                next(values)
            if kind == "COMFY_DYNAMICCOMBO_V3":
                (chosen,) = (option for option in options["options"] if option["key"] == value)
                yield from widgets(chosen["inputs"], values, f"{prefix}{name}.")


def api(workflow: dict[str, Any], definition: Callable[[str], Definition]) -> dict[str, dict[str, Any]]:
    """definition: a node type's `input` as ComfyUI's /object_info tells it. Notes are left out.

    Errors: ValueError for a muted or bypassed node or a subgraph, which only the frontend can resolve.
    """
    if any(node.get("mode") for node in workflow["nodes"]) or (workflow.get("definitions") or {}).get("subgraphs"):
        raise ValueError("Unmute every node of the workflow and unpack its subgraphs.")
    sources = {link: [str(node), output] for link, node, output, *_ in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote"):
            continue
        inputs = dict(widgets(definition(node["type"]), iter(node.get("widgets_values") or ())))
        inputs |= {wire["name"]: sources[wire["link"]] for wire in node["inputs"] if wire.get("link") is not None}
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph
