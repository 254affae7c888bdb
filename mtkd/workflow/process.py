"""One run of a study at a time, and no process that outlives its run.

A run is a tree of processes (Snakemake, the server of warm starts, a fork and a kernel a notebook), and any of them may be
killed at any moment. Two rules make the next run safe: a process ends soon after its parent, and the study's lock is
inherited by all that write, so it is free only when the last of them is gone.
"""

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


@contextmanager
def alone(lock: Path, title: str) -> Iterator[int]:
    """Holds a lock for the length of the block, and gives its file descriptor: a child that inherits it holds it too.

    Where another process has it, says on stderr which one (process, machine, since when) and waits.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"Another run of {title} is under way ({_holder(lock)}); waiting for its end.",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            print(
                f"{lock} cannot be locked ({error.strerror}): let no two runs of {title} be under way.",
                file=sys.stderr,
                flush=True,
            )
        file.truncate(0)
        with suppress(OSError):  # a full disk: the lock holds without a name on it
            file.write(
                json.dumps(
                    {
                        "pid": os.getpid(),
                        "host": platform.node(),
                        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                    }
                )
            )
            file.flush()
        yield file.fileno()


def _holder(lock: Path) -> str:
    try:
        held = json.loads(lock.read_text(encoding="utf-8"))
        return f"process {held['pid']} on {held['host']} since {held['since']}, lock {lock}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"lock {lock}"


def end_with(parent: int) -> None:
    """From now on this process is killed within a moment of its parent's end, however that ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if (
    __name__ == "__main__"
):  # python -m mtkd.workflow.process PARENT MODULE ARGUMENTS: another's program that ends with its parent
    end_with(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
