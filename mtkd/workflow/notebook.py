"""Notebooks as batches: papermill behind one function, with unknown parameters refused."""

import ast
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtkd.artifacts import sync
from mtkd.errors import UserError, full_disk_told

MARK = "mtkd: "
STARTS = 3
KILLED = "the run was killed (out of memory?); run the same command again to go on from its last checkpoint."


def folder() -> Path:
    """Where the source notebooks lie: MTKD_NOTEBOOKS, default `notebooks` of this checkout."""
    return Path(os.environ.get("MTKD_NOTEBOOKS", Path(__file__).resolve().parents[2] / "notebooks"))


def run(name: str, output: Path, parameters: dict, log: Path) -> None:
    """Executes `notebooks/<name>.ipynb` with parameters; the executed notebook goes to `output` once it has ended well.

    Progress goes to `log`. Raises `UserError` for an unknown notebook or parameter, and for what the notebook raised;
    a failed notebook is kept beside the log.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    every = {path.stem: path for path in sorted(folder().glob("*.ipynb"))}
    if name not in every:
        raise UserError(f"There is no notebook '{name}': the notebooks are {', '.join(every)}.")
    source = every[name]
    known = papermill.inspect_notebook(str(source))
    if unknown := [key for key in parameters if key not in known]:
        raise UserError(
            f"Notebook {name} has no parameter '{unknown[0]}': its parameters are {', '.join(known)}."
        )
    for key, value in parameters.items():
        _check(name, key, value, ast.literal_eval(known[key]["default"]))
    failed = log.with_suffix(".ipynb")
    with _as_batch(log), full_disk_told(output, "MTKD_REPORTS"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            _execute(source, failed, parameters)
        except PapermillExecutionError as error:
            lines = str(error.evalue).strip().splitlines() or [error.ename]
            told = (
                lines[0]
                if error.ename == "UserError"
                else f"{error.ename}: {lines[0]} (see {failed})"
            )
            raise UserError(told) from None
        except DeadKernelError:
            raise UserError(KILLED) from None
        sync(failed)
        os.replace(failed, output)


def _execute(source: Path, output: Path, parameters: dict) -> None:
    """Papermill's run, begun again where its kernel dies as it starts: jupyter_client looks for free ports and lets go of
    them until the kernel takes them, so another kernel that starts meanwhile may be the first.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    for left in reversed(range(STARTS)):
        try:
            papermill.execute_notebook(
                str(source),
                str(output),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
            )
            return
        except DeadKernelError:
            raise
        except RuntimeError as error:
            if not left:
                raise UserError(
                    f"No kernel started for notebook {source.stem} in {STARTS} tries ({error}): try again."
                ) from None


@contextmanager
def _as_batch(log: Path) -> Iterator[None]:
    """MTKD_LOG names the log for the kernel that is started; afterwards it is as it was, so a later notebook shows its bars and boxes."""
    before = os.environ.get("MTKD_LOG")
    os.environ["MTKD_LOG"] = str(log.absolute())
    try:
        yield
    finally:
        del os.environ["MTKD_LOG"]
        if before is not None:
            os.environ["MTKD_LOG"] = before


def _check(name: str, key: str, value: Any, default: Any) -> None:
    """`UserError` for a parameter of another type than its default in the notebook; a whole number is a number too."""
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool):
        raise UserError(
            f"Notebook {name}: the parameter {key} is {json.dumps(value)}: give a value such as {json.dumps(default)}."
        )
