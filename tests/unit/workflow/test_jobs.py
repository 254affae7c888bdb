"""Jobs: commands that survive a shell, what waits for what, and what a job asks for."""

import shlex

import pytest
from helpers import TINY
from hypothesis import given
from hypothesis import strategies as st

from mtkd import stages
from mtkd.config.study import load
from mtkd.workflow import jobs


@pytest.fixture(scope="module")
def tiny():
    return load(TINY)


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=20), max_size=4))
def test_overrides_reach_the_command_as_they_are(overrides):
    command = jobs.mtkd_command(["notebook", "a b", "02_mtdnn.x"], overrides)
    words = shlex.split(command)
    assert words[:4] == ["mtkd", "notebook", "a b", "02_mtdnn.x"]
    assert words[4::2] == ["--set"] * len(overrides) and words[5::2] == overrides


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


def test_a_second_attempt_asks_for_twice_the_memory_and_time(tiny):
    run = stages.find_run(tiny, "02_mtdnn.uncased-0.1-s0")
    first, second = jobs.resources(tiny, run, 1), jobs.resources(tiny, run, 2)
    assert second["mem_mb"] == 2 * first["mem_mb"] and second["runtime"] == 2 * first["runtime"]
    assert first["gpu"] is None and first["gpu_slots"] == 1


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
