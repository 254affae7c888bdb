"""Where studies, artifacts and reports are: MTKD_STUDIES, MTKD_WORK and MTKD_REPORTS."""

import os
from pathlib import Path
from typing import Any


def home() -> Path:
    """Return the folder that has `studies/`: the current one, else the checkout.

    So a notebook opened in `notebooks/` sees what the command line made.
    """
    checkout = Path(__file__).resolve().parent.parent
    return checkout if not Path("studies").is_dir() and (checkout / "studies").is_dir() else Path()


def studies_folder() -> Path:
    """Return the folder of the studies that are known by name."""
    return Path(os.environ.get("MTKD_STUDIES", home() / "studies"))


def work_folder(study_name: str) -> Path:
    """Return the folder of a study's artifacts."""
    return Path(os.environ.get("MTKD_WORK", home() / "artifacts"), study_name)


def reports(study: Any) -> Path:
    """Return the folder of a study's report; the study is given by its name or itself."""
    name = study if isinstance(study, str) else study.name
    return Path(os.environ.get("MTKD_REPORTS", home() / "reports"), name)


def reference(study_name: str) -> Path:
    """Return the folder of the study's reference report in the checkout."""
    return home() / "reports" / "reference" / study_name


def notebooks() -> Path:
    """Return the folder of the source notebooks: MTKD_NOTEBOOKS, or `notebooks` of the checkout."""
    checkout = Path(__file__).resolve().parent.parent
    return Path(os.environ.get("MTKD_NOTEBOOKS", checkout / "notebooks"))
