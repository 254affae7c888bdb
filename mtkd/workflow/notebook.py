"""A stage's notebook as a batch: papermill with an engine that runs the cells in this process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat.v4 import new_output
from papermill import execute_notebook
from papermill.engines import Engine, papermill_engines

from mtkd import paths
from mtkd.errors import UserError, explain_full_disk
from mtkd.stages import Run

MARK = "mtkd: "


class InProcess(Engine):
    """Run a notebook's cells in this process: a kernel would import everything once more."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        """Execute the code cells in order; an exception leaves its traceback in the cell and ends
        it.
        """
        shell = InteractiveShell.instance(colors="NoColor")
        shell.showtraceback = lambda *args, **options: None  # the caller reports it
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            if cell.cell_type == "code":
                error = _run_cell(shell, cell)
                if error is not None:
                    nb_man.cell_exception(cell, index, exception=error)
                    raise error
            nb_man.cell_complete(cell, index)


def _run_cell(shell: InteractiveShell, cell) -> BaseException | None:
    """Execute a cell, store its outputs in it, and return what it raised."""
    with capture_output() as captured:
        shell.display_trap.hook = sys.displayhook  # a cell's last value is captured like a display
        result = shell.run_cell(cell.source, store_history=True)
    streams = [("stdout", captured.stdout), ("stderr", captured.stderr)]
    cell.outputs = [new_output("stream", name=name, text=text) for name, text in streams if text]
    for shown in captured.outputs:
        data = new_output("display_data", data=shown.data, metadata=shown.metadata or {})
        cell.outputs.append(data)
    cell.execution_count = result.execution_count
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        failure = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
        cell.outputs.append(new_output("error", **failure))
    return error


papermill_engines.register("mtkd", InProcess)


def execute(run: Run, study: str, overrides: list[str], output: Path, log: Path) -> None:
    """Execute a run's notebook; the result goes to `output` once it has ended well.

    Progress goes to `log`. Raise `UserError` with what the notebook raised; a failed notebook is
    kept beside the log.
    """
    source = paths.notebooks() / f"{run.stage}.ipynb"
    if not source.is_file():
        raise UserError(f"There is no notebook {source}: set MTKD_NOTEBOOKS to its folder.")
    failed = log.with_suffix(".ipynb")
    parameters = {"study": study, "overrides": overrides, **run.parameters}
    with _batch_log(log), explain_full_disk(output, "MTKD_REPORTS"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        options = {"engine_name": "mtkd", "progress_bar": False, "log_output": False}
        try:
            execute_notebook(str(source), str(failed), parameters, **options)
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError):
                raise
            name, text = type(error).__name__, (str(error).splitlines() or [""])[0]
            raise UserError(f"{name}: {text} (see {failed})") from error
        os.replace(failed, output)


@contextmanager
def _batch_log(log: Path) -> Iterator[None]:
    """Name the log in MTKD_LOG for the length of the block: progress is written there."""
    before = os.environ.get("MTKD_LOG")
    os.environ["MTKD_LOG"] = str(log.absolute())
    try:
        yield
    finally:
        del os.environ["MTKD_LOG"]
        if before is not None:
            os.environ["MTKD_LOG"] = before
