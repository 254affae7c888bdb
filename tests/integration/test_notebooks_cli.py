"""Notebooks as batches, and the command line around them."""

import json

import pytest
from helpers import ROOT, mtkd

from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.stages import Run
from mtkd.workflow import jobs, notebook

SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOGIC = ("def ", "class ", "for ", "if ", "while ", "try:", "with ")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_source_notebook_is_clean_has_parameters_and_no_logic(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1
    assert not any(line.startswith(LOGIC) for cell in code for line in cell["source"])


def write_notebook(folder, source: str) -> None:
    cell = {"cell_type": "code", "source": source, "outputs": [], "execution_count": None}
    parameters = cell | {"source": "study = overrides = None", "metadata": {"tags": ["parameters"]}}
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    text = {"cells": [parameters, cell | {"metadata": {}}], "metadata": kernel}
    (folder / "short.ipynb").write_text(json.dumps(text | {"nbformat": 4, "nbformat_minor": 4}))


def execute(folder) -> None:
    notebook.execute(Run("short"), "any", [], folder / "out.ipynb", folder / "log" / "short.log")


def test_a_notebook_is_executed_with_its_parameters_and_log(tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_NOTEBOOKS", str(tmp_path))
    write_notebook(tmp_path, "import os\nprint(study, overrides, os.environ['MTKD_LOG'])")
    execute(tmp_path)
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert cells[-1]["outputs"][0]["text"] == [f"any [] {tmp_path / 'log' / 'short.log'}\n"]
    assert cells[-1]["execution_count"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from mtkd.errors import UserError\nraise UserError('of a stage')", "^of a stage$"),
        ("1 / 0", "ZeroDivisionError: .*short.ipynb"),
    ],
)
def test_what_a_notebook_raised_is_reported_and_the_notebook_kept(
    tmp_path, monkeypatch, source, message
):
    monkeypatch.setenv("MTKD_NOTEBOOKS", str(tmp_path))
    write_notebook(tmp_path, source)
    with pytest.raises(UserError, match=message):
        execute(tmp_path)
    assert not (tmp_path / "out.ipynb").exists()
    assert (tmp_path / "log" / "short.ipynb").exists()


def test_a_missing_notebook_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_NOTEBOOKS", str(tmp_path))
    with pytest.raises(UserError, match=r"There is no notebook .*short"):
        execute(tmp_path)


@pytest.mark.slow
def test_a_study_that_fails_says_what_its_stage_said(tmp_path):
    settings = "data: {source: glue}\nencoders: {uncased: {pretrain: {}}}\n"
    chosen = "tasks: [rte]\ncandidates: {select_on: [rte]}\ndistil: {teachers: [rte]}\n"
    (tmp_path / "mine.yaml").write_text(settings + chosen)
    folders = {"MTKD_WORK": str(tmp_path / "w"), "MTKD_REPORTS": str(tmp_path / "r")}
    done = mtkd("run", tmp_path / "mine.yaml", MTKD_GLUE="./nowhere", **folders)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "mtkd: 00_data failed: There is no directory ./nowhere" in done.stderr


def test_the_listing_of_the_paper_has_its_runs_and_steps():
    lines = jobs.listing(load("paper")).splitlines()
    assert lines[-1].startswith("22 runs, ")
    assert sum(line.startswith("02_mtdnn.") for line in lines) == 6
    # 5 epochs of batches of 32, by hand from Table 1's full sizes:
    # cola, sst2, mnli, rte, qqp, mrpc, stsb, qnli.
    batches = 268 + 2105 + 12272 + 78 + 11371 + 115 + 180 + 3274
    student = next(line for line in lines if line.startswith("04_student.s0"))
    assert f"{5 * batches:,} steps" in student
