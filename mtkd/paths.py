"""Where a study's outputs lie: MTKD_WORK and MTKD_REPORTS, by default `artifacts` and `reports` of the study's home."""

import os
from pathlib import Path


def home() -> Path:
    """The folder that studies, artifacts and reports lie in: this one where it has `studies/`, else the checkout.

    So a notebook opened in `notebooks/` finds what the command line made.
    """
    checkout = Path(__file__).resolve().parent.parent
    return checkout if not Path("studies").is_dir() and (checkout / "studies").is_dir() else Path()


def folder(study, stage: str, *run: str) -> Path:
    """Folder of a stage's output: one level a part of the run's name."""
    return Path(os.environ.get("MTKD_WORK", home() / "artifacts"), study.name, stage, *run)


def reports(study) -> Path:
    """Folder of a study's report, by the study or its name."""
    return Path(
        os.environ.get("MTKD_REPORTS", home() / "reports"),
        study if isinstance(study, str) else study.name,
    )


def notebooks() -> Path:
    """Return the folder of the source notebooks: MTKD_NOTEBOOKS, or `notebooks` of the checkout."""
    return Path(
        os.environ.get("MTKD_NOTEBOOKS", Path(__file__).resolve().parent.parent / "notebooks")
    )
