"""Every stage's notebook runs on a small study, and is committed without outputs."""

import nbformat
import pytest
from integration.stages.small import TINY

from mtkd import paths
from mtkd.config.study import load
from mtkd.stages import all_runs, stages
from mtkd.workflow.notebook import execute

NOTEBOOKS = sorted((paths.SHARE / "notebooks").glob("*.ipynb"))


def test_each_stage_has_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == list(stages())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebooks_of_all_stages_but_the_report_run(work, every_stage, tmp_path):
    runs = all_runs(load(TINY, every_stage))
    first = {run.stage: run for run in reversed(runs) if run.stage != "11_report"}
    for name, run in sorted(first.items()):
        output = tmp_path / f"{name}.ipynb"
        execute(run, str(TINY), every_stage, output, tmp_path / f"{name}.log")
        cells = nbformat.read(output, 4).cells
        assert all(cell.execution_count for cell in cells if cell.cell_type == "code"), name
