"""Where jobs run, what they ask for, and how many share a GPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, STUDIES, study

from mtkd import stages
from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.workflow import jobs, profile

SLURM = ROOT / "profiles" / "slurm"


def add_program(folder: Path, name: str, code: str) -> str:
    """Return a search path on which a made-up program comes first."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def snakemake(*arguments: str | Path, **environment: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--nolock", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_jobs_ask_for_what_the_study_says(monkeypatch):
    monkeypatch.setattr(stages, "steps", lambda study, run: run.steps)
    asking = study(resources={"memory_mb": 1000, "minutes": 10, "steps_per_minute": 100, "gpus": 2})
    training, report = stages.Run("02_mtdnn", steps=250), stages.Run("11_report", steps=0)
    asked = {"mem_mb": 1000, "runtime": 13, "gpu": 2, "gpu_slots": 1}
    assert jobs.resources(asking, training) == asked
    without = {"mem_mb": 1000, "runtime": 10, "gpu": None, "gpu_slots": None}
    assert jobs.resources(asking, report) == without
    assert jobs.resources(study(), training)["gpu"] is None


def test_resources_change_no_key():
    before, after = stages.keys(study()), stages.keys(study(resources={"memory_mb": 1}))
    assert before == after


@pytest.mark.parametrize(
    ("listed", "visible", "slots"),
    [("GPU 0: any", None, True), ("GPU 0: any", "", False), ("No devices", None, False)],
)
def test_slots_are_counted_where_there_is_a_gpu(tmp_path, monkeypatch, listed, visible, slots):
    monkeypatch.setenv("PATH", add_program(tmp_path, "nvidia-smi", f"print({listed!r})"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asking = study(resources={"gpu_slots": 3})
    resources = ["--resources", "gpu_slots=3"] if slots else []
    assert profile.arguments(asking, 4, None) == ["--cores", "4", *resources]
    assert profile.arguments(asking, None, SLURM) == ["--profile", str(SLURM)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"there is no .*config\.yaml"),
        ("executor: [", "not a readable YAML file"),
        ("executor: no-such-one", "pip install snakemake-executor-plugin-no-such-one"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused(tmp_path, text, message):
    if text:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        profile.executor(tmp_path)


def test_a_profile_without_an_executor_is_local(tmp_path):
    (tmp_path / "config.yaml").write_text("cores: 4")
    assert profile.executor(tmp_path) == profile.executor(None) == "local"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return a function that writes the plan of a study for Snakemake in the checkout."""
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    monkeypatch.chdir(ROOT)

    def write(name: str, *overrides: str) -> Path:
        return jobs.write_plan(load(name, overrides), name, list(overrides), Path())

    return write


@pytest.mark.slow
def test_a_second_attempt_asks_for_twice_the_memory_and_time(tmp_path, plan):
    code = f"""
import sys
from pathlib import Path
tried = Path({str(tmp_path / "tried")!r})
out = Path({str(tmp_path)!r}, "reports/smallest/notebooks/00_data.ipynb")
out.write_text("") if tried.exists() else tried.touch() or sys.exit(1)
"""
    options = ("--cores", "1", "--retries", "1", "--until", "stage_00_data")
    file = plan(str(STUDIES / "smallest.yaml"))
    path = add_program(tmp_path, "mtkd", code)
    printed = snakemake(*options, "--configfile", file, PATH=path)
    assert re.findall(r"runtime=(\d+), mem_mb=(\d+)", printed) == [("15", "1500"), ("30", "3000")]


@pytest.mark.slow
def test_no_more_trainings_run_at_once_than_share_the_gpu(tmp_path, plan):
    # The Snakefile's jobs, but mtkd is a program that notes when it ran.
    reports = tmp_path / "reports"
    code = f"""
import sys, time
from pathlib import Path
start, reports = time.time(), Path({str(reports / "smallest")!r})
time.sleep(0.4)
out = reports / "notebooks" / f"{{sys.argv[3]}}.ipynb" if sys.argv[1] == "notebook" else None
out = out or reports / "index.html"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(f"{{start}} {{time.time()}}")
"""
    path = add_program(tmp_path, "mtkd", code)
    file = plan(str(STUDIES / "smallest.yaml"), "seeds=[0,1,2,3]")

    def most_at_once(*arguments: str) -> int:
        snakemake("--cores", "8", *arguments, "--forceall", "--configfile", file, PATH=path)
        files = list(reports.glob("smallest/notebooks/0[1-5]*.ipynb"))
        spans = [tuple(map(float, path.read_text().split())) for path in files]
        assert len(spans) == 1 + 4 + 2 + 4 + 12
        return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)

    assert most_at_once("--resources", "gpu_slots=2") == 2
    assert most_at_once() > 2


@pytest.mark.slow
def test_the_base_study_asks_slurm_for_a_gpu_where_it_trains(plan):
    printed = snakemake("--dry-run", "--profile", SLURM, "--configfile", plan("base"))
    base = load("base")
    for name in ("02_mtdnn.uncased-0.2-s0", "11_report"):
        asked = jobs.resources(base, stages.find_run(base, name))
        pattern = rf"output: .*/{name}\.ipynb\n(?:    .*\n)*?    resources: (.*)\n"
        stated = dict(pair.split("=") for pair in re.search(pattern, printed)[1].split(", "))
        wanted = {key: None if value is None else str(value) for key, value in asked.items()}
        assert {key: stated.get(key) for key in asked} == wanted
        assert asked["gpu"] == (1 if "mtdnn" in name else None)
