"""Where a study runs: odd folders, no place but the study's own to write to, other terminals."""

import io
import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT, STUDIES

from mtkd import cli

MAIN = [sys.executable, "-c", "from mtkd.cli import main; main()"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["exp #2; {x}: 'é'", "/proc"])  # nobody can write to the latter
def test_a_study_needs_no_place_but_its_own(tmp_path, where):
    # All is real but the first notebook, which fails.
    place = tmp_path / where
    place.mkdir(exist_ok=True)
    (tmp_path / "2024_1.yaml").write_text(
        (STUDIES / "smallest.yaml").read_text().replace("name: smallest\n", "")
    )
    (tmp_path / "file").touch()
    cell = {"cell_type": "code", "outputs": [], "execution_count": None, "metadata": {}}
    cells = [
        {**cell, "source": "study = overrides = None", "metadata": {"tags": ["parameters"]}},
        {
            **cell,
            "source": "from mtkd.errors import UserError\nraise UserError(f'{study} {overrides}')",
        },
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    text = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
    (tmp_path / "00_data.ipynb").write_text(json.dumps(text))
    folders = {f"MTKD_{name}": str(tmp_path / name) for name in ("WORK", "REPORTS")}
    folders |= {"MTKD_NOTEBOOKS": str(tmp_path), "HOME": str(tmp_path / "file" / "home")}
    environment = os.environ | folders | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    environment.pop("XDG_CACHE_HOME", None)
    study = str(tmp_path / "2024_1.yaml")
    command = [*MAIN, "run", study, "--set", 'about="run #2; {x}: é"', "--set", "train.epochs=3"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True)
    said = done.stderr.decode("latin-1").splitlines()[-1]
    overrides = ['about="run #2; {x}: é"', "train.epochs=3"]
    assert said == f"mtkd: 00_data failed: {study} {overrides}"
    assert done.returncode == 2
    assert (tmp_path / "WORK" / "2024_1" / "workflow" / ".snakemake").is_dir()
    assert where == "/proc" or not any(place.iterdir())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed):
    shell = ["bash", "-c", f'"$@" {closed}', "bash", *MAIN, "run", "none"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert ("There is no study" in done.stderr) == ("2>&-" not in closed)


def test_nobody_answers_at_a_closed_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    cli._prepare_streams()
    assert sys.stdin.isatty() and sys.stdin.readline() == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_terminal_shows_what_it_can(monkeypatch, encoding):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    cli._prepare_streams()
    print("−0.5 – ± 1 · 文", flush=True)
    shown = terminal.buffer.getvalue().decode(encoding)
    expected = {"latin-1": "-0.5 - ± 1 · ?", "ascii": "-0.5 - +- 1 - ?", "utf-8": "−0.5 – ± 1 · 文"}
    assert shown == f"{expected[encoding]}\n"
