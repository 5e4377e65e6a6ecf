"""The kinds of objectives, and what each kind takes part in beside the loss, in which all do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["diversity", "quality", "guard"]


@dataclass(frozen=True)
class Role:
    """One row of KINDS.

    compares: what a picture is compared with. "set": the others of its set, so one picture alone is not scored.
        "start": its own starting picture, so it is scored only where that is at hand. "nothing": scored as it is.
    rollback: a picture that loses too much of this score is put back.
    stop: "ends": a run may end when these are at their targets. "awaited": but not before these are. "never": whatever
        these are. Only scores with a target and a weight count.
    search: what Noise Search chooses by: the "scores" of single pictures, their "distances", or "nothing" of it.
    panel: the panel of the history plot that its line is drawn in.
    """

    compares: Literal["set", "start", "nothing"]
    rollback: bool
    stop: Literal["ends", "awaited", "never"]
    search: Literal["scores", "distances", "nothing"]
    panel: Literal["diversity", "quality"]


KINDS: dict[Kind, Role] = {
    "diversity": Role("set", rollback=False, stop="ends", search="distances", panel="diversity"),
    "quality": Role("nothing", rollback=True, stop="awaited", search="scores", panel="quality"),
    "guard": Role("start", rollback=False, stop="never", search="nothing", panel="quality"),
}
