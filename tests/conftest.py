"""The tiny study, run once through the command line, Snakemake, papermill and the report, for every test that looks at it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "studies" / "tiny.yaml"

pytest.register_assert_rewrite("refusals")


def mtkd(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command line in a process of its own, from the checkout's folder."""
    return subprocess.run(
        [sys.executable, "-c", "from mtkd.cli import main; main()", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env=os.environ | environment,
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """(folder of the reports, environment, finished process) of a whole tiny study: one for all of pytest's workers."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "tiny-run"
    folder.mkdir(exist_ok=True)
    environment = {"MTKD_WORK": str(folder / "artifacts"), "MTKD_REPORTS": str(folder / "reports")}
    with FileLock(folder / "lock"):
        if not (folder / "printed").exists():
            done = mtkd("run", TINY, "-c", "2", **environment)
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "printed").write_text(done.stdout, encoding="utf-8")
    done = subprocess.CompletedProcess([], 0, (folder / "printed").read_text(encoding="utf-8"))
    return folder / "reports" / "tiny", environment, done


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder that a module's tests share: encoders, candidates and their members are made once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        patch.setenv("MTKD_WORK", str(folder))
        for name in ("MTKD_ENCODER_UNCASED", "MTKD_ENCODER_CASED", "MTKD_SNLI"):
            patch.delenv(name, raising=False)
        yield folder
