"""A whole study: Snakemake in a process of its own, and a progress bar over the updates left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from mtkd import paths, stages
from mtkd.artifacts import read_csv
from mtkd.config.study import Study
from mtkd.data.snli import check_snli
from mtkd.errors import UserError
from mtkd.report.tables import closing_table
from mtkd.report.verdict import compare_with_reference
from mtkd.workflow import jobs, process, profile
from mtkd.workflow.notebook import MARK

SNAKEFILE = paths.SHARE / "Snakefile"
START_UP = 30  # steps' worth of starting a notebook, for the progress bar
# All but Snakemake's cache of sources, which is in the user's home otherwise.
PRIVATE = ["--shared-fs-usage", "persistence", "input-output", "software-deployment", "sources"]
PRIVATE += ["storage-local-copies"]
MESSAGE = "message: "  # in Snakemake's log, before what it says of a job that failed
# How lines begin at the end of Snakemake's log that say nothing of the reason.
CLOSING = ("Complete log", "Elapsed time", "Exiting because", "Shutting down", "WorkflowError:")
CLOSING += ("At least one job did not",)


def run_study(
    name: str,
    study: Study,
    overrides: list[str],
    cores: int | None = None,
    profile_folder: Path | None = None,
) -> None:
    """Run the stages that are not done, and print the results.

    `cores` runs at once, or as a Snakemake profile says. A second run of the same study waits for
    the first. Raise `UserError` with the error of a stage that failed; finished stages are kept.
    """
    local = profile.executor(profile_folder) == "local"
    where = profile.arguments(study, cores, profile_folder)
    # Elsewhere Snakemake runs in this folder, which is the one that the profile knows.
    folder = jobs.workflow_folder(study) if local else Path()
    where += ["--directory", str(folder.absolute()), *PRIVATE] if local else []
    jobs.listing(study)  # what custom tasks lack is reported before anything is written
    check_snli(study)
    work, logs = paths.work_folder(study.name), paths.reports(study.name) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with process.exclusive_run(work / ".lock", f"study {study.name}"):
            started, plan = time.time(), jobs.write_plan(study, name, overrides, folder)
            code = _snakemake(study, [*where, "--configfile", str(plan.absolute())], logs, local)
    except KeyboardInterrupt:
        raise UserError("Stopped; run the same command again to go on from here.") from None
    if code:
        raise UserError(_failure(logs, started))
    print_results(study)


def _snakemake(study: Study, arguments: list[str], logs: Path, local: bool) -> int:
    """Run Snakemake in a process group of its own, which ends when this process is interrupted."""
    command = [sys.executable, "-m", "mtkd.workflow.process", "snakemake"]
    command += ["--snakefile", str(SNAKEFILE), *arguments]
    command += ["--nolock", "--rerun-incomplete", "--keep-going", "--rerun-triggers", "mtime"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # One thread a run: two runs at once are faster than one with two threads.
    threads = {"OMP_NUM_THREADS": str(study.threads), "TOKENIZERS_PARALLELISM": "false"}
    environment = os.environ | threads | {"PATH": path, "PYTHONIOENCODING": "utf-8"}
    if local:  # elsewhere a process id means nothing
        environment[process.PARENT] = str(os.getpid())
    started = time.time()
    with (logs / "snakemake.log").open("w", encoding="utf-8") as log:
        options = {"stdout": log, "stderr": log, "env": environment, "start_new_session": True}
        snakemake = subprocess.Popen(command, **options)
        try:
            _show_progress(snakemake, study, started)
        except BaseException:
            os.killpg(snakemake.pid, signal.SIGTERM if local else signal.SIGINT)
            snakemake.wait()
            raise
    return snakemake.returncode


def _show_progress(snakemake: subprocess.Popen, study: Study, started: float) -> None:
    """Show a bar over all runs, each as long as its steps and its start.

    Runs that are done count at once.
    """
    left = {run: stages.steps(study, run) + START_UP for run in stages.all_runs(study)}
    total, title = sum(left.values()), f"study {study.name}"
    with tqdm(total=total, desc=title, unit=" steps", unit_scale=True, mininterval=2) as bar:
        while left:
            ended = snakemake.poll() is not None
            for run in list(left):
                path = jobs.executed(study, run)
                if path.exists() and (ended or path.stat().st_mtime > started):
                    bar.update(left.pop(run))
                    bar.set_postfix_str(run.name)
            if ended:
                return
            time.sleep(0.2)
    snakemake.wait()


def _failure(logs: Path, started: float) -> str:
    """Return what the first run that failed said, or else Snakemake."""
    errors = [path for path in logs.glob("*.err") if path.stat().st_mtime > started]
    notes = {log: _lines(log) for log in sorted(errors, key=lambda path: path.stat().st_mtime)}
    for log, lines in notes.items():
        for line in reversed(lines):
            if line.startswith(MARK):
                return f"{log.name.removesuffix('.log.err')} failed: {line.removeprefix(MARK)}"
    if shutil.disk_usage(logs).free < 1_000_000:
        return f"No space is left on the disk of {logs}: free some and run again."
    for log, lines in notes.items():
        name = log.name.removesuffix(".log.err")
        notebook = logs.parent / "notebooks" / f"{name}.ipynb"
        finished = notebook.exists() and notebook.stat().st_mtime > started
        if lines and not finished:
            return f"{name} failed: {lines[-1]} ({log}); run again to go on."
    log = logs / "snakemake.log"
    return f"The study failed: {_last_words(_lines(log))} ({log}); run again to go on."


def _lines(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _last_words(lines: list[str]) -> str:
    """Return what Snakemake's log says of a failure: its last message on a job, or its end."""
    messages = [line.removeprefix(MESSAGE) for line in lines if line.startswith(MESSAGE)]
    said = [line for line in lines if not line.startswith(CLOSING)]
    return ([text for text in messages if text != "None"] or said or ["its log is empty"])[-1]


def print_results(study: Study) -> None:
    """Print the closing table, the verdict if there is a reference, and the report's path."""
    reports = paths.reports(study.name)
    frames = [read_csv(reports / f"{name}.csv") for name in ("results", "comparisons")]
    print(closing_table(*frames))
    if verdict := compare_with_reference(study.name):
        print(verdict.text())
    print(f"Report: {reports / 'index.html'}")
