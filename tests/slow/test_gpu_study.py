"""The study on one GPU, on a processor: its plan, and that the report needs no weights."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import ROOT, STUDIES, TINY

from mtkd import stages
from mtkd.config.study import load

sys.path.insert(0, str(ROOT / "benchmarks"))
from side_by_side import Budget, Unit, plan, run_units

pytestmark = pytest.mark.slow
SMALLEST = STUDIES / "smallest.yaml"


def test_the_plan_keeps_the_graph_and_goes_seed_by_seed():
    units, reports = plan(str(TINY), ["ablation=null"])
    assert reports == [["mkd=null", "seeds=[0]"], ["mkd=null", "seeds=[0, 1]"], []]
    assert [one.level for one in units] == sorted(one.level for one in units)
    names = [one.name for one in units]
    assert len(set(names)) == len(names) and "03_teacher.rte 1" in names
    levels = {one.name: one.level for one in units}
    assert all(levels[name] <= one.level for one in units for name in one.after)
    assert levels["04_student.s0"] == 0 and levels["05_finetune.bert-s1 rte"] == 1
    assert levels["09_mkd.lstm-s0"] == 2


def test_a_report_whose_artifacts_differ_from_the_studys_is_not_offered():
    # An ensemble of another size changes what 03_teacher writes.
    _, reports = plan(str(TINY), ["mkd=null"])
    assert reports == [[]]


def test_what_needs_a_failed_unit_is_not_started():
    units = [Unit("no_such_run", None, (), 1), Unit("00_data", None, ("no_such_run",), 1)]
    log = run_units(units, str(SMALLEST), [], Budget(1, 100, 10, 0.0))
    assert not log  # long after the limit
    log = run_units(units, str(SMALLEST), [], Budget(1, 100, 10, time.perf_counter()))
    assert [row["unit"] for row in log] == ["no_such_run"] and "UserError" in log[0]["error"]


def test_what_outlasts_the_time_is_stopped():
    units = [Unit("00_data", None, (), 1)]
    log = run_units(units, str(SMALLEST), [], Budget(1, 0.5, 0.5, time.perf_counter()))
    assert [row["error"] for row in log] == ["stopped: the time was over"]


def command(step: str, *arguments: object, work: Path) -> str:
    script = ROOT / "benchmarks" / "gpu_study.py"
    options = ["--study", SMALLEST, "--work", work]
    done = subprocess.run(
        [sys.executable, script, step, *arguments, *options],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_check_of_a_gpu_skips_its_tests_where_there_is_none(tmp_path):
    printed = command("check", tmp_path, tmp_path / "out", work=tmp_path)
    assert "passed" not in printed
    suite = ElementTree.parse(tmp_path / "out" / "tests.xml").getroot().find("testsuite")
    assert suite.get("tests") == suite.get("skipped") and int(suite.get("tests")) >= 12


def test_the_report_is_made_elsewhere_without_weights(tmp_path, monkeypatch):
    pack, out, there, here = (tmp_path / name for name in ("pack", "out", "there", "here"))
    pack.mkdir()
    printed = command("run", pack, out, "--workers", "2", "--limit", "280", work=there)
    assert "updates" in printed
    about = json.loads((out / "run.json").read_text())
    assert about["report"] == [] and not any(row["error"] for row in about["units"])
    assert "11_report" in command("unpack", pack, out, work=here)

    study = load(SMALLEST)
    monkeypatch.setenv("MTKD_WORK", str(here))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    records = {path: path.read_bytes() for path in here.rglob("record.json")}
    assert not [*here.rglob("model.safetensors")]
    stages.load(study, stages.find_run(study, "11_report"))
    assert (tmp_path / "reports" / "smallest" / "results.csv").is_file()
    assert {path: path.read_bytes() for path in here.rglob("record.json")} == records
