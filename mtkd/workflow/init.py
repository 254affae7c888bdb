"""A folder of one's own: copies of what people change, and JupyterLab on the notebooks."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mtkd import paths
from mtkd.errors import UserError

PARTS = ("notebooks", "studies", "profiles", "examples")


def copy_parts(folder: Path, parts: Sequence[str] = PARTS) -> None:
    """Copy the checkout's or the package's notebooks and so on into a folder.

    Raises:
        UserError: The folder has one of them already; nothing is copied then.
    """
    for path in (folder / part for part in parts):
        if path.exists():
            raise UserError(f"{path} exists: choose another folder, or move it away.")
    for part in parts:
        for source in sorted((paths.SHARE / part).rglob("*")):
            if source.is_file() and ".ipynb_checkpoints" not in source.parts:
                copy = folder / source.relative_to(paths.SHARE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)  # writable, even if the package is not


def open_lab(options: list[str]) -> None:
    """Go on as JupyterLab on MTKD_NOTEBOOKS or `notebooks/`, which is copied if it is missing."""
    given = os.environ.get("MTKD_NOTEBOOKS")
    notebooks = Path(given or paths.home() / "notebooks")
    if not given and not (notebooks / "00_data.ipynb").is_file():
        copy_parts(paths.home(), ["notebooks"])
    # The notebooks run in their own folder: what they compute shall be found here.
    for name, folder in (("MTKD_WORK", paths.work_folder("")), ("MTKD_REPORTS", paths.reports(""))):
        os.environ[name] = str(folder.absolute())
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *options, str(notebooks)])
