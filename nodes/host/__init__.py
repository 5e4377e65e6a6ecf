"""The only place that touches ComfyUI's internals; README.md beside this file is its map."""

from .session import Session, run_in_session
from .wires import MEMORY, DifferentiableSampler

__all__ = ["MEMORY", "DifferentiableSampler", "Session", "run_in_session"]
