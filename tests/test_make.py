"""The Makefile, with stand-ins for Python: what it does in which order."""

import os
import shutil
import subprocess
import sys

from conftest import ROOT

PYTHON = """#!/bin/sh
case "$*" in
  "-m venv .venv") echo venv >> log; sleep 1; mkdir -p .venv/bin; for name in python uv mtkd; do cp stand-in .venv/bin/$name; done ;;
  "-c "*) exec {python} "$@" ;;
  *) echo "$@" >> log ;;
esac
"""


def test_two_at_once_set_up_once_and_a_third_not_at_all(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(PYTHON.format(python=sys.executable))
    stand_in.chmod(0o755)
    command = ["make", "study", f"MTKD_PYTHON={stand_in}"]
    environment = {key: value for key, value in os.environ.items() if key != "CORES" and not key.startswith("MAKE")}
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment) for _ in range(2)]
    assert [made.wait(timeout=120) for made in both] == [0, 0]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    log = (tmp_path / "log").read_text().splitlines()
    assert log.count("venv") == 1 and sum("pip install" in line for line in log) == 2, log
    assert log[-3:] == ["run quick -c 2"] * 3, log
