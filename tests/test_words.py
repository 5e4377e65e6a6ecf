"""What a user reads is American English: help pages, notes of the examples, and every sentence in the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pack import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "web" / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json")) + sorted((ROOT / "subgraphs").glob("*.json"))
SOURCES = [file for half in ("noise", "objectives", "nodes") for file in sorted((ROOT / half).rglob("*.py"))]
CODE = re.compile(r"^```.*?^```$|`[^`]*`", re.DOTALL | re.MULTILINE)
VERBS = "optimi|normali|quanti|recogni|initiali|summari|generali|speciali|minimi|maximi|randomi|visuali|organi|reali"
BRITISH = re.compile(
    rf"\b\w*(?:colour|centre|licence|neighbour|behaviour|favour|artefact|catalogue|chequer|(?:{VERBS})s(?:e|ing|ation))"
    r"\w*|\b(?:grey|dearer|whilst|learnt)\b",
    re.IGNORECASE,
)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def british(text: str) -> set[str]:
    return set(BRITISH.findall(text))


def sentences(file: Path) -> Iterator[str]:
    """The strings of a module that are more than a word; not docstrings, nor what people may type to find a node."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    unseen = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    unseen += [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "search_aliases"]
    unseen = {part for node in unseen if not isinstance(node, ast.Call) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value and node not in unseen:
            yield node.value


def test_the_words_that_are_looked_for_are_found():
    assert british("a grey neighbour, optimised; coloured at the centre") == {
        "grey", "neighbour", "optimised", "coloured", "centre"
    }  # fmt: skip
    assert not british("a promise, a precise likewise, raised otherwise; practise pairwise; optimized colors")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_american(page):
    assert not british(CODE.sub("", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_is_american(example):
    assert not british(example.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_the_sentences_of_a_module_are_american(file):
    assert not british("\n".join(sentences(file)))


def test_pink_noise_promises_the_same_wherever_it_is_described():
    promise = "Published: seeds differ more on large few-step models; on the demo model hardly"
    places = [ROOT / "README.md", ROOT / "nodes" / "noise.py", ROOT / "web" / "docs" / "NoiseOptimizePinkNoise.md"]
    said = [" ".join(place.read_text(encoding="utf-8").replace('"', " ").split()) for place in places]
    assert all(promise in text for text in said)
