"""One run of a study at a time, and no process that outlives its run."""

import fcntl
import json
import os
import platform
import runpy
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
            _warn(f"Another run of {title} is under way ({_holder(lock)}); waiting for its end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            _warn(f"{lock} cannot be locked ({error.strerror}): do not run {title} twice at once.")
        file.truncate(0)
        with suppress(OSError):  # a full disk: the lock holds without a name on it
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            json.dump({"pid": os.getpid(), "host": platform.node(), "since": since}, file)
            file.flush()
        yield


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _holder(lock: Path) -> str:
    try:
        held = json.loads(lock.read_text(encoding="utf-8"))
        return f"process {held['pid']} on {held['host']} since {held['since']}, lock {lock}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"lock {lock}"


def die_with(process: int) -> None:
    """Kill this process within a moment of another's end, however that ends."""

    def alive() -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def watch() -> None:
        while alive():
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def die_with_run() -> None:
    """Kill this process with the `mtkd run` that started it, if one on this machine did."""
    if parent := os.environ.get(PARENT):
        die_with(int(parent))


if (
    __name__ == "__main__"
):  # python -m mtkd.workflow.process MODULE ARGUMENTS: a program that ends with its run
    die_with_run()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
