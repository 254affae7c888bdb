"""Studies on clusters: what jobs ask for, how many share a GPU, and a study sent through a SLURM on this machine."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, mtkd
from helpers import study
from slurm import missing, slurm

from mtkd.config import study as studies
from mtkd.errors import UserError
from mtkd.workflow import jobs as plan
from mtkd.workflow import kernels as warm
from mtkd.workflow import profile as cluster

SLURM = ROOT / "profiles" / "slurm"
SMALLEST = ROOT / "tests" / "studies" / "smallest.yaml"


def command(folder: Path, name: str, text: str) -> str:
    """A search path on which a made-up program comes first."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def snakemake(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--nolock", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_jobs_ask_for_what_the_study_gives_them():
    found = study(resources={"memory_mb": 1000, "minutes": 10, "steps_per_minute": 100, "gpus": 2})
    training, report = plan.Job("02_mtdnn", "a", {}, 250), plan.Job("07_report", "", {}, 0)
    assert plan.asked(found, training) == {"mem_mb": 1000, "runtime": 13, "gpu": 2, "gpu_slots": 1}
    assert plan.asked(found, training, attempt=2) == {
        "mem_mb": 2000,
        "runtime": 26,
        "gpu": 2,
        "gpu_slots": 1,
    }
    assert plan.asked(found, report) == {
        "mem_mb": 1000,
        "runtime": 10,
        "gpu": None,
        "gpu_slots": None,
    }
    assert plan.asked(study(), training)["gpu"] is None


def test_nothing_runs_again_when_jobs_ask_for_something_else():
    keys = [
        [plan.settings_key(found, job.notebook) for job in plan.jobs(found)]
        for found in (study(), study(resources={"memory_mb": 1}))
    ]
    assert keys[0] == keys[1]


def test_a_wrong_resource_is_named():
    with pytest.raises(UserError, match=r"resources\.memory_mb"):
        study(resources={"memory_mb": 0})
    with pytest.raises(
        UserError, match=r"unknown field 'resources\.memory'; known there: memory_mb, minutes"
    ):
        study(resources={"memory": 1})


@pytest.mark.parametrize(
    "listed, visible, slots",
    [("GPU 0: any", None, True), ("GPU 0: any", "", False), ("No devices", None, False)],
)
def test_slots_are_counted_where_there_is_a_gpu(tmp_path, monkeypatch, listed, visible, slots):
    monkeypatch.setenv("PATH", command(tmp_path, "nvidia-smi", f"print({listed!r})"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = study(resources={"gpu_slots": 3})
    assert cluster.arguments(found, 4, None) == [
        "--cores",
        "4",
        *(["--resources", "gpu_slots=3"] if slots else []),
    ]
    assert cluster.arguments(found, None, SLURM) == ["--profile", str(SLURM)]


def test_no_more_trainings_run_at_once_than_share_the_gpu(tmp_path):
    # The Snakefile's own jobs, but mtkd is a program that notes when it ran.
    fake = command(
        tmp_path,
        "mtkd",
        f"""
import sys, time
from pathlib import Path
start = time.time()
time.sleep(0.4)
out = Path(sys.argv[3] if sys.argv[1] == "notebook" else {str(tmp_path / "reports/smallest/index.html")!r})
out.write_text(f"{{start}} {{time.time()}}")
""",
    )

    def most_at_once(*arguments: str) -> int:
        where = tmp_path / "reports"
        snakemake(
            "--cores",
            "8",
            *arguments,
            "--forceall",
            "--config",
            f"study={SMALLEST}",
            "overrides=seeds=[0,1,2,3]",
            PATH=fake,
            MTKD_REPORTS=str(where),
        )
        spans = [
            tuple(map(float, path.read_text().split()))
            for path in where.glob("smallest/notebooks/0[1-5]*.ipynb")
        ]
        assert len(spans) == 1 + 4 + 2 + 4 + 12
        return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)

    assert most_at_once("--resources", "gpu_slots=2") == 2
    assert most_at_once() > 2


def test_a_profile_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*config\.yaml"):
        cluster.executor(tmp_path)
    (tmp_path / "config.yaml").write_text("executor: [")
    with pytest.raises(UserError, match="not a readable YAML file"):
        cluster.executor(tmp_path)
    (tmp_path / "config.yaml").write_text("executor: no-such-one")
    with pytest.raises(UserError, match="pip install snakemake-executor-plugin-no-such-one"):
        cluster.executor(tmp_path)
    (tmp_path / "config.yaml").write_text("cores: 4")
    assert cluster.executor(tmp_path) == cluster.executor(None) == "local"


def test_the_base_study_asks_slurm_for_a_gpu_where_it_trains(tmp_path):
    said = snakemake(
        "--dry-run", "--profile", SLURM, "--config", "study=base", MTKD_REPORTS=str(tmp_path)
    )
    base = studies.load("base")
    asked = {job.name: plan.asked(base, job) for job in plan.jobs(base)}
    for name, rule in (("02_mtdnn.uncased-0.2-s0", "mtdnn"), ("07_report", "report")):
        wants = asked[name]
        block = re.search(
            rf"rule {rule}:\n(?:    .*\n)*?    output: .*/{name}\.ipynb\n(?:    .*\n)*?    resources: (.*)\n",
            said,
        )
        found = dict(pair.split("=") for pair in block[1].split(", "))
        assert {key: found.get(key) for key in wants} == {
            key: None if value is None else str(value) for key, value in wants.items()
        }
    assert asked["02_mtdnn.uncased-0.2-s0"]["gpu"] == 1


def test_jobs_elsewhere_are_not_told_of_a_server_here():
    with warm.server(
        {"MTKD_WARM": "socket", "MTKD_WORK": "folder"}, lock=-1, local=False
    ) as environment:
        assert environment == {"MTKD_WORK": "folder"}


@pytest.fixture
def here(tmp_path):
    """Variables of a SLURM of this one node, and the list of its finished jobs."""
    if lacking := missing():
        assert "MTKD_CI" not in os.environ, (
            f"MTKD_CI is set, but {', '.join(lacking)} are not installed"
        )
        pytest.skip(
            f"{', '.join(lacking)} are not installed (Debian's packages slurm-wlm and munge)"
        )
    with slurm(tmp_path / "slurm", cpus=2) as variables:
        yield variables, tmp_path / "slurm" / "jobs.txt"


@pytest.mark.timeout(1200)
def test_a_study_sent_through_slurm_gives_the_local_runs_results(here, tmp_path):
    variables, finished = here
    # The profile as it is, but without accounting, and asked more often.
    settings = yaml.safe_load((SLURM / "config.yaml").read_text())
    settings |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 1}
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(yaml.safe_dump(settings))

    def results(place: str, *arguments: str, **environment: str) -> bytes:
        folder = tmp_path / place
        done = mtkd(
            "run",
            SMALLEST,
            "--set",
            "seeds=[3]",
            *arguments,
            MTKD_WORK=str(folder / "artifacts"),
            MTKD_REPORTS=str(folder / "reports"),
            **environment,
        )
        log = folder / "reports" / "smallest" / "logs" / "snakemake.log"
        assert done.returncode == 0, done.stderr[-2000:] + log.read_text()[-4000:]
        return (folder / "reports" / "smallest" / "results.csv").read_bytes()

    started = time.perf_counter()
    with ThreadPoolExecutor() as pool:  # both at once
        elsewhere = pool.submit(results, "local")
        sent = results("sent", "--profile", str(profile), **variables)
        seconds = time.perf_counter() - started
        local = elsewhere.result()
    # Every byte but the last column's, which is how long a training took and never the same twice.
    assert local.splitlines()[0].endswith(b",seconds") and len(local.splitlines()) > 15
    assert [line.rpartition(b",")[0] for line in sent.splitlines()] == [
        line.rpartition(b",")[0] for line in local.splitlines()
    ]

    found = studies.load(SMALLEST, ["seeds=[3]"])
    asked = [plan.asked(found, job) for job in plan.jobs(found)]
    told = re.findall(
        r"JobState=(\w+) .* TimeLimit=(\d+) .* Tres=cpu=(\d+),mem=(\d+)M", finished.read_text()
    )
    assert sorted(told) == sorted(
        ("COMPLETED", str(wants["runtime"]), "1", str(wants["mem_mb"])) for wants in asked
    )
    print(
        f"SLURM: {len(told)} jobs in {seconds:.0f} s; {len(local.splitlines()) - 1} figures as from the local run"
    )
