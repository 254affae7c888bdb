"""A stage's notebook as a batch: papermill with an engine that runs the cells in this process."""

import os
import sys
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
        """Execute the code cells in order, until one raises an error."""
        shell = InteractiveShell.instance(colors="NoColor")
        shell.showtraceback = lambda *args, **options: None  # the caller reports it
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            if cell.cell_type == "code" and (error := _run_cell(shell, cell)):
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
    cell.outputs += [
        new_output("display_data", data=shown.data, metadata=shown.metadata or {})
        for shown in captured.outputs
    ]
    cell.execution_count = result.execution_count
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        failure = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
        cell.outputs.append(new_output("error", **failure))
    return error


papermill_engines.register("mtkd", InProcess)


def execute(run: Run, study: str, overrides: list[str], output: Path, log: Path) -> None:
    """Execute a run's notebook; the result goes to `output` once it has ended well.

    From here on, this process writes progress to `log` (MTKD_LOG). Raise `UserError` with what the
    notebook raised; a failed notebook is kept beside the log.
    """
    source = paths.notebook(run.stage)
    if not source.is_file():
        raise UserError(f"There is no notebook {source}: set MTKD_NOTEBOOKS to its folder.")
    os.environ["MTKD_LOG"] = str(log.absolute())
    failed = log.with_suffix(".ipynb")
    parameters = {"study": study, "overrides": overrides, **run.parameters}
    options = {"engine_name": "mtkd", "progress_bar": False, "log_output": False}
    with explain_full_disk(output, "MTKD_REPORTS"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            execute_notebook(str(source), str(failed), parameters, **options)
        except (UserError, OSError):
            raise
        except Exception as error:
            name, text = type(error).__name__, (str(error).splitlines() or [""])[0]
            raise UserError(f"{name}: {text} (see {failed})") from error
        os.replace(failed, output)
