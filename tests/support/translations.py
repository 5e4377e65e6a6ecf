"""Chinese words of the nodes, made from their own English and locales/zh.json:
python tests/support/translations.py > locales/zh/nodeDefs.json

locales/zh.json has the Chinese of every English string, whatever node says it. So English stands in the sources alone,
and where it changes, its Chinese is looked for in vain and a test asks for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import comfyui
import pack

CHINESE = pack.ROOT / "locales" / "zh.json"
NODES = pack.ROOT / "locales" / "zh" / "nodeDefs.json"

Words = dict[str, Any]


def english() -> Words:
    """What every node says, laid out as the frontend looks for it in a locale's nodeDefs.json."""
    from noise_optimize import nodes

    return {node.GET_SCHEMA().node_id: _node(node.GET_NODE_INFO_V1()) for group in nodes.GROUPS for node in group.NODES}


def strings(words: Words) -> Iterator[str]:
    """Every string at any depth."""
    for value in words.values():
        yield from strings(value) if isinstance(value, dict) else (value,)


def translated(words: Words, chinese: dict[str, str]) -> Words:
    """The same in Chinese; KeyError where an English string has none."""
    return {
        key: translated(value, chinese) if isinstance(value, dict) else chinese[value] for key, value in words.items()
    }


def text(words: Words) -> str:
    return json.dumps(words, ensure_ascii=False, indent=2) + "\n"


def _node(info: dict[str, Any]) -> Words:
    outputs = zip(info["output"], info["output_name"], info["output_tooltips"])
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            key: words for part in ("required", "optional") for key, words in _inputs(info["input"].get(part, {}))
        },
        # an output that is called as its type has the host's word for it
        "outputs": {
            str(i): _present(name=name if name != kind else None, tooltip=tooltip)
            for i, (kind, name, tooltip) in enumerate(outputs)
        },
    }


def _inputs(part: dict[str, Any], before: str = "") -> Iterator[tuple[str, Words]]:
    """Inputs by the frontend's keys, and those that a choice of a dynamic one brings."""
    for name, (_, *options) in part.items():
        settings = options[0] if options else {}
        yield before + name, _present(name=settings.get("display_name") or name, tooltip=settings.get("tooltip"))
        for choice in settings.get("options", ()):
            for brought in choice["inputs"].values() if isinstance(choice, dict) else ():
                yield from _inputs(brought, f"{before}{name}_")


def _present(**words: str | None) -> Words:
    return {key: word for key, word in words.items() if word}


if __name__ == "__main__":
    sys.path.insert(0, str(comfyui.COMFYUI))
    from comfy.cli_args import args

    args.cpu = True
    pack.register()
    sys.stdout.write(text(translated(english(), json.loads(CHINESE.read_text(encoding="utf-8")))))
