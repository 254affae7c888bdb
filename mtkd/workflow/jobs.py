"""The jobs of a study, one per run of a notebook: what is executed, and what it asks for."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtkd import paths, stages
from mtkd.config.study import Study
from mtkd.stages import Run


@dataclass(frozen=True)
class Job:
    """A run of a notebook as the Snakefile takes it.

    `key` changes when a setting, the notebook or a parent changes, and the job runs again then.
    `resources` maps the attempt to what the job asks for.
    """

    inputs: list[str]
    output: str
    key: str
    priority: int
    command: str
    resources: Callable[[int], dict[str, int | None]]


def executed(study: Study, run: Run) -> Path:
    """Return the path of a run's executed notebook."""
    return paths.reports(study.name) / "notebooks" / f"{run.name}.ipynb"


def study_jobs(study: Study, name: str, overrides: list[str]) -> dict[str, dict[str, Job]]:
    """Return every job of a study, by stage and the run's label.

    `name` and `overrides` are those that the study was loaded by.
    """
    runs = stages.all_runs(study)
    parents = {run: stages.parents(study, run) for run in runs}
    keys, waiting = stages.keys(study), _descendants(parents)
    jobs: dict[str, dict[str, Job]] = {}
    for run in runs:
        jobs.setdefault(run.stage, {})[run.label] = Job(
            inputs=[str(executed(study, parent)) for parent in parents[run]],
            output=str(executed(study, run)),
            key=keys[run],
            priority=len(waiting[run]),
            command=mtkd_command(["notebook", name, run.name], overrides),
            resources=partial(resources, study, run),
        )
    return jobs


def mtkd_command(arguments: list[str], overrides: list[str]) -> str:
    """Return a call of mtkd as a shell command."""
    options = [part for override in overrides for part in ("--set", override)]
    return shlex.join(["mtkd", *arguments, *options])


def _descendants(parents: dict[Run, list[Run]]) -> dict[Run, set[Run]]:
    """Return the runs that wait for each run, directly or not: what most wait for goes first."""
    waiting: dict[Run, set[Run]] = {run: set() for run in parents}
    for run in reversed(parents):
        for parent in parents[run]:
            waiting[parent] |= {run, *waiting[run]}
    return waiting


def resources(study: Study, run: Run, attempt: int = 1) -> dict[str, int | None]:
    """Return what a job asks for in Snakemake's names, None for what it does not.

    MB of memory, minutes, GPUs, and a share of this machine's GPU. A second attempt asks for twice
    the memory and time: a job that was stopped for want of either goes on from its checkpoint.
    """
    asked, steps = study.resources, stages.steps(study, run)
    minutes = asked.minutes + math.ceil(steps / asked.steps_per_minute)
    return {
        "mem_mb": attempt * asked.memory_mb,
        "runtime": attempt * minutes,
        "gpu": (asked.gpus or None) if steps else None,
        "gpu_slots": 1 if steps else None,
    }


def listing(study: Study) -> str:
    """Return the runs of a study with their updates of weights, a line each, and the sum."""
    rows = [(run.name, stages.steps(study, run)) for run in stages.all_runs(study)]
    width, total = max(len(name) for name, _ in rows), sum(steps for _, steps in rows)
    lines = [f"{name:<{width}}  {steps:>10,} steps" for name, steps in rows]
    summary = f"{len(rows)} runs, {total:,} steps of {study.train.batch_size} examples"
    return "\n".join([*lines, f"{summary} (estimated where the data are not read yet)"])
