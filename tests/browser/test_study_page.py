"""The page of a study: a person judges plain pictures beside a way's without being told which is which."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fake_comfy import picture
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from study import page as pages
from study import plan, votes
from study.jobs import Job
from study.store import Store
from study.ways import STARTS, WHITE, Way

WAY = "optimized at the price of 64, white"
COLOURS = {WHITE: "blue", WAY: "red"}
PROMPTS = [f"prompt {i} </script>" for i in range(24)]  # with so many pairs both sides get some


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with a blue set of four for each prompt, and a red one."""
    store, jobs = Store(tmp_path), []
    for seed, prompt in enumerate(PROMPTS):
        for way, colour in COLOURS.items():
            jobs.append(Job(f"{seed} {colour}", way, prompt, seed, {}))
            line = {"key": jobs[-1].key, "way": way, "prompt": prompt, "seed": seed, "scores": {}}
            store.add(line, [picture(colour)] * 4)
    ways = [Way(name, STARTS[WHITE]) for name in COLOURS]
    facts = {"graph": "graph.json", "model": "m", "prompts": 24, "sets": 1, "steps": 4}
    plan.write(tmp_path, jobs, {"ways": ways}, facts)
    return tmp_path


@pytest.fixture
def page(study: Path, browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda asked: errors.append(asked.url) if asked.url.startswith("http") else None)
    opened.goto(pages.write(study).as_uri())
    yield opened
    opened.close()
    assert not errors  # and nothing was asked of any network


def side_of(way: str, pair: Locator) -> str:
    """The side that shows the way's pictures, as a person who knows the colours sees it."""
    for side, figure in zip(("left", "right"), pair.locator("figure").all()):
        source = figure.locator("img").first.get_attribute("src")
        red, _, blue = Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB").getpixel((4, 4))
        if ("red" if red > blue else "blue") == COLOURS[way]:
            return side
    raise AssertionError(f"no side shows {way}")


def vote(pair: Locator, question: str, choice: str) -> None:
    pair.locator(f"[data-question={question}] button[data-choice={choice}]").click()


def downloaded(page: Page, to: Path) -> Path:
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(to)
    return to


def test_votes_are_blind_shuffled_downloaded_and_counted(page: Page, tmp_path: Path) -> None:
    pairs = page.locator("article").all()
    assert len(pairs) == len(PROMPTS)
    assert all(len(pair.locator("img").all()) == 8 for pair in pairs)
    assert not any(way in page.inner_html("main") for way in COLOURS)
    sides = [side_of(WAY, pair) for pair in pairs]
    assert set(sides) == {"left", "right"}
    order = [pair.locator("h2").text_content() for pair in pairs]  # of those out of sight, too
    assert sorted(order) == sorted(PROMPTS) and order != PROMPTS
    for pair, side in list(zip(pairs, sides))[:5]:
        vote(pair, "varied", side)
    vote(pairs[0], "better", "same")
    vote(pairs[1], "better", {"left": "right", "right": "left"}[sides[1]])
    assert "2 of 24 pairs judged" in page.inner_text("#said")

    file = downloaded(page, tmp_path / "votes.json")
    written = json.loads(file.read_text(encoding="utf-8"))["votes"]
    assert {entry["prompt"] for entry in written} == set(order[:5])
    rows = votes.tally(votes.read([file])).splitlines()[2:]
    assert rows == [
        f"| {WAY} | differ more | 5 | 0 | 0 | 0.062 |",
        f"| {WAY} | are better pictures of the prompt | 0 | 1 | 1 | 1.000 |",
    ]


def test_a_reload_goes_on_and_names_are_shown_only_when_voting_has_ended(page: Page, tmp_path: Path) -> None:
    first = page.locator("article").first
    side, prompt = side_of(WAY, first), first.locator("h2").inner_text()
    vote(first, "varied", "left")
    vote(first, "varied", "right")  # a change of mind
    page.reload()
    again = page.locator("article").first
    assert (side_of(WAY, again), again.locator("h2").inner_text()) == (side, prompt)
    assert again.locator("button[aria-pressed=true]").all_inner_texts() == ["B"]
    page.click("#reveal")
    assert page.locator("figcaption", has_text=WAY).count() == len(PROMPTS)
    assert page.locator("fieldset").count() == 0
    page.reload()
    assert page.locator("fieldset").count() == 0  # who has seen the names cannot go back and vote
    (kept,) = json.loads(downloaded(page, tmp_path / "votes.json").read_text(encoding="utf-8"))["votes"]
    assert kept["for"] == ("way" if side == "right" else "plain")
