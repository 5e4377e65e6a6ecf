"""Puts what evaluate.py measured into the README and the model card: python tests/demo/report.py.

Tables stand between the markers `<!-- demo NAME -->` and `<!-- end -->`, so that no number is typed by hand; a test
holds both pages to assets/demo/results.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets" / "demo"
PAGES = (ROOT / "README.md", ASSETS / "README.md")
BLOCK = re.compile(r"(<!-- demo (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADINGS = {
    "passes": "plain runs",
    "vendi": "Vendi of 4",
    "pairwise": "pairwise",
    "distinct": "distinct",
    "adherence": "prompt seen",
    "distance": "distance",
    "rare": "rare look",
}
DEFAULT = "large steps, first prediction"  # the group of evaluate.py
PLAIN = re.compile(r"\d+ iterations")  # its rows that are rendered as usual
SEARCHES = ("best 4 of 16", "best 4 of 64", "best 4 of 256")
SHORT = ("passes", "vendi", "adherence", "rare")
TRIED = ("passes", "vendi", "adherence", "distance", "rare")
DIGITS = {"distance": 3}

Row = dict[str, Any]


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Each table by its name, as Markdown."""
    before, spectra = results["before"], results["noise spectra, student"]
    searched, scored = results["search, student"], results["search + score, student"]
    optimised = {name: rows for name, rows in results.items() if name.startswith("optimised")}
    main = optimised["optimised, vendi + latents + score"]
    default = results[DEFAULT]
    last = list(main)[-1]
    chosen = {
        "its teacher, unguided": before["teacher, no guidance"],
        "few-step model, white noise": before["student, white noise"],
        "the same, pink noise, alpha 0.2": spectra["alpha 0.20"],
        **{f"Noise Search with a score, {name}": scored[name] for name in SEARCHES},
        **{f"Noise Optimize, {name}": default[name] for name in ("2 iterations", "3 iterations", "5 iterations")},
        "Noise Optimize, until it ends by itself": default["30 iterations"],
        "Noise Optimize, quick start": default["5 iterations, vendi + score + guard"],
        f"the published step, {last}": main[last],
    }
    groups = {
        "": before,
        "white noise filtered: ": spectra,
        "search by variety: ": searched,
        "search with score: ": scored,
        "large steps at first predictions: ": default,
        **{f"{name}: ": rows for name, rows in optimised.items()},
    }
    everything = {f"{group}{name}": row for group, rows in groups.items() for name, row in rows.items()}
    return {
        "ways": table(
            {
                "plain": before["student, white noise"],
                "Noise Search, best 4 of 64": scored["best 4 of 64"],
                "Noise Optimize, 5 iterations": default["5 iterations"],
            },
            ("passes", "vendi", "adherence"),
        ),
        "summary": table(chosen, SHORT),
        "all": table(everything, HEADINGS),
        "price": table(
            {f"{group}: {name}": row for group, rows in results["price"].items() for name, row in rows.items()}, TRIED
        ),
        "objectives": table(results["objectives, each with score, 10 iterations"], HEADINGS),
        "machine": "{prompts} prompts, {sets of four each} sets of four pictures each; ".format(**results["sets"])
        + f"{results['machine']}, {results['seconds'] / 60:.0f} minutes on one thread.\n",
    }


def table(rows: dict[str, Row], columns: Iterable[str]) -> str:
    columns = list(columns)
    lines = [["", *(HEADINGS[column] for column in columns)], ["---"] * (len(columns) + 1)]
    lines += [[name, *(cell(row, column) for column in columns)] for name, row in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(row: Row, column: str) -> str:
    """A mean with its standard error over the sets in brackets; a cost has none."""
    if column == "passes":
        return f"{row[column]:.3g}"
    digits = DIGITS.get(column, 2)
    return f"{row[column]:.{digits}f} ({row['se'][column]:.{digits}f})"


def filled(page: str, results: dict[str, Any]) -> str:
    """The page with every table as results say."""
    made = tables(results)
    return BLOCK.sub(lambda found: f"{found[1]}{made[found['name']]}{found[3]}", page)


def plot(results: dict[str, Any], file: Path) -> None:
    """Variety against adherence and against cost for every way of making a set, and the curve over alpha."""
    from matplotlib.figure import Figure

    figure = Figure((15, 4.4), layout="constrained")
    frontier, costs, alphas = figure.subplots(1, 3)
    groups = [
        ("before", "teacher", "s-", "teacher, guidance 1 to 4"),
        ("noise spectra, student", "alpha", ".-", "alpha 0.05 to 0.5"),
        ("search, student", "best", "v-", "search by variety"),
        ("search + score, student", "best", "^-", "search with score"),
        (DEFAULT, "", "D-", "large steps at first predictions (default)"),
    ]
    groups += [(name, "", "o-", name) for name in results if name.startswith("optimised")]
    for group, prefix, mark, label in groups:
        rows = [row for name, row in results[group].items() if name.startswith(prefix)]
        rows = [row for name, row in results[group].items() if PLAIN.fullmatch(name)] if group == DEFAULT else rows
        variety = [row["vendi"] for row in rows]
        frontier.plot(variety, [row["adherence"] for row in rows], mark, label=label)
        costs.plot([row["passes"] for row in rows], variety, mark, label=label)
    for name, mark in (("student, white noise", "k*"), ("real drawings", "kD")):
        row = results["before"][name]
        frontier.plot(row["vendi"], row["adherence"], mark, ms=10, label=name)
    frontier.set(xlabel="Vendi score of 4, by the judge", ylabel="shows the prompt, by the judge")
    frontier.legend(fontsize=7, loc="lower left")
    costs.plot(1, results["before"]["student, white noise"]["vendi"], "k*", ms=10)
    costs.set(xlabel="plain sampling runs", ylabel="Vendi score of 4, by the judge", xscale="log")
    curve = {0.0: results["before"]["student, white noise"]}
    curve |= {float(n.split()[1]): r for n, r in results["noise spectra, student"].items() if n.startswith("alpha")}
    for key, label in (("vendi", "Vendi score of 4"), ("adherence", "adherence"), ("distance", "distance to real")):
        alphas.errorbar(
            list(curve), [row[key] for row in curve.values()], [row["se"][key] for row in curve.values()], label=label
        )
    alphas.set(xlabel="alpha of the starting noise (0: white)")
    alphas.legend(fontsize=8, loc=(0.6, 0.6))
    figure.savefig(file, dpi=110)


def main() -> None:
    results = json.loads((ASSETS / "results.json").read_text(encoding="utf-8"))
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    plot(results, ASSETS / "frontier.png")


if __name__ == "__main__":
    main()
