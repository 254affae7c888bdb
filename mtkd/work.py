"""Where a study's outputs lie: MTKD_WORK and MTKD_REPORTS, by default `artifacts` and `reports` of the study's home."""

import os
from pathlib import Path

from mtkd.study import Study, home


def folder(study: Study, stage: str, *run: str) -> Path:
    """Folder of a stage's output: one level a part of the run's name."""
    return Path(os.environ.get("MTKD_WORK", home() / "artifacts"), study.name, stage, *run)


def reports(study: Study | str) -> Path:
    """Folder of a study's report, by the study or its name."""
    return Path(os.environ.get("MTKD_REPORTS", home() / "reports"), study if isinstance(study, str) else study.name)
