"""Where everything is: one rule for what is read, and one for what is written.

A study, a notebook or a reference is that of the current folder, or else that of the checkout or
of the installed package. Artifacts and reports go below the current folder, or to MTKD_WORK and
MTKD_REPORTS.
"""

import os
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
# What stands at the top level of a checkout is `mtkd/share` in a wheel (see pyproject.toml).
SHARE = PACKAGE / "share" if (PACKAGE / "share").is_dir() else PACKAGE.parent


def home() -> Path:
    """Return the current folder, or the one above it from within the stages' notebooks.

    So a notebook opened in `notebooks/` sees what the command line made.
    """
    return Path("..") if Path("00_data.ipynb").is_file() else Path()


def find(path: str) -> Path:
    """Return a file or folder of the current folder, or else of the checkout or the package."""
    return home() / path if (home() / path).exists() else SHARE / path


def studies() -> dict[str, Path]:
    """Return the files of the studies that are known by name; with MTKD_STUDIES, only its own."""
    given = os.environ.get("MTKD_STUDIES")
    folders = [Path(given)] if given else [SHARE / "studies", home() / "studies"]
    files = {file.stem: file for folder in folders for file in folder.glob("*.yaml")}
    return dict(sorted(files.items()))


def notebook(stage: str) -> Path:
    """Return the source notebook of a stage; with MTKD_NOTEBOOKS, the one in that folder."""
    given = os.environ.get("MTKD_NOTEBOOKS")
    return Path(given, f"{stage}.ipynb") if given else find(f"notebooks/{stage}.ipynb")


def work_folder(study_name: str) -> Path:
    """Return the folder of a study's artifacts."""
    return Path(os.environ.get("MTKD_WORK", home() / "artifacts"), study_name)


def reports(study: Any) -> Path:
    """Return the folder of a study's report; the study is given by its name or itself."""
    name = study if isinstance(study, str) else study.name
    return Path(os.environ.get("MTKD_REPORTS", home() / "reports"), name)


def reference(study_name: str) -> Path:
    """Return the folder to which `mtkd reference` writes; `find` it to read a reference."""
    return home() / "reports" / "reference" / study_name
