"""Where a Chromium for the browser tests is; stdlib only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)


def find() -> str | None:
    """CHROMIUM_PATH, else the first Chromium on PATH or in its usual place, else None."""
    if stated := os.environ.get("CHROMIUM_PATH"):
        return stated if Path(stated).is_file() else None
    return next(filter(None, map(shutil.which, NAMES + PLACES)), None)
