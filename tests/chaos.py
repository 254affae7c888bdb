"""Kills a study over and over at random moments and compares what it ends with to an undisturbed run, bit for bit.

    python tests/chaos.py --kills 50 --folder /tmp/chaos

A moment is so much processor time of the whole run, so that it falls as often into a stage on a busy machine. What is
killed is drawn too: the whole tree of processes (as a restart of the machine does), `mtkd run` alone by SIGKILL or
SIGTERM, a notebook's kernel or the fork that runs it, Snakemake, or the server of warm starts. A study that ends before all kills are
spent is compared and begun anew. Recorded times aside, every file of every artifact and results.csv must be the same.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "tests" / "studies" / "chaos.yaml"
TIMES = ["seconds", "latency", "latency_low", "latency_high", "rate", "rate_low", "rate_high"]
RESUMED = re.compile(
    r"\| ([1-9]\d*)/\d+ \[00:00<\?"
)  # the first state of a progress bar that does not begin at 0


def content(path: Path) -> str:
    """SHA-256 of a file's content without recorded times."""
    data = path.read_bytes()
    if path.suffix == ".csv":
        data = (
            pd.read_csv(path, dtype=str, keep_default_na=False)
            .drop(columns=TIMES, errors="ignore")
            .to_csv()
            .encode()
        )
    elif path.name == "origin.json":
        data = json.dumps(
            {key: value for key, value in json.loads(data).items() if key != "seconds"}
        ).encode()
    elif path.name == "record.json":
        record = json.loads(data)  # parents' fingerprints cover their recorded times
        data = re.sub(
            r'"[0-9a-f]{16}"', '"…"', json.dumps([record["inputs"], sorted(record["files"])])
        ).encode()
    return hashlib.sha256(data).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """Every finished file of a study's run, and its results, by name."""
    files = [
        path
        for path in folder.glob("artifacts/**/*")
        if path.is_file() and not path.name.endswith(".lock")
    ]
    files += folder.glob("reports/*/results.csv")
    return {str(path.relative_to(folder)): content(path) for path in files}


def start(folder: Path, overrides: list[str]) -> subprocess.Popen:
    """`mtkd run` in a process group of its own; what it says goes to the folder's out.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "MTKD_WORK": str(folder / "artifacts"),
        "MTKD_REPORTS": str(folder / "reports"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", "from mtkd.cli import main; main()", "run", str(STUDY)]
    command += [part for override in overrides for part in ("--set", override)]
    with (folder / "out.txt").open("a", encoding="utf-8") as out:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
        )


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Life:
    """One process of `mtkd run` with what it started."""

    def __init__(self, folder: Path, overrides: list[str]):
        self.process = start(folder, overrides)
        self.root, self.used = psutil.Process(self.process.pid), {}

    def tree(self) -> dict[str, list[psutil.Process]]:
        """The run's processes by what they are; clients and shells are left out."""
        found = {"run": [self.root], "snakemake": [], "server": [], "fork": [], "kernel": []}
        try:
            for process in self.root.children(recursive=True):
                line, parent = " ".join(process.cmdline()), process.ppid()
                if "-m mtkd.workflow.process" in line and parent == self.root.pid:
                    found["snakemake"].append(process)
                elif "-m mtkd.workflow.kernels" in line:
                    role = (
                        "server"
                        if parent == self.root.pid
                        else "fork"
                        if parent == found["server"][0].pid
                        else "kernel"
                    )
                    found[role].append(process)
        except psutil.NoSuchProcess:
            pass
        return found

    def seconds(self) -> float:
        """Processor seconds of all processes of the run, those that have ended too."""
        for processes in self.tree().values():
            for process in processes:
                try:
                    times = process.cpu_times()
                    self.used[process.pid] = times.user + times.system
                except psutil.NoSuchProcess:
                    pass
        return sum(self.used.values())

    def wait(self, seconds: float) -> bool:
        """Waits until so many processor seconds more are used; False where the run ended before."""
        until = self.seconds() + seconds
        while self.process.poll() is None:
            if self.seconds() >= until:
                return True
            time.sleep(0.5)
        return False


def kill(life: Life, draw: random.Random) -> tuple[str, list[psutil.Process]]:
    """Kills something; gives what, and the processes that must be gone before another run writes."""
    tree = life.tree()
    everything = [process for processes in tree.values() for process in processes]
    what = draw.choices(
        ["tree", "run", "run by SIGTERM", "fork", "kernel", "snakemake", "server"],
        [6, 6, 4, 2, 4, 1, 1],
    )[0]
    number = signal.SIGTERM if "SIGTERM" in what else signal.SIGKILL
    if what in ("fork", "kernel", "snakemake", "server"):
        number = draw.choice([signal.SIGKILL, signal.SIGTERM])
        what = what if tree[what] else "run"
    victims = everything if what == "tree" else [draw.choice(tree[what.split()[0]])]
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return f"{what.split()[0]} by {number.name}", everything


def resumes(folder: Path, since: float) -> int:
    """Trainings that went on from a checkpoint, by the progress in the logs; the next start of a stage removes its log."""
    logs = [path for path in folder.glob("reports/*/logs/*.log") if path.stat().st_mtime > since]
    return sum(len(RESUMED.findall(path.read_text(errors="replace"))) for path in logs)


def chaos(folder: Path, kills: int, seed: int, overrides: list[str], longest: float) -> dict:
    """Runs the study undisturbed, then under `kills` kills, each after at most `longest` processor seconds of the one before.

    An undisturbed run that has ended in this folder before is taken again.
    """
    done = folder / "undisturbed" / "done"
    if not done.exists():
        assert start(folder / "undisturbed", overrides).wait() == 0, (
            folder / "undisturbed" / "out.txt"
        ).read_text()
        done.touch()
    wanted = contents(folder / "undisturbed")
    draw, killed, rounds, resumed, restarts = random.Random(seed), Counter(), 0, 0, 0
    ghosts: list[psutil.Process] = []
    while killed.total() < kills:
        rounds += 1
        place, code = folder / f"round{rounds}", None
        while code != 0:
            life, restarts, before, started = (
                Life(place, overrides),
                restarts + 1,
                killed.total(),
                time.time(),
            )
            while killed.total() < kills and life.wait(draw.uniform(0.2, longest)):
                if life.tree()["snakemake"]:  # it has the study's lock
                    # One that the kernel is taking down has let the lock go, and is listed a moment longer.
                    _, left = psutil.wait_procs(ghosts, timeout=2)
                    assert not (left := [ghost for ghost in left if alive(ghost)]), (
                        f"written by two runs at once: {left}"
                    )
                what, everything = kill(life, draw)
                killed[what] += 1
                print(
                    f"{time.strftime('%H:%M:%S')} round {rounds}, kill {killed.total()}: {what}",
                    flush=True,
                )
                if what.startswith(("tree", "run")):
                    ghosts = everything
                    break
            else:
                code = life.process.wait()
                assert code == 0 or (code == 2 and killed.total() > before), (
                    f"status {code}: {(place / 'out.txt').read_text()[-3000:]}"
                )
            resumed += resumes(place, started)
        found = contents(place)
        different = sorted(
            name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
        )
        assert not different, f"round {rounds} differs from the undisturbed run in {different}"
        print(
            f"round {rounds} has ended: {len(found)} files as in the undisturbed run, {resumed} trainings resumed so far",
            flush=True,
        )
    return {
        "kills": killed.total(),
        "by": dict(killed),
        "rounds": rounds,
        "starts": restarts,
        "resumed": resumed,
        "files": len(wanted),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=20, help="processor seconds between two kills, at most"
    )
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    print(
        json.dumps(
            chaos(given.folder.absolute(), given.kills, given.seed, given.overrides, given.longest)
        )
    )
