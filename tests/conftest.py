"""The pack as a package, one real ComfyUI for the whole run, and the count of the tests that ran in it.

TEST_ORDER, a number, shuffles the tests by it. TEST_FRONTEND, the folder `static` of an unpacked
comfyui-frontend-package, is served to the browser in place of the frontend that is installed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

import comfy_server
import comfyui
import pack
import pytest
import torch

HOST_TIERS = tuple(pack.ROOT / "tests" / tier for tier in ("host", "graphs", "browser"))

torch.set_num_threads(1)  # the tests' networks are tiny, and a run of all has a process for each core

pack.register()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[comfy_server.Server]:
    """One real ComfyUI for the whole run, with the pack and the test-only tiny nodes linked in."""
    packs = {"noise_optimize": pack.ROOT, "tiny_pack": pack.ROOT / "tests" / "graphs" / "tiny_pack"}
    frontend = os.environ.get("TEST_FRONTEND")
    arguments = ("--front-end-root", frontend) if frontend else ()
    with comfy_server.Server(tmp_path_factory.mktemp("comfyui"), packs, arguments) as running:
        yield running


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fail with the reason, before the first test, when a tier that needs the host is asked for and there is none."""
    here = session.config.invocation_params.dir
    asked = [(here / argument.split("::")[0]).resolve() for argument in session.config.args]
    if any(tier.is_relative_to(path) or path.is_relative_to(tier) for path in asked for tier in HOST_TIERS):
        try:
            comfyui.version()
        except FileNotFoundError as missing:
            pytest.exit(str(missing), returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if order := os.environ.get("TEST_ORDER"):
        random.Random(int(order)).shuffle(items)  # noqa: S311


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran inside the real host."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    ran = [
        report
        for report in reports
        if report.when == "call" and any((pack.ROOT / report.nodeid).is_relative_to(tier) for tier in HOST_TIERS)
    ]
    host = f"ComfyUI {comfyui.version()}" if ran else "ComfyUI"
    terminalreporter.write_line(f"{len(ran)} tests ran inside {host}")
