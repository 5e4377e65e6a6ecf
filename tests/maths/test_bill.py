"""What a run costs is known before it starts, and when a result has to be compared with its start."""

import math
import re

import pack
import pytest

from noise_optimize.noise.bill import AUTOMATIC, FINISHED, FIRST, LAST, Bill, Prices, doubtful, in_words, look_of
from noise_optimize.noise.optimizers import OPTIMIZERS
from noise_optimize.noise.settings import Settings

FIRST_OF_4, FIRST_OF_8, WHOLE = Prices(4, 1, 1, False), Prices(8, 1, 1, False), Prices(4, 4, 4)


@pytest.mark.parametrize(
    "prices, settings, runs, most",
    [
        (FIRST_OF_4, {"iterations": 2}, 2.5, 3.75),
        (FIRST_OF_4, {"iterations": 5}, 4.75, 6),
        (FIRST_OF_8, {"iterations": 2}, 1.75, 2.875),
        (FIRST_OF_8, {"iterations": 5}, 2.875, 4),
        (WHOLE, {"iterations": 30}, 91, 92),
        (Prices(4, 4, 1), {"iterations": 2}, 4, 5),
        (WHOLE, {"iterations": 3, "optimizer": "cma", "population": 8}, 25, 26),
        (FIRST_OF_4, {"iterations": 3, "optimizer": "cma", "population": 8}, 7.25, 8.25),
        (WHOLE, {"iterations": 0}, 1, 1),
    ],
)
def test_the_cost_in_plain_runs(prices, settings, runs, most):
    assert prices.of_a_run(Settings(**settings)) == (pytest.approx(runs), pytest.approx(most))


def test_the_prices_of_the_readme_are_those_of_the_bill():
    page = (pack.ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|\n]+\| (\d) \| 1 \| ([\d.]+) \| ([\d.]+) \|[^|\n]+\|$", page, re.MULTILINE)
    assert {int(steps) for steps, *_ in rows} == {1, 4, 8}
    for steps, *runs in rows:
        prices = Prices(int(steps), 1, 1, False)
        due = [f"{prices.of_a_run(Settings(iterations=n))[0]:.3g}" for n in (2, 5)]
        assert runs == due


@pytest.mark.parametrize(
    "runs, pictures, said",
    [
        ("1", 4, "1 plain sampling run of 4 pictures"),
        ("1.0", 1, "1.0 plain sampling runs of 1 picture"),
        ("2.5", 4, "2.5 plain sampling runs of 4 pictures"),
        ("0.5", 4, "0.5 plain sampling runs of 4 pictures"),
    ],
)
def test_a_price_is_said_as_one_says_it(runs, pictures, said):
    assert in_words(runs, pictures) == said


def test_a_bill_adds_the_runs_of_every_picture():
    bill = Bill()
    bill.add(4, FIRST_OF_4.of_a_look(gradient=True))
    bill.add(2, 1.0)
    assert bill.spent == pytest.approx(4 * 0.75 + 2)


def test_automatic_is_the_first_prediction_for_large_steps_alone():
    for name, row in OPTIMIZERS.items():
        settings = Settings(1, optimizer=name)
        assert look_of(settings, AUTOMATIC) == (FIRST if row.settles else FINISHED)
        assert [look_of(settings, look) for look in (FIRST, LAST, FINISHED)] == [FIRST, LAST, FINISHED]
        assert look_of(Settings(0, optimizer=name), FIRST) == FINISHED


@pytest.mark.parametrize("finished, doubt", [(-3.0, False), (-2.0, False), (-1.9, True), (0.0, True), (math.inf, True)])
def test_a_result_is_in_doubt_that_keeps_less_than_half_of_what_was_promised(finished, doubt):
    assert doubtful(-1.0, -3.0, finished) == doubt
    assert doubtful(-1.0, -3.0, math.nan)
