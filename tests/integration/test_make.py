"""The Makefile, with stand-ins for Python: what it does in which order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

PYTHON = """#!/bin/sh
case "$*" in
  "-m venv .venv")
    echo venv >> log; sleep 1; mkdir -p .venv/bin
    for name in python uv mtkd; do cp stand-in .venv/bin/$name; done ;;
  "-c "*) exec {python} "$@" ;;
  *) echo "$@" >> log ;;
esac
"""
OLD = "import sys; sys.version_info, sys.version = (3, 11, 2), '3.11.2 (main)'; "
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key != "CORES" and not key.startswith("MAKE")
}


def make_study(folder: Path, python: str) -> list[str]:
    """Fill a folder in which a stand-in for Python sets up; return the command."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    stand_in = folder / "stand-in"
    stand_in.write_text(python)
    stand_in.chmod(0o755)
    return ["make", "study", f"MTKD_PYTHON={stand_in}"]


def test_two_at_once_set_up_once_and_a_third_not_at_all(tmp_path):
    command = make_study(tmp_path, PYTHON.format(python=sys.executable))
    both = [subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True)
    log = (tmp_path / "log").read_text().splitlines()
    assert log.count("venv") == 1 and sum("pip install" in line for line in log) == 2, log
    assert log[-3:] == ["run quick -c 2"] * 3, log


def test_a_python_too_old_is_refused_before_anything_is_made(tmp_path):
    code = f"{OLD}exec(sys.argv.pop(1))"
    script = f'#!/bin/sh\nshift\nexec {sys.executable} -c "{code}" "$@"\n'
    command = make_study(tmp_path, script)
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode != 0
    text = f"mtkd needs Python 3.11.5 or later, and {tmp_path / 'stand-in'} is 3.11.2: name another"
    assert text in done.stderr
    assert [path.name for path in (tmp_path / ".venv").iterdir()] == [".setup.lock"]
