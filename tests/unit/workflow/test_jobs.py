"""Jobs: the plan, what waits for what, and what a job asks for."""

import json

import pytest
from helpers import TINY

from mtkd import stages
from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.workflow import jobs


@pytest.fixture(scope="module")
def tiny():
    return load(TINY)


def test_what_runs_wait_for_goes_first(tiny):
    priorities = jobs.priorities(tiny)
    assert priorities["11_report"] == 0 and priorities["00_data"] == len(stages.all_runs(tiny)) - 1
    for run in stages.all_runs(tiny):
        for parent in stages.parents(tiny, run):
            same = parent.stage == run.stage  # one encoder may start from another
            assert same or priorities[parent.stage] > priorities[run.stage]


def test_parents_come_first(tiny):
    seen = set()
    for run in stages.all_runs(tiny):
        assert seen.issuperset(stages.parents(tiny, run)), run.name
        seen.add(run)


def test_a_job_without_training_takes_no_gpu():
    study = load(TINY, ["resources.gpus=1"])
    data = stages.find_run(study, "00_data")
    student = stages.find_run(study, "04_student.s0")
    assert jobs.resources(study, data)["gpu"] is None
    assert jobs.resources(study, student)["gpu"] == 1


def test_the_listing_names_every_run_and_the_sum(tiny):
    lines = jobs.listing(tiny).splitlines()
    names = [line.split()[0] for line in lines[:-1]]
    assert names == [run.name for run in stages.all_runs(tiny)]
    total = sum(int(line.split()[1].replace(",", "")) for line in lines[:-1])
    assert f"{len(names)} runs, {total:,} steps" in lines[-1]


def test_a_plan_names_every_run_and_what_its_jobs_load(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    folder = jobs.workflow_folder(tiny)
    file = jobs.write_plan(tiny, str(TINY), ["about=x"], folder)
    plan = json.loads(file.read_text())
    assert list(plan["runs"]) == [run.name for run in stages.all_runs(tiny)]
    assert jobs.read_request(file) == (str(TINY), ["about=x"])
    data = plan["runs"]["00_data"]
    assert data["inputs"] == ["keys/00_data"]
    assert data["output"] == "../../../reports/tiny/notebooks/00_data.ipynb"
    assert data["output"] in plan["runs"]["01_pretrain.cased"]["inputs"]


def test_a_run_s_key_is_written_only_if_it_changed(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path))
    folder = jobs.workflow_folder(tiny)
    files = [folder / "keys" / name for name in ("00_data", "04_student.s0")]

    def written(*overrides: str) -> list[int]:
        jobs.write_plan(load(TINY, overrides), str(TINY), list(overrides), folder)
        return [file.stat().st_mtime_ns for file in files]

    first = written()
    assert written("about=x") == first
    data, student = written("distil.temperature=2")
    assert data == first[0] and student > first[1]


def test_a_path_that_snakemake_takes_for_a_pattern_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "{run}"))
    with pytest.raises(UserError, match=r"\{run\}.*MTKD_REPORTS"):
        jobs.write_plan(tiny, str(TINY), [], jobs.workflow_folder(tiny))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"study": "quick"}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=r"plan\.json is no plan"):
        jobs.read_request(tmp_path / "plan.json")
