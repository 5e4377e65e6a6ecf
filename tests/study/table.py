"""The tables of a study in Markdown: in the source's own format beside its numbers, then experiment by experiment."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median

from .cells import NOT_YET, grid, paired, told, values
from .experiments import COSTS, priced
from .plan import Results
from .scores import eye_of
from .source import PUBLISHED, SECONDS, WAYS
from .ways import PINK, WHITE

STARTS = {"white": WHITE, "pink": PINK}
OURS = {  # the row of the experiment "ways" in each column of the source
    "i.i.d.": "{}",
    "group selection": "group selection of 64, {}",
    "optimized": "optimized at the price of 64, {}",
}
BANDS = ("lowest third", "middle third", "highest third")
TITLES = {
    "ways": "Search and optimization at equal passes",
    "gradient": "One step of the loop",
    "spectra": "Spectra of the starting noise, nothing optimized",
    "objectives": "Objectives, by metrics that they did not optimize",
    "published": "The published recipe",
}
READ = (
    "Means over the sets, standard errors in brackets; under them the difference to white noise of the same prompt and "
    "seed. A metric with * looks through the network that the way was optimized or chosen by."
)


def beside_the_source(results: Results) -> str:
    """A table for each metric that the source has: what was measured here, then what the source measured."""
    ways, parts = results.experiments.get("ways", {}), []
    for metric, published in PUBLISHED.items():
        rows = []
        for start, name in STARTS.items():
            here = [told(values(ways.get(OURS[way].format(name), ()), metric)) for way in WAYS]
            rows.append([f"{start}, here", *here])
            for (model, begun), numbers in published.items():
                if begun == start:
                    rows.append(
                        [f"{start}, source: {model}", *(f"{numbers[w]:.3f}" if w in numbers else "-" for w in WAYS)]
                    )
        parts.append(grid([metric, *WAYS], rows))
    return "\n\n".join(parts)


def experiment(results: Results, name: str) -> str:
    """A row for each way: passes, seconds, each metric, and how it differs from white noise by pairs."""
    metrics, rows = results.metrics, []
    for way, lines in results.experiments[name].items():
        done = [line for line in lines if "failed" not in line]
        optimised = results.eyes(name, way)
        cells = []
        for metric in metrics:
            mark = "*" if eye_of(metric) in optimised and values(done, metric) else ""
            cell = told(values(done, metric)) + mark
            differences = paired(done, results.experiments[name].get(WHITE, ()), metric)
            cells.append(cell + (f"<br>{told(differences, '+')}" if way != WHITE and differences else ""))
        passes = f"{fmean(line['passes'] for line in done):.3g}" if done else NOT_YET
        seconds = f"{median(line['seconds'] for line in done):.1f}" if done else NOT_YET
        rows.append([way, f"{len(done)} of {results.planned(name, way)}", passes, seconds, *cells])
    return grid(["way", "sets", "plain runs", "seconds", *metrics], rows)


def cost(results: Results) -> str:
    """Seconds of an iteration: the median over all iterations after the first step, which warms up."""
    rows = results.experiments["cost"]

    def cell(steps: int, batch: int) -> str:
        lines = rows.get(priced(steps, batch), ())
        seconds = [step["seconds"] for line in lines for part in line.get("history", ()) for step in part[1:]]
        failed = any("failed" in line for line in lines)
        return f"{median(seconds):.3g}" if seconds else "failed" if failed else NOT_YET

    table = grid(
        ["seconds of an iteration", *(f"batch {batch}" for batch in COSTS["batch"])],
        [[f"{s} steps", *(cell(s, b) for b in COSTS["batch"])] for s in COSTS["steps"]],
    )
    said = "; ".join(f"{model}, {s} step, batch {b}: {x} s" for (model, s, b), x in SECONDS.items())
    return f"{table}\n\nSource, one A100 80 GB: {said}."


def change(results: Results) -> str:
    """Which thirds of the spectrum the change of the noise lies in, by iteration, over all that was optimised."""
    found: dict[str, dict[int, list[list[float]]]] = {}
    for name, rows in results.experiments.items():
        for way, lines in rows.items() if name != "cost" else ():
            for line in lines:
                for step in (step for part in line.get("history", ()) for step in part):
                    whole = sum(share or 0.0 for share in step["change"])  # less than 1 where pictures were put back
                    if step["iteration"] and whole:
                        shares = [share / whole for share in step["change"]]
                        found.setdefault(way, {}).setdefault(step["iteration"], []).append(shares)
    rows = [
        [way, str(k), *(f"{fmean(share[i] for share in shares):.1%}" for i in range(len(BANDS)))]
        for way, by_iteration in found.items()
        for k, shares in sorted(by_iteration.items())
        if k in (1, 2, 5, 10, 20, 50, max(by_iteration))
    ]
    if not rows:
        return f"Spectrum of the change by iteration: {NOT_YET}."
    said = "White noise of 64 x 64 latent values has 17.5 % of its power in the lowest third. Nothing moved: left out."
    return f"{grid(['way', 'iteration', *BANDS], rows)}\n\n{said}"


def troubles(results: Results) -> list[str]:
    """A sentence for each metric that could not be measured, and for each reason why ways failed."""
    lines = [line for rows in results.experiments.values() for way in rows.values() for line in way]
    failed: dict[str, dict[str, None]] = {}
    for line in lines:
        if "failed" in line:
            failed.setdefault(line["failed"], {})[line["way"]] = None
    unmeasured: dict[str, str] = {}
    for line in lines:
        unmeasured |= line.get("unmeasured", {})
    missing = [f"{metric}: {why}" for metric, why in unmeasured.items() if metric not in results.metrics]
    missing += [f"{'; '.join(ways)}: {why}" for why, ways in failed.items()]
    return [f"- {' '.join(said.split())}" for said in missing]


def tables(results: Results) -> str:
    plan = results.plan
    parts = [
        "# Study",
        f"{plan['graph']}; {plan['prompts']} prompts, {plan['sets']} sets of each, {plan['steps']} steps. {READ}",
        "## Beside the source",
        beside_the_source(results),
    ]
    for name, title in TITLES.items():
        if name in results.experiments:
            parts += [f"## {title}", experiment(results, name)]
    if "cost" in results.experiments:
        parts += ["## Cost", cost(results)]
    parts += ["## Which part of the spectrum changes", change(results)]
    if said := troubles(results):
        parts += ["## Not measured, and why", "\n".join(said)]
    return "\n\n".join(parts) + "\n"


def write(folder: Path) -> Path:
    file = folder / "table.md"
    file.write_text(tables(Results(folder)), encoding="utf-8")
    return file
