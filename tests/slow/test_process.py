"""One run of a study at a time, and none of its processes outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow
HOLD = """
import sys, time
from pathlib import Path
from mtkd.workflow.process import exclusive_run
with exclusive_run(Path(sys.argv[1]), "study small"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(*command: str, **environment: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], env=environment, **pipes)


def hold(lock: Path, seconds: float) -> subprocess.Popen:
    return start("-c", HOLD, str(lock), str(seconds))


def test_a_second_run_says_who_holds_the_lock_and_waits_even_for_a_killed_one(tmp_path):
    first = hold(tmp_path / "work" / ".lock", 600)
    assert first.stdout.readline() == "held\n"
    second = hold(tmp_path / "work" / ".lock", 0)
    printed = second.stderr.readline()
    holder = f"process {first.pid} on {os.uname().nodename}"
    assert printed.startswith(f"Another run of study small is under way ({holder}"), printed
    assert "waiting for its end" in printed and second.poll() is None
    first.kill()  # what it held is free
    assert second.communicate(timeout=120)[0] == "held\n" and second.returncode == 0
    first.communicate()


def test_a_program_ends_with_the_run_that_started_it(tmp_path):
    sleep = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    (tmp_path / "sleeper.py").write_text(sleep)
    parent = start("-c", "import time; time.sleep(600)")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = ("-m", "mtkd.workflow.process", "sleeper")
    child = start(*command, MTKD_RUN_PID=str(parent.pid), PYTHONPATH=path)
    assert int(child.stdout.readline()) == child.pid
    time.sleep(0.5)
    assert child.poll() is None
    parent.kill()
    parent.communicate()
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL


def test_a_program_whose_run_is_gone_before_it_looks_ends_at_once():
    gone = start("-c", "")
    gone.communicate()
    child = start("-m", "mtkd.workflow.process", "this", MTKD_RUN_PID=str(gone.pid))
    child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL
