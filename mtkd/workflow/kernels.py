"""Warm starts: one process imports torch and its friends once, and every notebook run of a study is a fork of it.

A notebook run costs two processes, papermill and a kernel, that each spend seconds on imports. Here a server imports
everything, and for each run forks a runner, which forks the kernel before either starts a thread. `mtkd run` starts the
server and names its socket in MTKD_WARM; without it a run imports for itself, with the same result.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.provisioning import LocalProvisioner

from mtkd.errors import UserError
from mtkd.workflow.notebook import KILLED
from mtkd.workflow.process import end_with

SOCKET = "MTKD_WARM"


@contextmanager
def server(environment: dict[str, str], lock: int, local: bool = True) -> Iterator[dict[str, str]]:
    """Runs the server for the length of the block; gives the environment under which `call` finds it.

    The server and all that it forks inherit the file descriptor `lock`. Where jobs are not `local` there is none: its
    socket is of this machine, and a job on another imports for itself.
    """
    if not local:
        yield {key: value for key, value in environment.items() if key != SOCKET}
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door:
        place = str(Path(folder, "warm.socket"))
        door.bind(place)
        door.listen(64)
        command = [
            sys.executable,
            "-m",
            "mtkd.workflow.kernels",
            str(door.fileno()),
            str(os.getpid()),
        ]
        process = subprocess.Popen(command, env=environment, pass_fds=[door.fileno(), lock])
        door.close()  # the server's alone: once it is gone, whoever waits there is told
        try:
            yield environment | {SOCKET: place}
        finally:
            process.terminate()
            process.wait()


def call(request: dict) -> bool:
    """Has the server run a notebook and waits for its end; False where no server is named.

    Raises `UserError` with what the run raised.
    """
    place = os.environ.get(SOCKET)
    if not place:
        return False
    answer = ""
    with (
        socket.socket(socket.AF_UNIX) as line,
        contextlib.suppress(OSError),
    ):  # a killed server, a killed run
        line.connect(place)
        line.sendall(json.dumps(request).encode() + b"\n")
        answer = line.makefile().readline()
    if not answer:
        raise UserError(KILLED)
    if told := json.loads(answer):
        raise UserError(told)
    return True


def serve(door: socket.socket, parent: int) -> None:
    """Imports, then forks a runner for each request until it is terminated or its study has ended."""
    import papermill  # noqa: F401

    import mtkd.report.html
    import mtkd.report.notebook
    import mtkd.stages.report  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    door.settimeout(0.2)
    while (
        os.getppid() == parent
    ):  # no thread watches here: forks must come from a process of one thread
        try:
            line, _ = door.accept()
        except TimeoutError:
            continue
        own = os.getpid()
        if os.fork() == 0:
            door.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _runner(line, own)
        line.close()


def _runner(line: socket.socket, server: int) -> None:
    """In the fork: forks the kernel, runs the notebook, and answers with what went wrong, or nothing."""
    from mtkd.workflow import notebook as notebooks

    told = ""
    try:
        request = json.loads(line.makefile().readline())
        ForkProvisioner.waiting = _Kernel(keep_closed=line)
        end_with(server)
        os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "mtkd-fork"
        notebooks.run(
            request["name"], Path(request["output"]), request["parameters"], Path(request["log"])
        )
    except UserError as error:
        told = str(error)
    except BaseException:
        told = f"it failed unexpectedly: {traceback.format_exc()}"
    with contextlib.suppress(OSError):  # who asked is gone
        line.sendall(json.dumps(told).encode() + b"\n")
    os._exit(0)


class _Kernel:
    """A forked kernel with the part of `subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, keep_closed: socket.socket):
        reads, self._writes = os.pipe()
        self.returncode: int | None = None
        runner = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._writes)
            keep_closed.close()
            _become_kernel(reads, runner)
        os.close(reads)

    def start(self, connection_file: str, environment: dict[str, str]) -> None:
        os.write(self._writes, json.dumps([connection_file, environment]).encode())
        os.close(self._writes)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _become_kernel(reads: int, runner: int) -> None:
    with os.fdopen(reads) as pipe:
        told = pipe.read()
    if told:
        from ipykernel.kernelapp import IPKernelApp

        connection_file, environment = json.loads(told)
        os.environ.update(environment)
        os.setsid()
        quiet = [
            "--IPKernelApp.log_level=40",
            f"--IPKernelApp.parent_handle={runner}",
        ]  # it ends with the runner
        IPKernelApp.launch_instance(argv=["-f", connection_file, *quiet])
    os._exit(0)


class ForkProvisioner(LocalProvisioner):
    """Starts a notebook's kernel by waking the fork that waits for it."""

    waiting: _Kernel

    async def launch_kernel(self, cmd: list[str], **kwargs) -> dict:
        self.waiting.start(cmd[cmd.index("-f") + 1], dict(kwargs["env"]))
        self.process, self.pid, self.pgid = self.waiting, self.waiting.pid, None
        return self.connection_info


if __name__ == "__main__":
    from mtkd.workflow import (
        kernels as warm,  # not __main__: the provisioner's entry point loads this module by its name
    )

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process: this one is ended by its study
    warm.serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
