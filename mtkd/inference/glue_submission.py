"""The GLUE server's zip: eleven files of test predictions (gluebenchmark.com/faq), checked row by row."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mtkd import tasks
from mtkd.artifacts import read
from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.paths import folder
from mtkd.tasks import Task

HEADER = "index\tprediction"
WORDS = (
    "mnli",
    "qnli",
    "rte",
)  # the server takes these tasks' labels as words, the others' as numbers


@dataclass(frozen=True)
class File:
    """A file of the zip: its name, the task whose head predicts it, the split's name in that model's predictions, and the rows
    of the official test set.
    """

    name: str
    task: str
    split: str
    rows: int


FILES = (
    File("AX.tsv", "mnli", "test", 1104),
    File("CoLA.tsv", "cola", "test", 1063),
    File("MNLI-m.tsv", "mnli", "test_matched", 9796),
    File("MNLI-mm.tsv", "mnli", "test_mismatched", 9847),
    File("MRPC.tsv", "mrpc", "test", 1725),
    File("QNLI.tsv", "qnli", "test", 5463),
    File("QQP.tsv", "qqp", "test", 390965),
    File("RTE.tsv", "rte", "test", 3000),
    File("SST-2.tsv", "sst2", "test", 1821),
    File("STS-B.tsv", "stsb", "test", 1379),
    File("WNLI.tsv", "wnli", "test", 146),
)


def submit(study: Study, system: str, out: Path) -> list[str]:
    """Writes the zip of a system's test predictions (the study's first seed) and says what the server's readers should know.

    Of a task that the study ranks they are classification's and ranking's merged. A test set that the study has no
    predictions of gets the official number of rows of one label, and a line that names the file. Raises `UserError` where
    the system does not predict test sets, a stage is not done, or rows are missing or doubled.
    """
    if out.suffix != ".zip" or not out.parent.is_dir():
        raise UserError(f"{out}: give the path of a .zip file in a folder that exists.")
    if system not in study.test_predictions:
        raise UserError(
            f"Study {study.name} has no test predictions of '{system}': it makes them for "
            f"{', '.join(study.test_predictions) or 'no system'} (its field test_predictions); change that and run it again."
        )
    found, notes, contents = {}, [], {}
    for name in dict.fromkeys(file.task for file in FILES):
        if name in study.trainable:
            stage = "ranking" if name in study.ranking else "finetune"
            found[name] = read(folder(study, stage, system, f"s{study.seeds[0]}", name)).frame(
                "predictions.parquet"
            )
    for file in FILES:
        task = tasks.get(file.task)
        rows = (
            found[file.task].query("split == @file.split") if file.task in found else pd.DataFrame()
        )
        if not len(rows):
            notes.append(
                f"{file.name} holds placeholders: the study has no predictions of {task.title}'s {file.split} split."
            )
            answers = [_word(task, 0)] * file.rows
        else:
            answers = _answers(task, rows, file)
            if len(answers) != file.rows:
                notes.append(
                    f"{file.name} has {len(answers)} rows, the official test set {file.rows}: the server will not take it."
                )
        contents[file.name] = (
            "\n".join([HEADER, *(f"{row}\t{answer}" for row, answer in enumerate(answers))]) + "\n"
        )
    if sum("placeholders" in note for note in notes) == len(FILES):
        raise UserError(
            f"Study {study.name} has no test predictions of {system} at all: its data have no test splits."
        )
    if study.data.source == "synthetic":
        notes.append(
            "The study's examples are generated, not GLUE's: this zip shows the format and is nothing to submit."
        )
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, text in contents.items():
                packed.writestr(
                    zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED
                )  # a fixed date: the same bytes every time
        check(partial)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    return notes


def check(path: Path) -> None:
    """Reads a zip as the server does, row by row; `UserError` names the file and the row that it would not take."""
    with zipfile.ZipFile(path) as packed:
        if sorted(packed.namelist()) != sorted(file.name for file in FILES):
            raise UserError(
                f"{path} holds {', '.join(packed.namelist())}: the server wants {', '.join(file.name for file in FILES)}."
            )
        for file in FILES:
            task = tasks.get(file.task)
            allowed = {_word(task, number) for number in range(task.num_outputs)}
            header, *lines = packed.read(file.name).decode().splitlines()
            if header != HEADER or not lines:
                raise UserError(
                    f"{path}, {file.name}: its header is {header!r} with {len(lines)} rows below; the server wants {HEADER!r}."
                )
            for row, line in enumerate(lines):
                index, _, answer = line.partition("\t")
                good = _score(answer) if task.regression else answer in allowed
                if index != str(row) or not good:
                    raise UserError(
                        f"{path}, {file.name}, row {row}: {line!r} is not an index in order and a prediction "
                        f"({'0.000 to 5.000' if task.regression else ', '.join(sorted(allowed))})."
                    )


def _score(text: str) -> bool:
    whole, _, part = text.partition(".")
    return whole.isdecimal() and part.isdecimal() and len(part) == 3 and 0 <= float(text) <= 5


def _word(task: Task, number: int) -> str:
    if task.regression:
        return f"{number:.3f}"
    return task.labels[number] if task.name in WORDS else str(number)


def _answers(task: Task, rows: pd.DataFrame, file: File) -> list[str]:
    rows = rows.sort_values("idx")
    outputs = np.stack(rows.outputs)
    if (rows.idx.to_numpy() != np.arange(len(rows))).any():
        gap = int((rows.idx.to_numpy() != np.arange(len(rows))).argmax())
        raise UserError(
            f"{file.name}: the test set's idx are not 0 to {len(rows) - 1} (number {gap} is missing or there twice): take "
            "GLUE's test split as the hub has it, and run the study again."
        )
    if not np.isfinite(outputs).all():
        raise UserError(
            f"{file.name}: a prediction is not a number: the model diverged; train it with a smaller learning rate."
        )
    if task.regression:
        return [f"{value:.3f}" for value in outputs[:, 0].clip(0, 5)]
    return [_word(task, number) for number in outputs.argmax(axis=1)]
