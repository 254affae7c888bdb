"""The jobs of a study, one per run of a notebook: what is executed, and what it asks for."""

import json
import math
import os
import shlex
from pathlib import Path

from mtkd import paths, stages
from mtkd.artifacts import write_json
from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.stages import Run


def executed(study: Study, run: Run) -> Path:
    """Return the path of a run's executed notebook."""
    return paths.reports(study.name) / "notebooks" / f"{run.name}.ipynb"


def workflow_folder(study: Study) -> Path:
    """Return the folder of what Snakemake reads and writes about a study's runs."""
    return paths.work_folder(study.name) / "workflow"


def write_plan(study: Study, name: str, overrides: list[str], folder: Path) -> Path:
    """Write what the Snakefile and the jobs read, as JSON, and return the file's path.

    Beside it, each run has a file with its key, which is written only if the key changed: Snakemake
    executes a run again whose key is newer than its notebook.

    Args:
        study: What `load` made of the name and the overrides.
        name: The study's name or path, as the jobs load it.
        overrides: The fields that have another value.
        folder: The folder in which Snakemake runs; the jobs run in the current one.

    Raises:
        UserError: Snakemake would take a path for a pattern.
    """
    reports, file = paths.reports(study.name), workflow_folder(study) / "plan.json"
    elsewhere = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(os.getcwd())} && "

    def command(name: str, *arguments: str) -> str:
        plan = os.path.join(os.curdir, os.path.relpath(file))  # no option, whatever it is called
        return elsewhere + shlex.join(["mtkd", name, plan, *arguments])

    def job(run: Run, key: str) -> dict:
        above = [executed(study, parent) for parent in stages.parents(study, run)]
        return {
            "inputs": [_relative(path, folder) for path in (_write_key(study, run, key), *above)],
            "output": _relative(executed(study, run), folder),
            "command": command("notebook", run.name),
            "resources": resources(study, run),
        }

    plan = {
        "study": name,
        "overrides": overrides,
        "reports": _relative(reports, folder),
        "runs": {run.name: job(run, key) for run, key in stages.keys(study).items()},
        "pages": command("pages"),
        "priorities": priorities(study),
        "threads": study.threads,
    }
    write_json(file, plan)
    return file


def read_request(plan: Path) -> tuple[str, list[str]]:
    """Return the study's name and the overrides of a plan, as they were given to `mtkd run`."""
    try:
        request = json.loads(plan.read_text(encoding="utf-8"))
        return request["study"], request["overrides"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{plan} is no plan of 'mtkd run': give a study.") from None


def _write_key(study: Study, run: Run, key: str) -> Path:
    path = workflow_folder(study) / "keys" / run.name
    if not path.is_file() or path.read_text(encoding="utf-8") != key:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key, encoding="utf-8")
    return path


def _relative(path: Path, start: Path) -> str:
    relative = os.path.relpath(path.resolve(), start.resolve())
    if set("{}<>") & set(relative):
        raise UserError(
            f"{path}: Snakemake takes braces and angle brackets for patterns: set MTKD_WORK and "
            "MTKD_REPORTS to folders without them."
        )
    return relative


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


def resources(study: Study, run: Run) -> dict[str, int | None]:
    """Return what a job asks for in Snakemake's names, None for what it does not.

    MB of memory, minutes, GPUs, and a share of this machine's GPU. A second attempt asks for twice
    the memory and time (Snakefile): a job that was stopped for want of either goes on from its
    checkpoint.
    """
    asked, steps = study.resources, stages.steps(study, run)
    return {
        "mem_mb": asked.memory_mb,
        "runtime": asked.minutes + math.ceil(steps / asked.steps_per_minute),
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
