"""The "ask the student" box of notebook 04: predictions for two texts, student beside teachers."""

import html
import os
from dataclasses import replace
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import HTML, display

from mtkd.artifacts import read
from mtkd.config.study import Study
from mtkd.inference.load import load_model
from mtkd.inference.predict import predict_logits
from mtkd.stages import data, student, teacher
from mtkd.stages.common import Run
from mtkd.tasks import Task
from mtkd.training.predict import probabilities
from mtkd.training.soft_targets import average_members

EXAMPLE = (  # written for this page
    "The children played in the garden all afternoon.",
    "Some children were outside.",
)


def ask(study: Study, seed: int, first: str, second: str) -> pd.DataFrame:
    """Predict every task for two texts by a student and by the tasks' teachers.

    Tasks of one text read the first; those with several labels each, and of candidates, are left
    out. A teacher is
    its ensemble's average (MT-DNN_KD, Eq. 3).

    Returns:
        A row per class: task (title), prediction (class, or `score` for a regression), student and
        teacher (probability or score; NaN where the task has no teacher).
    """
    tasks = map(study.task, study.multitask)
    tasks = [task for task in tasks if not (task.by_unit or task.clustered)]
    students = _predict(Run(student.NAME, seed=seed).folder(study), tasks, (first, second))
    parts = []
    for task in tasks:
        average = np.nan
        if task.name in study.distil.teachers:
            folders = [member.path for _, member in teacher.members(study, task.name)]
            members = [_predict(folder, [task], (first, second)) for folder in folders]
            average = average_members([member[task.name] for member in members])
        values = {"prediction": task.labels or ("score",), "student": students[task.name]}
        parts.append(pd.DataFrame({"task": task.title, **values, "teacher": average}))
    return pd.concat(parts, ignore_index=True)


def _predict(folder: Path, tasks: list[Task], texts: tuple[str, str]) -> dict[str, np.ndarray]:
    """Return probabilities (classes,) or a score (1,) by task."""
    trained = load_model(str(folder), tasks[0].name)
    logits = {
        task.name: predict_logits(replace(trained, task=task), [texts[: len(task.columns)]])[0]
        for task in tasks
    }
    return {task.name: probabilities(task, logits[task.name]) for task in tasks}


def predictions_table(texts: tuple[str, str], frame: pd.DataFrame) -> str:
    """Return two texts and the rows of `ask` as HTML."""
    first, second = map(html.escape, texts)
    table = frame.set_index(["task", "prediction"])
    shown = table.to_html(float_format="{:.2f}".format, na_rep="", border=0)
    return f"<p>First text: <q>{first}</q><br>Second text: <q>{second}</q></p>{shown}"


def example_texts(study: Study) -> tuple[str, str]:
    """Return a pair of a synthetic dev set; rows of real data appear on no page."""
    pairs = [task for task in map(study.task, study.multitask) if len(task.columns) == 2]
    if study.data.source != "synthetic" or not pairs:
        return EXAMPLE
    examples = read(Run(data.NAME).folder(study))
    row = data.read_splits(examples, pairs[0])[pairs[0].dev[0]][0]
    return tuple(row[column] for column in pairs[0].columns)


def show_box(study: Study, seed: int) -> None:
    """Show text boxes and a button for predictions; in a batch, the predictions for an example."""

    def show(first: str, second: str) -> None:
        frame = ask(study, seed, first, second)
        display(HTML(predictions_table((first, second), frame)))

    texts = example_texts(study)
    if os.environ.get("MTKD_LOG"):
        show(*texts)
        return
    boxes = (ipywidgets.Textarea(text, layout={"width": "95%"}) for text in texts)
    interact = ipywidgets.interact_manual.options(manual_name="Ask")
    interact(show, **dict(zip(("first", "second"), boxes, strict=True)))
