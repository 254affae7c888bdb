"""The GLUE server's zip of test predictions (gluebenchmark.com/faq)."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from mtkd import tasks
from mtkd.artifacts import read
from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.inference.predict import replace_file
from mtkd.stages import finetune, ranking
from mtkd.stages.common import Run
from mtkd.tasks import Task

LABELS_BY_NAME = ("mnli", "qnli", "rte")  # the other tasks' are numbers


# By name: the task whose head predicts the file, its split, and the official number of rows.
FILES = {
    "AX.tsv": ("mnli", "test", 1104),
    "CoLA.tsv": ("cola", "test", 1063),
    "MNLI-m.tsv": ("mnli", "test_matched", 9796),
    "MNLI-mm.tsv": ("mnli", "test_mismatched", 9847),
    "MRPC.tsv": ("mrpc", "test", 1725),
    "QNLI.tsv": ("qnli", "test", 5463),
    "QQP.tsv": ("qqp", "test", 390965),
    "RTE.tsv": ("rte", "test", 3000),
    "SST-2.tsv": ("sst2", "test", 1821),
    "STS-B.tsv": ("stsb", "test", 1379),
    "WNLI.tsv": ("wnli", "test", 146),
}


def write_submission(study: Study, system: str, out: Path, placeholders: bool = True) -> list[str]:
    """Write the zip of a fine-tuned system's test predictions (first seed); return notes on it.

    Tasks that the study ranks are predicted by classification and ranking together. A test set
    without predictions gets its official number of rows of the first label, and a note; or it is
    left out, where `placeholders` are not wanted.

    Raises:
        UserError: The system does not predict test sets, or its predictions lack rows.
    """
    if out.suffix != ".zip" or not out.parent.is_dir():
        raise UserError(f"{out}: give the path of a .zip file in a folder that exists.")
    if system not in study.test_predictions:
        known = ", ".join(study.test_predictions) or "no system"
        raise UserError(
            f"Study {study.name} has no test predictions of '{system}': it makes them for {known} "
            "(test_predictions)."
        )
    predictions = _read_predictions(study, system)
    if not predictions.split.str.startswith("test").any():
        raise UserError(f"Study {study.name} has no test predictions: its data lack test splits.")
    notes = []
    if study.data.source == "synthetic":
        notes.append("The examples are synthetic, not GLUE's: this zip only shows the format.")
    with replace_file(out) as partial, zipfile.ZipFile(partial, "w") as packed:
        for name, (task_name, split, num_rows) in FILES.items():
            task = tasks.get(task_name)
            rows = predictions[(predictions.task == task_name) & (predictions.split == split)]
            column = _format_predictions(task, rows, name)
            if not column and not placeholders:
                continue
            if not column:
                column = [_format_label(task, 0)] * num_rows
                notes.append(f"{name} holds placeholders: there are no predictions for it.")
            if len(column) != num_rows:
                sizes = f"{len(column)} rows, the official test set {num_rows}"
                notes.append(f"{name} has {sizes}: the server rejects it.")
            table = pd.DataFrame({"index": range(len(column)), "prediction": column})
            entry = zipfile.ZipInfo(name)  # a fixed date: same predictions, same bytes
            text = table.to_csv(sep="\t", index=False)
            packed.writestr(entry, text, zipfile.ZIP_DEFLATED)
    return notes


def write_submissions(study: Study, folder: Path) -> list[str]:
    """Write `<system>.zip` of all systems that predict GLUE's test sets, to be committed.

    They are those of `write_submission` without placeholders, which would be most of their size.
    Nothing is written of synthetic examples. Returns notes.
    """
    notes, files = [], [(task, split) for task, split, _ in FILES.values()]
    for system in study.test_predictions if study.data.source != "synthetic" else ():
        try:
            rows = _read_predictions(study, system)[["task", "split"]].drop_duplicates()
        except UserError as error:  # of an unfinished study
            notes.append(f"{system}: {error}")
            continue
        if set(rows.itertuples(index=False, name=None)) & {*files}:
            folder.mkdir(parents=True, exist_ok=True)
            written = write_submission(study, system, folder / f"{system}.zip", placeholders=False)
            notes += [f"{system}: {note}" for note in written]
    return notes


def _read_predictions(study: Study, system: str) -> pd.DataFrame:
    def read_stage(name: str) -> pd.DataFrame:
        run = Run(name, system=system, seed=study.seeds[0])
        return read(run.folder(study)).frame("predictions.parquet")

    classified = read_stage(finetune.NAME)
    if not study.ranking:
        return classified
    merged = read_stage(ranking.NAME)
    return pd.concat([classified[~classified.task.isin(study.ranking)], merged])


def _format_predictions(task: Task, rows: pd.DataFrame, name: str) -> list[str]:
    if not len(rows):
        return []
    rows = rows.sort_values("idx")
    outputs = np.stack(rows.outputs)
    if (misplaced := rows.idx.to_numpy() != np.arange(len(rows))).any():
        raise UserError(
            f"{name}: the test set's idx are not 0 to {len(rows) - 1} (number {misplaced.argmax()} "
            "is missing or doubled): use GLUE's test split, and run the study again."
        )
    values = outputs[:, 0].clip(0, 5) if task.regression else outputs.argmax(axis=1)
    return [_format_label(task, value) for value in values]


def _format_label(task: Task, value: float) -> str:
    """Return a class number or a score as the server reads it."""
    if task.regression:
        return f"{value:.3f}"
    return task.labels[int(value)] if task.name in LABELS_BY_NAME else str(int(value))
