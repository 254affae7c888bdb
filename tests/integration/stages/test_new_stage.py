"""A stage that is added as one module is listed, keyed and run like the others."""

import sys

import pytest
from integration.stages.small import small
from typer.testing import CliRunner

from mtkd import stages
from mtkd.cli import app
from mtkd.stages import Run, all_runs, find_run, keys, load, parents
from mtkd.workflow.jobs import listing

MODULE = '''
"""Stage 05b: how many examples a task has."""

from mtkd.artifacts import write_json
from mtkd.stages import data
from mtkd.stages.common import Run
from mtkd.stages.inputs import Inputs

NAME = "05b_counts"


def runs(study):
    return [Run(NAME, task=name) for name in study.multitask]


def parents(study, run):
    return [Run(data.NAME)]


def depends(study, run):
    return {"task": run.task}


def steps(study, run):
    return 7


def run(study, task):
    inputs = Inputs(study, Run(NAME, task=task))

    def build(output):
        split = data.read_splits(inputs.data, study.task(task))["train"]
        write_json(output.folder / "count.json", len(split))

    return inputs.build(build)
'''


@pytest.fixture
def counts(work, tmp_path, monkeypatch):
    """The name of a stage whose module lies beside the package."""
    (tmp_path / "counts.py").write_text(MODULE)
    monkeypatch.setattr(stages, "__path__", [*stages.__path__, str(tmp_path)])
    stages.stages.cache_clear()
    yield "05b_counts"
    stages.stages.cache_clear()
    sys.modules.pop("mtkd.stages.counts", None)


def test_a_new_stage_is_one_module(counts, monkeypatch, tmp_path):
    study = small()
    names = [f"{counts}.{task}" for task in ("rte", "stsb", "mrpc")]
    assert [run.name for run in all_runs(study) if run.stage == counts] == names
    run = find_run(study, names[0])
    assert parents(study, run) == [Run("00_data")] and stages.steps(study, run) == 7
    before, after = keys(study), keys(small("data.max_train=30"))
    assert before[run] != after[run]
    assert run in parents(study, Run("11_report"))
    assert all(name in listing(study) for name in names)
    assert load(study, run).json("count.json") == 40


def test_the_command_line_runs_a_new_stage(counts, work):
    study = work / "counted.yaml"
    study.write_text(small().model_dump_json(exclude_none=True))
    done = CliRunner().invoke(app, ["stage", str(study), f"{counts}.mrpc"])
    assert done.exit_code == 0, done.output
    assert load(small(), Run(counts, task="mrpc")).json("count.json") == 40
    done = CliRunner().invoke(app, ["run", str(study), "--dry-run"])
    assert f"{counts}.mrpc" in done.output
