"""A study sent through a SLURM on this machine gives the local run's results."""

import os
import re

import pytest
import yaml
from helpers import ROOT, STUDIES, compute, mtkd
from slow.chaos import check_equal, contents
from slow.slurm import missing, slurm

from mtkd import stages
from mtkd.config.study import load
from mtkd.workflow import jobs

SMALLEST = STUDIES / "smallest.yaml"


@pytest.fixture
def cluster(tmp_path):
    """Yield the variables of a SLURM of this one node, and the list of its finished jobs."""
    if lacking := missing():
        text = f"not installed: {', '.join(lacking)} (Debian's packages slurm-wlm and munge)"
        (pytest.fail if "MTKD_CI" in os.environ else pytest.skip)(text)
    with slurm(tmp_path / "slurm", cpus=2) as variables:
        yield variables, tmp_path / "slurm" / "jobs.txt"


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(900)
def test_a_study_sent_through_slurm_gives_the_local_results(cluster, tmp_path, monkeypatch):
    variables, finished = cluster
    # The profile as it is, but without accounting, and asked more often.
    settings = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    settings |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 1}
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(yaml.safe_dump(settings))
    folders = {"MTKD_WORK": tmp_path / "artifacts", "MTKD_REPORTS": tmp_path / "reports"}
    environment = variables | {name: str(path) for name, path in folders.items()}
    done = mtkd("run", SMALLEST, "--profile", profile, **environment)
    log = tmp_path / "reports" / "smallest" / "logs" / "snakemake.log"
    assert done.returncode == 0, done.stderr[-2000:] + log.read_text()[-4000:]
    compute(SMALLEST, tmp_path / "local", monkeypatch)
    check_equal(contents(tmp_path / "local"), contents(tmp_path))

    study = load(SMALLEST)
    asked = [jobs.resources(study, run) for run in stages.all_runs(study)]
    wanted = [("COMPLETED", str(one["runtime"]), "1", str(one["mem_mb"])) for one in asked]
    pattern = r"JobState=(\w+) .* TimeLimit=(\d+) .* Tres=cpu=(\d+),mem=(\d+)M"
    assert sorted(re.findall(pattern, finished.read_text())) == sorted(wanted)
