"""Kill a study at random moments; compare the result, bit for bit, with an undisturbed run.

    python tests/slow/chaos.py --kills 50 --folder /tmp/chaos

The time between kills is processor time of the whole run, so that kills fall into stages as often
on a busy machine. What is killed is drawn too: all processes (as when the machine restarts),
`mtkd run` alone, Snakemake, or a notebook. A study that ends before all kills are spent
is compared and begun anew. Recorded times aside, every artifact and results.csv must be equal.
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
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parents[2]
TIMES = ["seconds", "latency", "latency_low", "latency_high", "rate", "rate_low", "rate_high"]
ROLES = {  # what a process is, by its command line
    "notebook": re.compile(r"mtkd notebook "),
    "snakemake": re.compile(r"mtkd\.workflow\.process"),
}
GHOST_SECONDS = 5  # in which a killed run's processes end


def content(path: Path) -> str:
    """Return the SHA-256 of a file's content without recorded times."""
    data = path.read_bytes()
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        data = frame.drop(columns=TIMES, errors="ignore").to_csv().encode()
    elif path.name == "record.json":
        record = json.loads(data)  # parents' fingerprints cover their recorded times
        text = json.dumps([record["inputs"], sorted(record["files"])])
        data = re.sub(r'"[0-9a-f]{16}"', '"…"', text).encode()
    elif path.suffix == ".json":
        data = re.sub(rb'"seconds": [0-9.e-]+|"[0-9a-f]{16}"', b"", data)
    return hashlib.sha256(data).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """Return the content of every artifact's files, and of the results, by name."""
    paths = [path for path in folder.glob("artifacts/*/**/*") if path.is_file()]
    passing = [path for path in paths if path.name.endswith(".lock") or "workflow" in path.parts]
    files = sorted({*paths} - {*passing})
    files += folder.glob("reports/*/results.csv")
    return {str(path.relative_to(folder)): content(path) for path in files}


def start(study: Path, folder: Path, overrides: list[str]) -> subprocess.Popen:
    """Start `mtkd run` in a process group of its own; its output goes to the folder's out.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"MTKD_WORK": str(folder / "artifacts"), "MTKD_REPORTS": str(folder / "reports")}
    environment = os.environ | environment | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from mtkd.cli import main; main()", "run", str(study)]
    command += [part for override in overrides for part in ("--set", override)]
    options = {"cwd": folder, "env": environment, "start_new_session": True}
    with (folder / "out.txt").open("a", encoding="utf-8") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, **options)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Life:
    """One process of `mtkd run` with what it started."""

    process: subprocess.Popen
    used: dict[int, float] = field(default_factory=dict)  # processor seconds of each process

    def tree(self) -> dict[str, list[psutil.Process]]:
        """Return the run's processes by role; shells are left out."""
        root = psutil.Process(self.process.pid)
        tree: dict[str, list[psutil.Process]] = {"run": [root]} | {role: [] for role in ROLES}
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in root.children(recursive=True):
                line = " ".join(process.cmdline())
                role = next((role for role in ROLES if ROLES[role].search(line)), None)
                if role and "bash" not in line.split()[0]:
                    tree[role].append(process)
        return tree

    def seconds(self) -> float:
        """Return processor seconds of all processes of the run, those that have ended too."""
        for process in (process for group in self.tree().values() for process in group):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self.used[process.pid] = times.user + times.system
        return sum(self.used.values())

    def wait(self, seconds: float) -> bool:
        """Wait until so many more processor seconds are used; return False if the run ended."""
        until = self.seconds() + seconds
        while self.process.poll() is None:
            if self.seconds() >= until:
                return True
            time.sleep(0.3)
        return False


def kill(life: Life, draw: random.Random) -> tuple[str, list[psutil.Process]]:
    """Kill something; return its role, and the processes that must end before another run."""
    tree = life.tree()
    everything = [process for group in tree.values() for process in group]
    role = draw.choices(["tree", "run", "notebook", "snakemake"], [3, 4, 3, 1])[0]
    signals = [signal.SIGKILL] if role == "tree" else [signal.SIGKILL, signal.SIGTERM]
    number = draw.choice(signals)
    role = role if role == "tree" or tree[role] else "run"
    for process in everything if role == "tree" else [draw.choice(tree[role])]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return f"{role} by {number.name}", everything


@dataclass
class Chaos:
    """A study that is killed again and again, in folders below `folder`."""

    study: Path
    folder: Path
    overrides: list[str]
    longest: float = 20  # processor seconds between two kills, at most
    killed: Counter = field(default_factory=Counter)
    starts: int = 0

    def undisturbed(self) -> dict[str, str]:
        """Run the study to its end, if no earlier call did; return its contents."""
        folder = self.folder / "undisturbed"
        if not (folder / "done").exists():
            process = start(self.study, folder, self.overrides)
            assert process.wait() == 0, (folder / "out.txt").read_text()
            (folder / "done").touch()
        return contents(folder)

    def round(self, folder: Path, kills: int, draw: random.Random) -> None:
        """Run the study to its end under at most so many kills."""
        left, code = kills, None
        while code != 0:
            life = Life(start(self.study, folder, self.overrides))
            self.starts, ghosts, before = self.starts + 1, [], left
            while left and life.wait(draw.uniform(0.2, self.longest)):
                what, everything = kill(life, draw)
                left -= 1
                self.killed[what] += 1
                print(f"{time.strftime('%H:%M:%S')} {folder.name}: {what}", flush=True)
                if what.startswith(("tree", "run")):
                    ghosts = everything
                    break
            code = life.process.wait()
            text = (folder / "out.txt").read_text()
            assert code == 0 or before > left, f"status {code}: {text[-3000:]}"
            psutil.wait_procs(ghosts, timeout=GHOST_SECONDS)
            alive = [ghost for ghost in ghosts if is_alive(ghost)]
            assert not alive, f"they outlive their run: {alive}"

    def run(self, kills: int, seed: int = 0) -> dict:
        """Run rounds until all kills are spent; return what was done."""
        expected, draw, rounds = self.undisturbed(), random.Random(seed), 0
        while self.killed.total() < kills:
            rounds += 1
            folder = self.folder / f"round{rounds}"
            self.round(folder, kills - self.killed.total(), draw)
            check_equal(expected, contents(folder))
            print(f"{folder.name}: {len(expected)} files as in the undisturbed run", flush=True)
        done = {"kills": self.killed.total(), "rounds": rounds, "starts": self.starts}
        return done | {"by": dict(self.killed), "files": len(expected)}


def check_equal(expected: dict[str, str], actual: dict[str, str]) -> None:
    names = expected.keys() | actual.keys()
    different = sorted(name for name in names if expected.get(name) != actual.get(name))
    assert not different, f"different from the undisturbed run: {different}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=ROOT / "tests" / "studies" / "chaos.yaml")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=20)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    chaos = Chaos(given.study, given.folder.absolute(), given.overrides, given.longest)
    print(json.dumps(chaos.run(given.kills, given.seed)))


if __name__ == "__main__":
    main()
