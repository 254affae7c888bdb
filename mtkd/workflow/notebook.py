"""A stage's notebook as a batch: papermill behind one function."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtkd import paths
from mtkd.errors import UserError, explain_full_disk
from mtkd.stages import Run

MARK = "mtkd: "
TRIES = 3
KILLED = "the kernel was killed (out of memory?); run again to go on from its last checkpoint."


def execute(run: Run, study: str, overrides: list[str], output: Path, log: Path) -> None:
    """Execute a run's notebook; the result goes to `output` once it has ended well.

    Progress goes to `log`. Raise `UserError` with what the notebook raised; a failed notebook is
    kept beside the log.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source = paths.notebooks() / f"{run.stage}.ipynb"
    if not source.is_file():
        raise UserError(
            f"There is no notebook {source}: set MTKD_NOTEBOOKS to the folder that has it."
        )
    failed = log.with_suffix(".ipynb")
    with _batch_log(log), explain_full_disk(output, "MTKD_REPORTS"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        parameters = {"study": study, "overrides": overrides, **run.parameters}
        try:
            _papermill(source, failed, parameters)
        except PapermillExecutionError as error:
            lines = str(error.evalue).strip().splitlines() or [error.ename]
            detail = f"{error.ename}: {lines[0]} (see {failed})"
            raise UserError(lines[0] if error.ename == "UserError" else detail) from None
        except DeadKernelError:
            raise UserError(KILLED) from None
        os.replace(failed, output)


def _papermill(source: Path, output: Path, parameters: dict) -> None:
    """Run papermill; again where the kernel dies as it starts.

    jupyter_client looks for free ports and lets go of them until the kernel takes them: another may
    be faster.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    options = {"kernel_name": "python3", "progress_bar": False, "log_output": False}
    for left in reversed(range(TRIES)):
        try:
            papermill.execute_notebook(str(source), str(output), parameters, **options)
            return
        except DeadKernelError:
            raise
        except RuntimeError as error:
            if not left:
                raise UserError(
                    f"No kernel started for {source.stem} ({error}): try again."
                ) from None


@contextmanager
def _batch_log(log: Path) -> Iterator[None]:
    """Name the log for the kernel in MTKD_LOG, and restore the variable afterwards."""
    before = os.environ.get("MTKD_LOG")
    os.environ["MTKD_LOG"] = str(log.absolute())
    try:
        yield
    finally:
        del os.environ["MTKD_LOG"]
        if before is not None:
            os.environ["MTKD_LOG"] = before
