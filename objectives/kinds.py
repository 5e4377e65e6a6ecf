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
    stop: a run ends when every score of this kind that has a target has reached it.
    search: what Noise Search chooses by: the "scores" of single pictures, their "distances", or "nothing" of it.
    panel: the panel of the history plot that its line is drawn in.
    """

    compares: Literal["set", "start", "nothing"]
    rollback: bool
    stop: bool
    search: Literal["scores", "distances", "nothing"]
    panel: Literal["diversity", "quality"]


KINDS: dict[Kind, Role] = {
    "diversity": Role("set", rollback=False, stop=True, search="distances", panel="diversity"),
    "quality": Role("nothing", rollback=True, stop=False, search="scores", panel="quality"),
    "guard": Role("start", rollback=False, stop=False, search="nothing", panel="quality"),
}
