"""The tiny study, run once through the command line, Snakemake, papermill and the report, for every test that looks at it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "studies" / "tiny.yaml"


def mtkd(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command line in a process of its own, from the checkout's folder."""
    return subprocess.run([sys.executable, "-c", "from mtkd.cli import main; main()", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, env=os.environ | environment)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """(folder of the reports, environment, finished process) of a whole tiny study.

    Workers side by side share it: the second to ask waits for the first, as any second run of a study does.
    """
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "tiny"
    folder.mkdir(exist_ok=True)
    environment = {"MTKD_WORK": str(folder / "artifacts"), "MTKD_REPORTS": str(folder / "reports")}
    done = mtkd("run", TINY, "-c", "2", **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "reports" / "tiny", environment, done
