"""Every node's help page is there in Chinese, too, follows the English one, and fits the narrow panel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from pack import ROOT

DOCS = ROOT / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
WIRE = re.compile(r"^ *- \*\*([a-z_0-9, .]+)\*\*", re.MULTILINE)


def chinese(page: Path) -> Path:
    """Where the frontend looks first, in Chinese."""
    return DOCS / page.stem / "zh.md"


def stamp(page: Path) -> str:
    """The last line of a translation: which English text it says."""
    return f"<!-- English: {hashlib.sha256(page.read_text(encoding='utf-8').encode()).hexdigest()[:12]} -->"


def test_there_is_a_translation_of_each_page_and_of_nothing_else():
    assert PAGES and {page.parent.name for page in DOCS.glob("*/*.md")} == {page.stem for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_translation_is_of_the_english_page_as_it_is(page):
    """To mend this, translate what has changed in English and let the last line be the stamp asked for here."""
    assert chinese(page).read_text(encoding="utf-8").rstrip().rpartition("\n")[2] == stamp(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_translation_names_every_input_and_output_that_the_page_names(page):
    named = {name for names in WIRE.findall(page.read_text(encoding="utf-8")) for name in names.split(", ")}
    text = chinese(page).read_text(encoding="utf-8")
    assert not named - set(re.findall(r"[a-z_0-9.]+", text))


@pytest.mark.parametrize("page", [*PAGES, *map(chinese, PAGES)], ids=lambda page: page.relative_to(DOCS).as_posix())
def test_no_table_is_cut_off_by_the_panel(page):
    assert not re.search(r"^\|", page.read_text(encoding="utf-8"), re.MULTILINE)
