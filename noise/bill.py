"""What a run costs, in plain sampling runs: a call of the model counts 1, its gradient 2 more."""

from __future__ import annotations

from dataclasses import dataclass

from .optimizers import OPTIMIZERS
from .settings import Settings

AUTOMATIC, FIRST, LAST, FINISHED = "automatic", "first prediction", "last steps", "finished picture"
IN_DOUBT, ALWAYS = "in doubt", "always"  # when a result is compared with its start, both finished
LOOKS = (AUTOMATIC, FIRST, LAST, FINISHED)
SLOPE = 2  # calls that the gradient of a call counts as


def look_of(settings: Settings, look_at: str) -> str:
    """What the loop looks at: FIRST, LAST or FINISHED. Automatic is the first prediction for large steps, and for the
    other optimisers the finished picture, as published. Without an iteration there is nothing but that."""
    if not settings.iterations:
        return FINISHED
    if look_at != AUTOMATIC:
        return look_at
    return FIRST if OPTIMIZERS[settings.optimizer].settles else FINISHED


@dataclass(frozen=True)
class Prices:
    """Calls of the model for each picture.

    plain: of a plain sampling run. look: of one look of the loop. through: how many of these have a gradient, where one
    is taken. finishes: whether the loop sees finished pictures. recalls: whether the rendering takes the predictions of
    the last look, which most likely was at the result.
    """

    plain: int
    look: int
    through: int
    finishes: bool = True
    recalls: bool = True

    def of_a_look(self, gradient: bool) -> float:
        """In plain runs."""
        return (self.look + SLOPE * self.through * gradient) / self.plain

    def of_a_run(self, settings: Settings, compare: str = IN_DOUBT) -> tuple[float, float]:
        """What a run of these settings costs, in plain runs, and what it may cost at most.

        Where the loop sees finished pictures, the last that it sees are the result, unless an earlier iteration was
        better, which is then rendered again. Else the noise found is rendered, without the calls of the last look if
        that was at it, and the start too where `doubtful`, or always. A run may also end earlier by itself.
        """
        gradient, compared = OPTIMIZERS[settings.optimizer].update is not None, not self.finishes and compare == ALWAYS
        last, saved = self.of_a_look(False), 0.0
        if gradient:
            runs = settings.iterations * self.of_a_look(True) + last
            saved = last * (self.recalls and not self.finishes)
        else:
            runs = (1 + settings.iterations * settings.population) * last
        runs += not self.finishes
        most = runs + (settings.iterations > 0)
        return (most if compared else runs) - saved, most


@dataclass
class Bill:
    """What was spent so far: plain runs of one picture."""

    spent: float = 0.0

    def add(self, pictures: int, runs: float) -> None:
        self.spent += pictures * runs


def counted(number: str, noun: str) -> str:
    """So many of what a noun names, e.g. "1 picture" or "2.5 plain runs".

    >>> counted("1", "picture"), counted("2.5", "plain run")
    ('1 picture', '2.5 plain runs')
    """
    return f"{number} {noun}{'' if number == '1' else 's'}"


def in_words(runs: str, pictures: int) -> str:
    """A price, for a sentence: so many plain runs of a batch of so many pictures."""
    return f"{counted(runs, 'plain sampling run')} of {counted(str(pictures), 'picture')}"


def doubtful(start: float, found: float, finished: float) -> bool:
    """Whether a noise that was found by predictions may be worse than its start once both are rendered.

    start, found: the losses of their predictions. finished: that of the pictures that the noise found makes. If these
    keep at least half of what the predictions promised, the start is seldom better, so that rendering it (one plain run
    more) is left out: of 64 sets of the demo model it was better then in 8 after one large step, in 1 after two, in
    none after five. Who wants to be sure compares always.
    """
    return not finished <= (start + found) / 2
