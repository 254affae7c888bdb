"""The jobs of a study, one per run of a notebook: what the workflow executes, and what it costs."""

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtkd import paths, stages
from mtkd.config.study import Study
from mtkd.stages import Run


@dataclass(frozen=True)
class Job:
    """A run of a notebook as the Snakefile takes it.

    `key` changes when a setting, the notebook or a parent changes, and the job runs again then.
    """

    run: Run
    inputs: list[str]
    output: str
    log: str
    key: str
    priority: int
    command: str
    resources: dict[str, Callable]

    @property
    def rule(self) -> str:
        """The name as an identifier."""
        return re.sub(r"\W", "_", f"run_{self.run.name}")


def executed(study: Study, run: Run) -> Path:
    """Return the path of a run's executed notebook."""
    return paths.reports(study.name) / "notebooks" / f"{run.name}.ipynb"


def all_jobs(study: Study, name: str, overrides: list[str]) -> list[Job]:
    """Return every job of a study; `name` and `overrides` are those that it was loaded by."""
    runs = stages.all_runs(study)
    parents = {run: stages.parents(study, run) for run in runs}
    keys, waiting = stages.keys(study), _descendants(parents)
    logs = paths.reports(study.name) / "logs"
    return [
        Job(
            run=run,
            inputs=[str(executed(study, parent)) for parent in parents[run]],
            output=str(executed(study, run)),
            log=str(logs / f"{run.name}.log"),
            key=keys[run],
            priority=len(waiting[run]),
            command=shell_command(["notebook", name, run.name], overrides) + " 2> {log:q}.err",
            resources=_resources(study, run),
        )
        for run in runs
    ]


def shell_command(arguments: list[str], overrides: list[str]) -> str:
    """Return a call of mtkd as a shell command that Snakemake formats."""
    options = [part for override in overrides for part in ("--set", override)]
    command = shlex.join(["mtkd", *arguments, *options])
    return command.replace("{", "{{").replace("}", "}}")


def _descendants(parents: dict[Run, list[Run]]) -> dict[Run, set[Run]]:
    """Return the runs that wait for each run, directly or not: what most wait for goes first."""
    found: dict[Run, set[Run]] = {run: set() for run in parents}
    for run in reversed(parents):
        for parent in parents[run]:
            found[parent] |= {run, *found[run]}
    return found


def _resources(study: Study, run: Run) -> dict[str, Callable]:
    """Return what a job asks for in Snakemake's names, as functions of the attempt.

    MB of memory, minutes, GPUs, and a share of this machine's GPU. A second attempt asks for twice
    the memory and time: a job that was stopped for want of either goes on from its checkpoint.
    """
    asked, steps = study.resources, stages.stages()[run.stage].steps(study, run)
    minutes = asked.minutes + math.ceil(steps / asked.steps_per_minute)
    wanted = {"mem_mb": asked.memory_mb, "runtime": minutes}
    resources = {name: _per_attempt(amount) for name, amount in wanted.items()}
    if steps and asked.gpus:
        resources["gpu"] = lambda wildcards: asked.gpus
    if steps:
        resources["gpu_slots"] = lambda wildcards: 1
    return resources


def _per_attempt(amount: int) -> Callable:
    return lambda wildcards, attempt: attempt * amount


def listing(study: Study) -> str:
    """Return the runs of a study with their updates of weights, a line each, and the sum."""
    rows = [
        (run.name, stages.stages()[run.stage].steps(study, run)) for run in stages.all_runs(study)
    ]
    width, total = max(len(name) for name, _ in rows), sum(steps for _, steps in rows)
    lines = [f"{name:<{width}}  {steps:>10,} steps" for name, steps in rows]
    summary = f"{len(rows)} runs, {total:,} steps of {study.train.batch_size} examples"
    return "\n".join([*lines, f"{summary} (estimated where the data are not read yet)"])
