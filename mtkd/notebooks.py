"""Notebooks as batches: papermill behind one function, with unknown parameters refused."""

import os
from pathlib import Path

from mtkd.artifacts import sync
from mtkd.errors import UserError, full_disk_told

MARK = "mtkd: "
KILLED = "the run was killed (out of memory?); run the same command again to go on from its last checkpoint."


def folder() -> Path:
    """Where the source notebooks lie: MTKD_NOTEBOOKS, default `notebooks` of this checkout."""
    return Path(os.environ.get("MTKD_NOTEBOOKS", Path(__file__).resolve().parent.parent / "notebooks"))


def run(name: str, output: Path, parameters: dict, log: Path) -> None:
    """Executes `notebooks/<name>.ipynb` with parameters; the executed notebook goes to `output` once it has ended well.

    Progress goes to `log`. Raises `UserError` for an unknown notebook or parameter, and for what the notebook raised;
    a failed notebook is kept beside the log.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source = folder() / f"{name}.ipynb"
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in folder().glob("*.ipynb")))
        raise UserError(f"There is no notebook '{name}': the notebooks are {known}.")
    known = papermill.inspect_notebook(str(source))
    if unknown := [key for key in parameters if key not in known]:
        raise UserError(f"Notebook {name} has no parameter '{unknown[0]}': its parameters are {', '.join(known)}.")
    failed = log.with_suffix(".ipynb")
    os.environ["MTKD_LOG"] = str(log.absolute())
    with full_disk_told(output, "MTKD_REPORTS"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            papermill.execute_notebook(str(source), str(failed), parameters, kernel_name="python3", progress_bar=False, log_output=False)
        except PapermillExecutionError as error:
            lines = str(error.evalue).strip().splitlines() or [error.ename]
            told = lines[0] if error.ename == "UserError" else f"{error.ename}: {lines[0]} (see {failed})"
            raise UserError(told) from None
        except DeadKernelError:
            raise UserError(KILLED) from None
        sync(failed)
        os.replace(failed, output)
