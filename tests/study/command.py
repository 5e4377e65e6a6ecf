"""The command: what it is told, and in which order things are done. docs/study.md says it for people."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

if "noise_optimize" not in sys.modules:
    import pack

    pack.register()

from noise_optimize.noise.recipes import RECIPES

from . import cluster, comfy, demo, graphs, own_comfy, page, plan, prompts, table, votes
from .experiments import EXPERIMENTS, LOOKS, Study, plain
from .graphs import Layout
from .jobs import Job, distinct, jobs_of, key_of
from .scores import METRICS
from .store import Store
from .ways import WHITE
from .work import Connect, work

DEMO = "demo"


def run(options: argparse.Namespace) -> int:
    """Everything that a folder lacks, then its table and page; 1 where a job failed."""
    layout = Layout.of(demo.graph() if options.graph == DEMO else graphs.read(Path(options.graph)), options.size)
    study = Study.of(layout, options.look, options.recipe, options.noise_set)
    experiments = {name: EXPERIMENTS[name](study) for name in options.experiments}
    ways = list({way.name: way for rows in experiments.values() for way in rows}.values())
    chosen = (prompts.read(options.prompts) if options.prompts else demo.prompts())[: options.most or None]
    metrics = (["color"] if layout.demo else list(METRICS)) if options.metrics is None else options.metrics
    jobs = jobs_of(layout, ways, chosen, range(options.sets), metrics)
    facts = {"graph": Path(options.graph).name, "prompts": len(chosen), "sets": options.sets, "steps": layout.steps}
    plan.write(options.out, jobs, experiments, facts | {"model": key_of(plain()[WHITE].graph(layout, "", 0))})
    jobs = distinct(jobs)
    do(jobs, options)
    store = Store(options.out)
    if layout.demo:
        demo.judge(store, jobs)
    store.compact()
    show(options)
    failed = [job for job in jobs if not store.made(job)]
    if failed:
        print(f"study: {len(failed)} of {len(jobs)} jobs failed; the table says why.", file=sys.stderr)
    return 1 if failed else 0


def do(jobs: list[Job], options: argparse.Namespace) -> None:
    if options.ray is None:
        work(jobs, connection(options), Store(options.out, [job.key for job in jobs]))
    else:
        where = options.ray or None
        cluster.spread(jobs, connection(options), options.out.resolve(), where, options.workers, options.share)


def connection(options: argparse.Namespace) -> Connect:
    if options.comfyui is None:
        return partial(comfy.at, options.server)
    return partial(own_comfy.started, str(options.comfyui.resolve()), options.python, tuple(options.arguments))


def show(options: argparse.Namespace) -> int:
    """Table and page of what a folder has."""
    print(table.write(options.out).read_text(encoding="utf-8"))
    print(page.write(options.out).resolve())
    return 0


def count(options: argparse.Namespace) -> int:
    print(votes.tally(votes.read(options.files)))
    return 0


def words(choices: dict, text: str) -> list[str]:
    """Names from a table, with commas between."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := set(found) - choices.keys():
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(choices)}")
    return found


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    given = sys.argv[1:] if given is None else given
    own, rest = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = argparse.ArgumentParser(prog="python tests/study", description=__doc__)
    tasks = parser.add_subparsers(required=True)
    task = tasks.add_parser("run", help="what a folder lacks, then its table and page; what follows -- goes to ComfyUI")
    task.set_defaults(task=run, arguments=rest)
    task.add_argument("graph", help="a text-to-image graph that works: File, Export (API); or demo, the pack's model")
    task.add_argument("--prompts", type=Path, help="one a line, or GenEval's JSON lines; the demo has its own")
    task.add_argument("--most", type=int, default=0, help="prompts, from the first; 0: all")
    task.add_argument("--sets", type=int, default=1, help="of four pictures for each prompt")
    task.add_argument("--out", type=Path, default=Path("study"))
    known = ", ".join(EXPERIMENTS)
    task.add_argument("--experiments", type=partial(words, EXPERIMENTS), default=["ways"], help=f"of {known}")
    known = ", ".join(METRICS)
    task.add_argument("--metrics", type=partial(words, METRICS), help=f"of {known}; by default all, of the demo color")
    task.add_argument(
        "--look", choices=LOOKS, default="", help="what ways optimize; by default DINO, with the demo its own"
    )
    task.add_argument("--recipe", choices=RECIPES, default="SDXL-Turbo", help="of the experiment published")
    task.add_argument("--noise-set", default="", help="a set of the node Noise Set, as rows of the experiment ways")
    task.add_argument("--size", type=int, help="of the pictures, in place of the graph's")
    task.add_argument("--server", default="http://127.0.0.1:8188", help="a ComfyUI that runs, with this pack")
    task.add_argument("--comfyui", type=Path, help="its folder, to start one in place of --server")
    task.add_argument("--python", default=sys.executable, help="the interpreter that runs it")
    task.add_argument(
        "--ray", nargs="?", const="", help="one ComfyUI a GPU: of this machine, or of the cluster here (auto)"
    )
    task.add_argument("--workers", type=int, default=0, help="on this machine; 0: one a GPU")
    task.add_argument("--share", type=int, default=8, help="prompts that a worker takes at once")
    task = tasks.add_parser("show", help="table and page once more")
    task.set_defaults(task=show)
    task.add_argument("out", type=Path)
    task = tasks.add_parser("votes", help="counts the files that the page downloaded, one a person")
    task.set_defaults(task=count)
    task.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args(own)
    if options.task is run:
        if options.prompts is None and options.graph != DEMO:
            parser.error("give a file of prompts by --prompts")
        if options.ray is not None and options.comfyui is None:
            parser.error("--ray starts a ComfyUI for each worker: give the folder with --comfyui")
        if options.ray is not None and find_spec("ray") is None:
            parser.error("--ray needs Ray: pip install ray")
    return options


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    try:
        return options.task(options)
    except KeyboardInterrupt:
        print("study: stopped; the same command goes on from here.", file=sys.stderr)
    except (ValueError, FileNotFoundError, comfy.Refused) as error:
        print(f"study: {error}", file=sys.stderr)
    except OSError as error:
        print(f"study: no connection ({error}): start what is missing; what was made is kept.", file=sys.stderr)
    return 1
