"""One run of a study at a time, and none of its processes outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOLD = """
import subprocess, sys, time
from pathlib import Path
from mtkd.workflow.process import alone
with alone(Path(sys.argv[1]), "study small") as lock:
    print("held", flush=True)
    if sys.argv[2:]:
        child = subprocess.Popen([sys.executable, "-c", "import time; print('child', flush=True); time.sleep(600)"], pass_fds=[lock])
        print(child.pid, flush=True)
        time.sleep(600)
"""


def holding(lock: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_second_says_who_holds_the_lock_and_waits_until_the_last_process_that_inherited_it_is_gone(
    tmp_path,
):
    first = holding(tmp_path / "work" / ".lock", "with a child")
    assert first.stdout.readline() == "held\n"
    child = int(next(line for line in first.stdout if line.strip().isdigit()))
    second = holding(tmp_path / "work" / ".lock")
    told = second.stderr.readline()
    assert told.startswith(
        f"Another run of study small is under way (process {first.pid} on {os.uname().nodename} since 20"
    ), told
    assert "waiting for its end" in told
    first.kill()
    first.wait()
    time.sleep(1)
    assert second.poll() is None, "the killed run's child still has the lock"
    os.kill(child, signal.SIGKILL)
    assert second.communicate(timeout=120)[0] == "held\n"
    assert second.returncode == 0


def test_a_lock_that_a_killed_run_left_behind_is_free(tmp_path):
    first = holding(tmp_path / ".lock", "with a child")
    first.stdout.readline()
    child = int(next(line for line in first.stdout if line.strip().isdigit()))
    for process in (child, first.pid):
        os.kill(process, signal.SIGKILL)
    first.wait()
    done = holding(tmp_path / ".lock")
    assert done.communicate(timeout=120) == ("held\n", "")


def test_a_program_ends_with_the_process_that_started_it(tmp_path):
    (tmp_path / "sleeper.py").write_text(
        "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    )
    parent = "import os, subprocess, sys; subprocess.run([sys.executable, '-m', 'mtkd.workflow.process', str(os.getpid()), 'sleeper'])"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    started = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    child = int(started.stdout.readline())
    os.kill(child, 0)
    started.kill()
    assert started.stdout.read() == ""  # the end of the pipe: its last holder, the child, is gone
    started.wait()


def test_a_program_whose_parent_is_gone_before_it_looks_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run(
        [sys.executable, "-m", "mtkd.workflow.process", str(gone.pid), "this"],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
