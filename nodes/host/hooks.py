"""Hooks of conditionings in a session, such as a LoRA for one prompt alone: the host swaps the weights between calls.

It writes into them unseen by autograd, so a kept graph would differentiate with the weights of another call, and a
recomputation would run with those of the last. So no graph is kept, and each recomputation brings its hooks back first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def hooks_of(guider: Any) -> list[Any]:
    groups = (cond.get("hooks") for conds in guider.conds.values() for cond in conds)
    return [hook for group in groups if group is not None for hook in group.hooks]


def rewind_hooks(guider: Any) -> None:
    """Scheduled hooks start anew, as the host has them do once for each sampling."""
    scheduled = [hook for hook in hooks_of(guider) if not hook.hook_keyframe.is_empty()]
    for hook in scheduled:
        hook.reset()
    if scheduled:
        guider.model_patcher.clear_cached_hook_weights()


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
