"""A whole study: Snakemake in a process of its own, with a progress bar over the updates that are left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from mtkd import paths as work
from mtkd.config.study import Study
from mtkd.data import snli as transfer
from mtkd.errors import UserError
from mtkd.workflow import jobs as plan
from mtkd.workflow import kernels as warm
from mtkd.workflow import profile as cluster
from mtkd.workflow.notebook import MARK
from mtkd.workflow.process import alone

SNAKEFILE = Path(__file__).resolve().parents[2] / "Snakefile"


def listing(study: Study) -> str:
    """The jobs of a study with their updates of weights, and the sum."""
    rows = plan.jobs(study)
    width = max(len(job.name) for job in rows)
    lines = [f"{job.name:<{width}}  {job.steps:>10,} steps" for job in rows]
    total = sum(job.steps for job in rows)
    return "\n".join(
        [
            *lines,
            f"{len(rows)} jobs, {total:,} steps of {study.train.batch_size} examples (estimated from the full data sets "
            "where the study sets no limit)",
        ]
    )


def run(
    name: str, study: Study, cores: int | None, overrides: list[str], profile: Path | None = None
) -> None:
    """Runs the stages that are not done, `cores` side by side or as a Snakemake `profile` says; prints the table and the report's path.

    A second run of the same study waits for the first. Raises `UserError` with a failed stage's own words; stages that
    were finished are kept.
    """
    if not SNAKEFILE.is_file():
        raise UserError(
            f"There is no {SNAKEFILE}: run a study from a checkout of the project, installed with 'pip install -e .'."
        )
    local = cluster.executor(profile) == "local"
    plan.jobs(study)  # what own tasks lack is told here, before anything is written
    transfer.check_there(study)
    reports = work.reports(study)
    logs = reports / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with alone(work.folder(study, ".lock"), f"study {study.name}") as lock:
            started = time.time()
            code = _snakemake(
                name,
                study,
                cluster.arguments(study, cores, profile),
                overrides,
                logs,
                started,
                lock,
                local,
            )
    except KeyboardInterrupt:
        raise UserError("Stopped; run the same command again to go on from here.") from None
    if code:
        raise UserError(_told(logs, started))
    if not (table := reports / "tables" / "table3.md").is_file():
        raise UserError(
            f"{table} is missing: remove {reports / 'notebooks' / '07_report.ipynb'} and run again; nothing is trained anew."
        )
    print(table.read_text(encoding="utf-8"))
    print(f"Report: {reports / 'index.html'}")


def _snakemake(
    name: str,
    study: Study,
    where: list[str],
    overrides: list[str],
    logs: Path,
    started: float,
    lock: int,
    local: bool,
) -> int:
    command = [
        sys.executable,
        "-m",
        "mtkd.workflow.process",
        str(os.getpid()),
        "snakemake",
        "--snakefile",
        str(SNAKEFILE),
        *where,
        "--nolock",
        "--rerun-incomplete",
        "--keep-going",
        "--config",
        f"study={name}",
        *([f"overrides={';'.join(overrides)}"] if overrides else []),
    ]
    # One thread a run: two runs side by side are faster than one with two threads.
    environment = os.environ | {
        "OMP_NUM_THREADS": str(study.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (
        (logs / "snakemake.log").open("w", encoding="utf-8") as log,
        ExitStack() as at_last,
        warm.server(environment, lock, local) as environment,
    ):
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, pass_fds=[lock]
        )
        at_last.callback(
            process.wait
        )  # the runs under way, which it waits for, end with the server
        try:
            _watch(process, study, started)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            raise
    return process.returncode


def _watch(process: subprocess.Popen, study: Study, started: float) -> None:
    """A bar over all jobs, each as long as its steps and a start's worth more; jobs that were done before count at once."""
    start_up = 30  # steps' worth of starting a notebook
    folder = work.reports(study) / "notebooks"
    left = {job.name: job.steps + start_up for job in plan.jobs(study)}
    with tqdm(
        total=sum(left.values()),
        desc=f"study {study.name}",
        unit=" steps",
        unit_scale=True,
        mininterval=2,
    ) as bar:
        while True:
            ended = process.poll() is not None
            found = ((name, folder / f"{name}.ipynb") for name in list(left))
            for name in [
                name
                for name, path in found
                if path.exists() and (ended or path.stat().st_mtime > started)
            ]:
                bar.update(left.pop(name))
                bar.set_postfix_str(name)
            if ended:
                return
            time.sleep(0.2)


def _told(logs: Path, started: float) -> str:
    """What the first failed stage said."""
    for log in sorted(
        (path for path in logs.glob("*.err") if path.stat().st_mtime > started),
        key=lambda path: path.stat().st_mtime,
    ):
        for line in reversed(log.read_text(encoding="utf-8", errors="replace").splitlines()):
            if line.startswith(MARK):
                return f"{log.name.removesuffix('.log.err')} failed: {line.removeprefix(MARK)}"
    for place in (logs, Path()):
        if shutil.disk_usage(place).free < 1_000_000:
            return f"No space is left on the disk of {place.absolute()}: free some and run again; finished stages are kept."
    return f"the study failed; the log is {logs / 'snakemake.log'}; run the same command again to go on from what is finished."
