"""One training shared by several processes, each on its part of every mini-batch (data parallel).

The processes are started by torchrun, `accelerate launch` or accelerate's `notebook_launcher`, on
any number of machines that share MTKD_WORK.
"""

import contextlib
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed

from mtkd.errors import UserError

_calls: distributed.ProcessGroup | None = None  # under `lead_group`: takes calls to all processes


def run_on_all(function: Callable, *args: Any, num_processes: int) -> Any:
    """Call `function(*args)` in all `num_processes` processes of the group, or in this one alone.

    Only the first process of a group calls this; the others take part by `lead_group`. Returns the
    function's result in the first process. Raises `UserError` where the group has another size.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and _calls is None:
        raise UserError(
            f"{processes} processes run this command, and only 'mtkd stage' shares a training: "
            "start it without torchrun."
        )
    if processes != num_processes:
        raise UserError(
            f"train.num_processes is {num_processes} and the number of processes {processes}: set "
            f"train.num_processes={processes}, or start the stage by 'torchrun --nproc-per-node "
            f"{num_processes} --no-python mtkd stage STUDY RUN'."
        )
    if _calls is not None:
        distributed.broadcast_object_list([(function, args)], src=0, group=_calls)
    return function(*args)


def lead_group(function: Callable, *args: Any) -> Any:
    """Call `function(*args)` in the first process; the others wait for its calls of `run_on_all`.

    To be called in every process of the group. Returns the function's result in the first process,
    None in the others. A process without a group simply calls the function.
    """
    global _calls
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes == 1:
        return function(*args)
    # Long: the others wait here while the first pre-trains or predicts soft targets.
    _calls = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
    if state.is_main_process:
        result = function(*args)
        distributed.broadcast_object_list([None], src=0, group=_calls)
        return result
    while True:
        call = [None]
        try:
            distributed.broadcast_object_list(call, src=0, group=_calls)
        except RuntimeError:
            raise UserError("The first process of the group has ended; see its message.") from None
        if call[0] is None:
            return None
        shared, arguments = call[0]
        with contextlib.suppress(UserError):  # the first process has raised it too
            shared(*arguments)
