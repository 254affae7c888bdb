"""A folder of one's own: what is copied, and the notebooks that JupyterLab opens."""

import os
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from mtkd import paths
from mtkd.workflow import init

pytestmark = pytest.mark.usefixtures("isolated")


def test_what_people_change_is_copied_and_found_in_its_folder(run, monkeypatch, tmp_path):
    status, out, _ = run(["init", "mine"])
    assert status == 0 and out.startswith("mine: ")
    mine = tmp_path / "mine"
    assert {path.name for path in mine.iterdir()} == set(init.PARTS)
    for part in ("notebooks/04_student.ipynb", "studies/quick.yaml", "studies/glue.tried.csv"):
        assert (mine / part).read_bytes() == (ROOT / part).read_bytes()
    assert not any(".ipynb_checkpoints" in path.parts for path in mine.rglob("*"))
    monkeypatch.chdir(mine)
    assert paths.studies()["quick"].resolve() == mine / "studies" / "quick.yaml"


def test_a_file_of_the_users_is_never_replaced(run, tmp_path):
    mine = tmp_path / "mine" / "studies" / "quick.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("name: mine\n")
    status, _, err = run(["init", "mine"])
    assert status == 2 and err.startswith("mtkd: mine/studies exists: choose another folder")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["studies"]
    assert mine.read_text() == "name: mine\n"
    (tmp_path / "file").touch()
    status, _, err = run(["init", "file"])
    assert status == 2 and "file" in err and "Traceback" not in err


class Started(Exception):
    """JupyterLab, instead of it."""


@pytest.fixture
def started(monkeypatch):
    """Return a function that opens the lab, and returns JupyterLab's arguments."""

    def execv(program: str, arguments: list[str]):
        raise Started(program, *arguments)

    def start(*options: str) -> list[str]:
        with pytest.raises(Started) as call:
            init.open_lab(list(options))
        assert call.value.args[:4] == (sys.executable, sys.executable, "-m", "jupyterlab")
        return list(call.value.args[4:])

    monkeypatch.setattr(init.os, "execv", execv)
    return start


def test_the_lab_opens_a_copy_of_the_notebooks_that_sees_the_folders_results(
    started, monkeypatch, tmp_path
):
    monkeypatch.setenv("MTKD_WORK", "work")
    monkeypatch.delenv("MTKD_REPORTS")
    assert started("--no-browser") == ["--no-browser", "notebooks"]
    copy = Path("notebooks/04_student.ipynb")
    copy.write_text("changed")
    assert os.environ["MTKD_WORK"] == str(tmp_path / "work")
    assert os.environ["MTKD_REPORTS"] == str(tmp_path / "reports")
    assert started() == ["notebooks"] and copy.read_text() == "changed"
    monkeypatch.setenv("MTKD_NOTEBOOKS", "elsewhere")
    assert started() == ["elsewhere"]


def test_the_lab_leaves_a_folder_of_other_notebooks_alone(run, tmp_path):
    (tmp_path / "notebooks").mkdir()
    status, _, err = run(["lab"])
    assert status == 2 and "notebooks exists" in err
