"""One run of a study at a time, and no process that outlives its run."""

import fcntl
import os
import platform
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARENT = "MTKD_RUN_PID"  # of the `mtkd run` that started a notebook on this machine


@contextmanager
def exclusive_run(lock: Path, title: str) -> Iterator[None]:
    """Hold a lock for the length of the block; if another process holds it, say which and wait."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read_text(encoding="utf-8")
            _warn(f"Another run of {title} is under way ({holder}, {lock}); waiting for its end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks
            _warn(f"{lock} cannot be locked ({error.strerror}): do not run {title} twice at once.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def die_with_run() -> None:
    """Kill this process within a moment of the end of the `mtkd run` that started it, if any."""
    if run := os.environ.get(PARENT):
        threading.Thread(target=_watch, args=(int(run),), daemon=True).start()


def _watch(process: int) -> None:
    try:
        while True:
            os.kill(process, 0)
            time.sleep(0.2)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":  # python -m mtkd.workflow.process MODULE ARGUMENTS
    die_with_run()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
