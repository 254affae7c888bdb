"""Fixtures for bad inputs: an empty folder, and the command line in this process."""

import io
import os
import sys

import datasets
import pytest

from mtkd import cli
from mtkd.workflow import run as workflow


@pytest.fixture
def isolated(monkeypatch, tmp_path, tmp_path_factory):
    """Run in an empty folder without this machine's settings; no study starts, no hub is asked."""
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(workflow, "_snakemake", lambda *_: pytest.fail("a study was started"))
    monkeypatch.chdir(tmp_path)


class Terminal(io.StringIO):
    """A terminal at which nobody answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs a command line in this process: (status, stdout, stderr)."""

    def run(arguments: list[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mtkd", *arguments])
        monkeypatch.setattr(sys, "stdin", Terminal())
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run
