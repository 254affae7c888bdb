"""The tiny study, run once for every test that looks at a finished study."""

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
    printed: str


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> FinishedStudy:
    """Run the tiny study through Snakemake, papermill and the report, once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "tiny-run"
    folder.mkdir(exist_ok=True)
    environment = {"MTKD_WORK": str(folder / "artifacts"), "MTKD_REPORTS": str(folder / "reports")}
    printed = folder / "printed"
    with FileLock(folder / "lock"):
        if not printed.exists():
            done = mtkd("run", TINY, "-c", "2", **environment)
            assert done.returncode == 0, done.stderr[-3000:]
            assert "KeyboardInterrupt" not in done.stderr, done.stderr[-3000:]
            printed.write_text(done.stdout, encoding="utf-8")
    return FinishedStudy(folder / "reports" / "tiny", environment, printed.read_text("utf-8"))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Yield a folder of artifacts that a module's tests share, so that stages run once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        patch.setenv("MTKD_WORK", str(folder))
        for name in ("MTKD_ENCODER_UNCASED", "MTKD_ENCODER_CASED", "MTKD_SNLI"):
            patch.delenv(name, raising=False)
        yield folder
