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
    is taken. finishes: whether the loop sees finished pictures; else its last look along gradients is the first part of
    a whole run, so that what is most likely the result is rendered already.
    """

    plain: int
    look: int
    through: int
    finishes: bool = True

    def of_a_look(self, gradient: bool) -> float:
        """In plain runs."""
        return (self.look + SLOPE * self.through * gradient) / self.plain

    def of_a_run(self, settings: Settings, compare: str = IN_DOUBT) -> tuple[float, float]:
        """What a run of these settings costs, in plain runs, and what it may cost at most.

        The pictures that the last look finishes are the result, unless an earlier iteration was better, which is then
        rendered again. Where the loop sees predictions, the start is rendered, too, where `doubtful`, or always. A run
        may also end earlier by itself.
        """
        ahead = OPTIMIZERS[settings.optimizer].update is not None
        if ahead:
            runs = settings.iterations * self.of_a_look(True) + 1
        else:
            runs = (1 + settings.iterations * settings.population) * self.of_a_look(False) + (not self.finishes)
        compared = bool(settings.iterations) and not self.finishes
        again = bool(settings.iterations) and (ahead or self.finishes)
        return runs + (compare == ALWAYS and compared), runs + compared + again


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
