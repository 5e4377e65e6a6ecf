"""Makes the clone importable as the package `noise_optimize`, whatever its folder is called.

The clone itself never goes on sys.path: its folder `nodes` would shadow the host's `nodes.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def register() -> None:
    """Import the clone as `noise_optimize`."""
    spec = importlib.util.spec_from_file_location(
        "noise_optimize", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["noise_optimize"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
