"""Finished studies, each run once for every test that looks at one."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from helpers import EXAMPLE, TINY, mtkd


class FinishedStudy(NamedTuple):
    """A whole study that ended well."""

    reports: Path  # of this study
    environment: dict[str, str]  # names its folders
    printed: str


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> FinishedStudy:
    """Run the tiny study, which has every stage but two, once for all workers."""
    return run_once(tmp_path_factory, TINY, "tiny")


@pytest.fixture(scope="session")
def example_run(tmp_path_factory) -> FinishedStudy:
    """Run the example of own tasks once for all workers."""
    return run_once(tmp_path_factory, EXAMPLE, "own-example")


def run_once(tmp_path_factory, study: Path, name: str) -> FinishedStudy:
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / name
    folder.mkdir(exist_ok=True)
    environment = {"MTKD_WORK": str(folder / "artifacts"), "MTKD_REPORTS": str(folder / "reports")}
    printed = folder / "printed"
    with FileLock(folder / "lock"):
        if not printed.exists():
            done = mtkd("run", study, "-c", "2", **environment)
            assert done.returncode == 0, done.stderr[-3000:]
            assert "KeyboardInterrupt" not in done.stderr, done.stderr[-3000:]
            printed.write_text(done.stdout, encoding="utf-8")
    return FinishedStudy(folder / "reports" / name, environment, printed.read_text("utf-8"))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Yield a folder of artifacts that a module's tests share, so that stages run once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        patch.setenv("MTKD_WORK", str(folder))
        for name in ("MTKD_ENCODER_UNCASED", "MTKD_ENCODER_CASED", "MTKD_SNLI"):
            patch.delenv(name, raising=False)
        yield folder
