"""One training shared by several processes, each on its part of every mini-batch (data parallel).

`mtkd.training.loop.train` asks accelerate for its place in the group, so it is right under whatever started the processes.
Here they are started, on this machine by `run` (a study's `train.num_processes`), or taken over by `lead` from torchrun,
`accelerate launch` or accelerate's `notebook_launcher`, on any number of machines that share MTKD_WORK.
"""

import contextlib
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

from mtkd.errors import UserError

_line: distributed.ProcessGroup | None = (
    None  # under `lead`: over which the first process tells the others what to take part in
)


def run(function: Callable, *arguments: Any, processes: int) -> None:
    """Calls `function(*arguments)` in every one of `processes` processes, where they are 1 in this one.

    What the function writes counts, not what it returns. The processes are started on this machine, never as forks of
    this one: threads and a GPU that a notebook's kernel has used do not survive a fork. All end when one fails, or this
    process is killed. Under `lead` the processes that are there take part.
    Raises `UserError` as one of them did, or where their number is not to be had.
    """
    there = int(os.environ.get("WORLD_SIZE", "1"))
    if _line is None and there > 1:
        raise UserError(
            f"This is one of {there} processes that share a training; of all commands only 'mtkd stage' does that: use it, or "
            "leave out torchrun and set train.num_processes."
        )
    if _line is not None and there != processes:
        raise UserError(
            f"The study shares a training among {processes} processes (train.num_processes) and {there} were started: start "
            f"{processes}, or set train.num_processes={there}."
        )
    if _line is not None:
        distributed.broadcast_object_list([(function, arguments)], src=0, group=_line)
    if _line is not None or processes == 1:
        function(*arguments)
    else:
        _start(function, arguments, processes)


def lead(function: Callable, *arguments: Any) -> Any:
    """`function(*arguments)` in the first process of a group; the others take part in what it shares by `run` until it is done.

    To be called in every process that torchrun or one of accelerate's launchers started. Returns the function's result
    in the first process, None in the others. A process on its own simply calls the function.
    """
    global _line
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes == 1:
        return function(*arguments)
    # The others wait here while the first does what is not shared (pre-training, soft targets): no usual limit will do.
    _line = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
    if state.is_main_process:
        result = function(*arguments)
        distributed.broadcast_object_list([None], src=0, group=_line)
        return result
    while True:
        received = [None]
        try:
            distributed.broadcast_object_list(received, src=0, group=_line)
        except RuntimeError:  # the line is dead
            raise UserError(
                "The first process of the group has ended; its own message says why."
            ) from None
        if received[0] is None:
            return None
        shared, given = received[0]
        with contextlib.suppress(UserError):  # the first process met it too, and tells it
            shared(*given)


def _start(function: Callable, arguments: tuple, processes: int) -> None:
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise UserError(
            f"train.num_processes is {processes} and this machine has {torch.cuda.device_count()} GPUs: set train.num_processes to as "
            "many at most, or start the stage on several machines (torchrun --no-python mtkd stage)."
        )
    # A fork server imports once for all of them; but where there is a GPU, an import may touch it and spoil the forks.
    method = "spawn" if torch.cuda.is_available() else "forkserver"
    context = torch.multiprocessing.get_context(method)
    context.set_forkserver_preload([function.__module__])
    # As bytes, so that each process has weights of its own: torch would hand all of them the same memory.
    call = pickle.dumps((function, arguments))
    with tempfile.TemporaryDirectory() as folder:
        lifeline, kept = context.Pipe(
            duplex=False
        )  # it breaks when this process ends; a fork server may outlive it
        given = (processes, folder, dict(os.environ), torch.get_num_threads(), call, lifeline)
        group = start_processes(
            _take_part, given, nprocs=processes, join=False, start_method=method
        )
        try:
            while not group.join(grace_period=10):
                pass
        except (ProcessRaisedException, ProcessExitedException) as error:
            if (told := Path(folder, "told")).is_file():
                raise UserError(told.read_text(encoding="utf-8")) from None
            if isinstance(error, ProcessExitedException):
                raise UserError(
                    f"One of the {processes} processes of the training was killed ({error.msg}; out of memory?); run the same "
                    "command again to go on from its last checkpoint."
                ) from None
            raise
        finally:
            for process in group.processes:
                process.kill()
                process.join()
            kept.close()


def _take_part(
    rank: int,
    processes: int,
    folder: str,
    environment: dict[str, str],
    threads: int,
    call: bytes,
    lifeline: Connection,
) -> None:
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    os.environ.update(
        environment
        | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "OMP_NUM_THREADS": str(threads),
        }
    )
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's name need not resolve
    torch.set_num_threads(threads)
    # They find each other by a file, so there is no port to be free.
    PartialState(
        cpu=not torch.cuda.is_available(),
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=processes,
    )
    try:
        function, arguments = pickle.loads(call)
        function(*arguments)
    except UserError as error:
        Path(folder, f"told.{rank}").write_text(str(error), encoding="utf-8")
        Path(folder, f"told.{rank}").replace(Path(folder, "told"))
        raise
    distributed.destroy_process_group()


def _end_with(lifeline: Connection) -> None:
    """Ends this process when the one that started the training ends, whatever ended it."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
