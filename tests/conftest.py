"""Makes the clone importable as the package `noise_optimize`, and counts the tests that ran in the real host.

The clone itself never goes on sys.path: its folder `nodes` would shadow the host's `nodes.py`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

import pytest
import torch

import comfyui

ROOT = Path(__file__).resolve().parents[1]
HOST_TIERS = tuple(str(ROOT / "tests" / tier) + os.sep for tier in ("host", "graphs", "browser"))

torch.set_num_threads(min(2, os.cpu_count() or 1))


def register_pack() -> None:
    """Import the clone, whatever its folder is called, as `noise_optimize`."""
    spec = importlib.util.spec_from_file_location(
        "noise_optimize", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["noise_optimize"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)


register_pack()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a host, the run fails with the reason before its first test."""
    if any(str(item.path).startswith(HOST_TIERS) for item in items):
        require_host()


def require_host() -> str:
    """The host's version; ends the run with one sentence where there is no host."""
    try:
        return comfyui.version()
    except FileNotFoundError as missing:
        pytest.exit(str(missing), returncode=1)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Say how many tests ran inside the real host."""
    reports = [report for key in ("passed", "failed") for report in terminalreporter.stats.get(key, [])]
    ran = {
        report.nodeid
        for report in reports
        if report.when == "call" and str(ROOT / report.nodeid).startswith(HOST_TIERS)
    }
    where = f"ComfyUI {comfyui.version()}" if ran else "ComfyUI"
    terminalreporter.write_line(f"{len(ran)} tests ran inside {where}")
