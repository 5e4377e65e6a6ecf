"""The same jobs on Ray, on the GPUs of one machine or of many: each worker drives a ComfyUI of its own.

Ray does all of the scheduling. A task is the jobs of a few prompts; where its worker is lost, Ray gives it to another,
which asks the one store what is left of it. So a job is done again only if it was under way, and is counted once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .jobs import Job
from .store import Store
from .work import Connect, work

RETRIES = 20  # times that a task may lose its worker
SEAT = "comfyui"  # what Ray calls a place for a worker where GPUs do not count them


class Far:
    """A store in another process: its methods, answered there."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, method: str) -> Callable[..., Any]:
        import ray

        return lambda *given: ray.get(getattr(self.actor, method).remote(*given))


def share(jobs: Sequence[Job], connect: Connect, actor: Any) -> None:
    """What one task is."""
    work(jobs, connect, Far(actor))


def shares(jobs: Sequence[Job], prompts: int) -> list[list[Job]]:
    """The jobs of so many prompts together, as they need one start of ComfyUI."""
    each = [list(group) for _, group in groupby(jobs, key=lambda job: job.prompt)]
    return [sum(each[i : i + prompts], []) for i in range(0, len(each), prompts)]


def spread(
    jobs: Sequence[Job], connect: Connect, folder: Path, address: str | None = None, workers: int = 0, prompts: int = 8
) -> None:
    """Do what these jobs lack, on the Ray cluster at this address, or on one of this machine.

    A worker holds a GPU, or where there is none one of the resource SEAT, which a cluster states itself; no CPU, which
    Ray lends to another while a worker waits for an answer. workers: at once on this machine, 0 for one a GPU, or one.
    prompts: of a task. The store is kept by this machine. ImportError where Ray is missing, ValueError where there is
    no place for a worker; what a task fails with, once it was retried.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    own = {"address": "local", "resources": {SEAT: workers or 1}, "include_dashboard": False}
    ray.init(runtime_env={"py_modules": [str(Path(__file__).parent)]}, **({"address": address} if address else own))
    try:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0) > 0)
        if not gpus and SEAT not in there:
            raise ValueError(f"The cluster has no GPU: begin it by ray start --resources='{{\"{SEAT}\": 1}}'.")
        held = {"num_cpus": 0, "num_gpus": gpus, "resources": {} if gpus and (address or not workers) else {SEAT: 1}}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        keeper = ray.remote(Store).options(num_cpus=0, scheduling_strategy=here)
        store = keeper.remote(str(folder), [job.key for job in jobs])
        task = ray.remote(share).options(**held, max_retries=RETRIES, retry_exceptions=[OSError])
        ray.get([task.remote(part, connect, store) for part in shares(jobs, prompts)])
    finally:
        ray.shutdown()
