"""One HTML page, with all pictures in it: each prompt's plain ones beside each way's, to be judged blind.

Votes come out of it as a JSON file, see votes.py. The page needs no network and no server.
"""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

from .plan import Results
from .ways import WHITE

TEMPLATE = Path(__file__).with_name("page.html")
SIDE, QUALITY = 256, 82  # most pixels of a side, and how well they are kept
SHOWN = ("ways", "published")


def small(content: bytes) -> str:
    """A picture as a data URL."""
    from PIL import Image

    image = Image.open(BytesIO(content)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    written = BytesIO()
    image.save(written, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def sets(results: Results, experiments: tuple[str, ...]) -> list[dict]:
    """For each prompt and seed its pictures by way, where there are plain ones to compare with."""
    found: dict[tuple[str, int], dict[str, list[str]]] = {}
    for experiment in experiments:
        for way, lines in results.experiments.get(experiment, {}).items():
            for line in lines:
                by_way = found.setdefault((line["prompt"], line["seed"]), {})
                if line.get("pictures") and way not in by_way:
                    by_way[way] = [small(content) for content in results.store.read(line["key"])]
    return [
        {"prompt": prompt, "seed": seed, "ways": by_way}
        for (prompt, seed), by_way in found.items()
        if WHITE in by_way and len(by_way) > 1
    ]


def html(results: Results, experiments: tuple[str, ...] = SHOWN) -> str:
    data = {"graph": results.plan["graph"], "plain": WHITE, "sets": sets(results, experiments)}
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no prompt ends the script
    return TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", text)


def write(folder: Path, experiments: tuple[str, ...] = SHOWN) -> Path:
    file = folder / "page.html"
    file.write_text(html(Results(folder), experiments), encoding="utf-8")
    return file
