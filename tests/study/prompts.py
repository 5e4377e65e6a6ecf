"""Prompt files: one prompt a line (T2I-CompBench, PartiPrompts without their columns), or JSON lines (GenEval)."""

from __future__ import annotations

import json
from pathlib import Path


def read(file: Path) -> list[str]:
    """The prompts of a file in its order, each once; blank lines are left out.

    A line that begins with `{` is JSON with the prompt under "prompt", as in GenEval's evaluation_metadata.jsonl.
    Raises ValueError where there is none.
    """
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        line = line.strip()
        if line.startswith("{"):
            try:
                line = json.loads(line)["prompt"].strip()
            except (json.JSONDecodeError, KeyError, AttributeError):
                raise ValueError(f'{file} line {number} is no JSON with a "prompt": mend it.') from None
        if line:
            found.append(line)
    if not found:
        raise ValueError(f"{file} has no prompt: write one a line.")
    return list(dict.fromkeys(found))
