"""Hooks of conditionings in a session, such as a LoRA for one prompt alone: the host swaps the weights between calls.

It writes into them unseen by autograd, so a kept graph would differentiate with the weights of another call, and a
recomputation would run with those of the last. So no graph is kept, and each recomputation brings its hooks back first.
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
    """What brings the hooks that are in force now, at the strength they have now, back in force."""
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
