"""The host's real frontend in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import chromium
import pytest
from comfy_server import Server
from frontend import CLASSIC, Frontend
from playwright.sync_api import Browser, sync_playwright

# No sandbox, since CI runs as root; nothing that calls home.
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = chromium.find()
    if program is None:
        pytest.fail("The browser tests need Chromium: install it, or set CHROMIUM_PATH to its program file.")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield running
        running.close()


@pytest.fixture
def renderer() -> str:
    """What draws the nodes; a test that is to hold in both is parametrised by RENDERERS."""
    return CLASSIC


@pytest.fixture
def frontend(server: Server, browser: Browser, renderer: str) -> Iterator[Frontend]:
    """An empty canvas of a freshly opened frontend."""
    page = browser.new_page(viewport={"width": 1600, "height": 950})
    yield Frontend(page, server.url, renderer)
    page.close()
