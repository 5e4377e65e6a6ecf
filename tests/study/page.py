"""One HTML page: each prompt's plain pictures beside each way's, to be judged blind.

Votes come out of it as a JSON file, see votes.py. The page needs no network and no server.
"""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

from .plan import Results
from .store import Line
from .ways import WHITE

TEMPLATE = Path(__file__).with_name("page.html")
SIDE, QUALITY = 256, 82  # most pixels of a side, and how well they are kept
SHOWN = ("ways", "published")
INSIDE = 2000  # sets of pictures that the page has inside it, at about 50 kB each; more stay in their files beside it


def small(content: bytes) -> str:
    """A picture as a data URL."""
    from PIL import Image

    image = Image.open(BytesIO(content)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    written = BytesIO()
    image.save(written, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def sets(results: Results, inside: int) -> list[dict]:
    """For each prompt and seed its pictures by way, where there are plain ones to compare with."""
    found: dict[tuple[str, int], dict[str, Line]] = {}
    for experiment in SHOWN:
        for way, lines in results.experiments.get(experiment, {}).items():
            for line in (line for line in lines if line.get("pictures")):
                found.setdefault((line["prompt"], line["seed"]), {}).setdefault(way, line)
    shown = {of: by_way for of, by_way in found.items() if WHITE in by_way and len(by_way) > 1}
    embedded = sum(map(len, shown.values())) <= inside

    def pictures(line: Line) -> list[str]:
        return [small(content) for content in results.store.read(line["key"])] if embedded else line["pictures"]

    return [
        {"prompt": prompt, "seed": seed, "ways": {way: pictures(line) for way, line in by_way.items()}}
        for (prompt, seed), by_way in shown.items()
    ]


def html(results: Results, inside: int = INSIDE) -> str:
    data = {"graph": results.plan["graph"], "plain": WHITE, "sets": sets(results, inside)}
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no prompt ends the script
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", text)


def write(folder: Path) -> Path:
    file = folder / "page.html"
    file.write_text(html(Results(folder)), encoding="utf-8")
    return file
