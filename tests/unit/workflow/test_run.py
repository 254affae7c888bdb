"""The way of study and overrides to what computes, and what is said of a study that fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import STUDIES
from hypothesis import example, given, settings
from hypothesis import strategies as st
from snakemake.common.configfile import load_configfile

from mtkd import cli
from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.workflow import run

# A job prints what it is called with, and a notebook what it loads.
PROGRAM = '#!/bin/sh\nprintf "%s\\0" "$PWD" "$@"\n'
CELLS = ["study = overrides = None", "from mtkd.config.study import load\nload(study, overrides)"]
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = TEXTS | TEXTS.map(json.dumps)
LISTED = [
    ("exp #2", 'about="run #2"'),
    ("exp #2", "about=run #2"),
    ("a: b", "about='a; b: {c} <d>'"),
    ("-c", "about=- a"),
    ("{x}", 'about="line\\nline \\" \\\\ $HOME `id`"'),
    ("$(id)", "about='true'"),
    ("'", "about=true"),
    ("1e3", "about=2024_1"),
    ("null", "about='null'; train.epochs=9"),
    ("\n", "about={x}"),
    ("\udcff", "about=--set"),
    ("文 é", "about=文 é"),
]


class Way:
    """From a command line to a notebook's study; all is real but Snakemake's order of jobs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self.patch, self.config = folder, patch, None
        self.notebooks = folder / "notebooks"
        for name, value in {"WORK": "w", "REPORTS": "r", "NOTEBOOKS": self.notebooks}.items():
            patch.setenv(f"MTKD_{name}", str(folder / value))
        program = folder / "bin" / "mtkd"
        program.parent.mkdir()
        program.write_text(PROGRAM)
        program.chmod(0o755)
        self.notebooks.mkdir()
        cell = {"cell_type": "code", "outputs": [], "execution_count": None, "metadata": {}}
        first, second = ({**cell, "source": source} for source in CELLS)
        first["metadata"] = {"tags": ["parameters"]}
        kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
        text = {"cells": [first, second], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
        (self.notebooks / "00_data.ipynb").write_text(json.dumps(text))
        patch.setattr(run, "_snakemake", self._keep)
        patch.setattr(run, "print_results", lambda study: None)

    def _keep(self, study, arguments: list[str], logs: Path, local: bool) -> int:
        self.config = load_configfile(arguments[arguments.index("--configfile") + 1])
        return 0

    def command_line(self, *arguments: str) -> int:
        self.patch.setattr(sys, "argv", ["mtkd", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0

    def to_the_notebook(self, study: str, *overrides: str) -> tuple[int, list | None]:
        """Return the status of `mtkd run`, and what its first notebook loads."""
        self.config = None
        options = [part for override in overrides for part in ("--set", override)]
        code = self.command_line("run", *options, "--", study)
        if self.config is None:
            return code, None
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        shell = ["bash", "-c", self.config["runs"]["00_data"]["command"]]
        printed = subprocess.run(
            shell, capture_output=True, check=True, env=os.environ | {"PATH": path}
        )
        where, *called = os.fsdecode(printed.stdout).split("\0")[:-1]
        assert where == str(Path.cwd())
        loaded = []
        self.patch.setattr("mtkd.config.study.load", lambda *given: loaded.append(load(*given)))
        assert self.command_line(*called) == 0
        self.patch.setattr("mtkd.config.study.load", load)
        return code, loaded


def travels(way: Way, study: str, *overrides: str) -> None:
    """Assert that a notebook loads what `mtkd run --dry-run` does, or that both are refused."""
    code, loaded = way.to_the_notebook(study, *overrides)
    try:
        expected = load(study, overrides)
    except UserError:
        assert (code, loaded) == (2, None)
    else:
        assert (code, loaded) == (0, [expected])


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Way(tmp_path_factory.mktemp("way"), patch)


def written(folder: Path, name: str) -> Path:
    """Write a study of that name, which its file does not give."""
    lines = (STUDIES / "smallest.yaml").read_text().splitlines()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text("\n".join(x for x in lines if not x.startswith("name:")))
    return folder / f"{name}.yaml"


@settings(max_examples=12, deadline=None)
@given(NAMES.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200), VALUES)
@example("x", "a # b")
@example("#", '"a # b; {c}"')
def test_odd_texts_reach_a_notebook_as_the_dry_run_sees_them(way, folder, value):
    study = written(way.folder / "places" / folder, "odd")
    travels(way, str(study), f"about={value}", "train.epochs=3")


@pytest.mark.parametrize(("folder", "override"), LISTED)
def test_listed_texts_reach_a_notebook_from_an_odd_folder(tmp_path, monkeypatch, folder, override):
    way, place = Way(tmp_path, monkeypatch), tmp_path / folder
    written(place, "odd")
    monkeypatch.chdir(place)
    travels(way, "odd.yaml", override, "train.epochs=3")


@pytest.mark.parametrize("name", ["2024_1", "2024", "1e3", "0x1f", "true", "null", "nan", "1_000"])
def test_a_study_called_like_a_number_reaches_a_notebook(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MTKD_STUDIES", str(written(tmp_path / "studies", name).parent))
    way = Way(tmp_path, monkeypatch)
    travels(way, name)
    assert way.config["study"] == name and load(name).name == name


@pytest.fixture
def failed(tmp_path):
    """Return a function that writes logs, and tells what is said of a study with these."""
    for folder in ("logs", "notebooks"):
        (tmp_path / folder).mkdir()

    def said(**logs: str) -> str:
        for name, text in logs.items():
            suffix = "log" if name == "snakemake" else "log.err"
            (tmp_path / "logs" / f"{name}.{suffix}").write_text(text)
        return run._failure(tmp_path / "logs", started=0)

    return said


END = """
Exiting because a job execution failed. Look above for error messages
Complete log(s): /w/.snakemake/log/x.snakemake.log
Elapsed time: 0:00:00.753083
WorkflowError:
At least one job did not complete successfully.
"""


def test_what_a_stage_said_is_told(failed):
    text = "a warning\nmtkd: There is no file t.csv: correct it.\n"
    assert failed(a="", b=text, snakemake=END) == "b failed: There is no file t.csv: correct it."


def test_the_last_words_of_a_job_that_died_are_told(failed, tmp_path):
    (tmp_path / "notebooks" / "done.ipynb").touch()
    died = "bash: line 1: 10677 Killed    mtkd notebook x 02_mtdnn.s0"
    told = failed(done="a harmless warning", died=f"{died}\n\n", snakemake=END)
    assert told.startswith(f"died failed: {died} (") and "died.log.err" in told


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("Traceback …\nOSError: [Errno 30] Read-only file system: '/x'\n\n", "OSError: [Errno 30]"),
        ("Building DAG of jobs...\nMissing input files: a" + END, "Missing input files: a"),
        (
            "    message: None\n    message: SLURM-job '5' failed\n    jobid: 1" + END,
            "SLURM-job '5'",
        ),
        ("", "its log is empty"),
    ],
)
def test_the_last_words_of_snakemake_are_told(failed, log, words):
    assert failed(snakemake=log).startswith(f"The study failed: {words}")
