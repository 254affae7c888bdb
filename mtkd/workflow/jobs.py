"""The jobs of a study, one per run of a notebook: what is executed, and what it asks for."""

import math
import shlex
from pathlib import Path

from mtkd import paths, stages
from mtkd.config.study import Study
from mtkd.stages import Run


def executed(study: Study, run: Run) -> Path:
    """Return the path of a run's executed notebook."""
    return paths.reports(study.name) / "notebooks" / f"{run.name}.ipynb"


def mtkd_command(arguments: list[str], overrides: list[str]) -> str:
    """Return a call of mtkd as a shell command."""
    options = [part for override in overrides for part in ("--set", override)]
    return shlex.join(["mtkd", *arguments, *options])


def priorities(study: Study) -> dict[str, int]:
    """Return for each stage how many runs wait for one of its own, directly or not.

    What most wait for goes first.
    """
    waiting: dict[Run, set[Run]] = {run: set() for run in stages.all_runs(study)}
    for run in reversed(waiting):
        for parent in stages.parents(study, run):
            waiting[parent] |= {run, *waiting[run]}
    counts = sorted((len(runs), run.stage) for run, runs in waiting.items())
    return {stage: count for count, stage in counts}


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
