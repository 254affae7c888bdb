"""A finished study, run once for all tests that look at it, and what every test begins with."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from helpers import TINY, mtkd


class FinishedStudy(NamedTuple):
    """A whole study that ended well."""

    reports: Path  # of this study
    environment: dict[str, str]  # names its folders
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> FinishedStudy:
    """Run the tiny study, which has every stage but two, once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "tiny"
    folder.mkdir(exist_ok=True)
    environment = {"MTKD_WORK": str(folder / "artifacts"), "MTKD_REPORTS": str(folder / "reports")}
    printed = folder / "printed.json"
    with FileLock(folder / "lock"):
        if not printed.exists():
            done = mtkd("run", TINY, "-c", "2", **environment)
            assert done.returncode == 0, done.stderr[-3000:]
            printed.write_text(json.dumps([done.stdout, done.stderr]))
    return FinishedStudy(folder / "reports" / "tiny", environment, *json.loads(printed.read_text()))


@pytest.fixture(autouse=True)
def no_batch(monkeypatch):
    """Undo after each test that `notebook.execute` names a batch's log."""
    monkeypatch.setenv("MTKD_LOG", "")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Yield a folder of artifacts that a module's tests share, so that stages run once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        patch.setenv("MTKD_WORK", str(folder))
        for name in ("MTKD_ENCODER_UNCASED", "MTKD_ENCODER_CASED", "MTKD_SNLI"):
            patch.delenv(name, raising=False)
        yield folder
