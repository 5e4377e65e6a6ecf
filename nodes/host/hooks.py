"""Hooks of conditionings in a session, such as a LoRA for one prompt alone: the host swaps the weights between calls.

Autograd does not notice these writes. A graph that was kept would be differentiated with the weights of a later call,
and a recomputed call would run with the weights of the last one. So with hooks no graph is kept (memory is low), and
each recomputation first applies the hooks that its call had, at the strength they had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def hooks_of(conds: dict[str, list[dict[str, Any]]]) -> list[Any]:
    """The hooks of conditionings and of their ControlNets."""
    every = [cond for options in conds.values() for cond in options]
    groups = [cond.get("hooks") for cond in every]
    groups += [group for cond in every if "control" in cond for group in cond["control"].get_extra_hooks()]
    return [hook for group in groups if group is not None for hook in group.hooks]


def hooks_in_force(patcher: Any) -> Callable[[], None]:
    """A function that applies again the hooks that are applied now, at the strength that their schedules give now."""
    hooks = patcher.current_hooks
    frames = [(hook.hook_keyframe, hook.hook_keyframe._current_keyframe) for hook in hooks.hooks] if hooks else []

    def again() -> None:
        moved = [(schedule, frame) for schedule, frame in frames if schedule._current_keyframe is not frame]
        for schedule, frame in moved:
            schedule._current_keyframe = frame
        if moved:
            patcher.clear_cached_hook_weights()
        patcher.apply_hooks(hooks)

    return again
