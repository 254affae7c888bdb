"""Where a study's outputs lie: MTKD_WORK and MTKD_REPORTS, by default `artifacts` and `reports` of the study's home."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtkd.artifacts import fingerprint
from mtkd.study import Study, home


def folder(study: Study, stage: str, *run: str) -> Path:
    """Folder of a stage's output: one level a part of the run's name."""
    return Path(os.environ.get("MTKD_WORK", home() / "artifacts"), study.name, stage, *run)


def reports(study: Study | str) -> Path:
    """Folder of a study's report, by the study or its name."""
    return Path(os.environ.get("MTKD_REPORTS", home() / "reports"), study if isinstance(study, str) else study.name)


def checkpoint_folder(out: Path, inputs: dict) -> Path:
    """Where the training of an output keeps its state; named by its inputs, so no other training's state is taken."""
    return out.parent / f".checkpoint-{fingerprint(inputs)}"


@contextmanager
def scratch_of(path: Path) -> Iterator[Path]:
    """A folder that outlives an interruption and is removed once the block ends well."""
    yield path
    shutil.rmtree(path, ignore_errors=True)
