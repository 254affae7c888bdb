"""An interactive look at the student: two texts in boxes, each task's probabilities beside its teacher's."""

import html
import os
import textwrap
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.inference import predict as answering
from mtkd.inference.load import open_model
from mtkd.report.run_plots import grid
from mtkd.report.scores import ENSEMBLE, STUDENT, title
from mtkd.report.style import Shown, colour, styled
from mtkd.report.table import number
from mtkd.stages import common as stages
from mtkd.tasks import Task
from mtkd.training.predict import probabilities
from mtkd.training.soft_targets import ensemble

OWN = (
    "The children played in the garden all afternoon.",
    "Some children were outside.",
)  # written for this page


def ask(study: Study, seed: int, first: str, second: str) -> pd.DataFrame:
    """What the student, and the teacher of each task that has one, answer to two texts (tasks of one text read the first).

    A row an answer: task, answer (a label; `score` of a regression), student and teacher (probability or score; NaN where
    the task has no teacher). A teacher is its ensemble (Eq. 3): its members are loaded one after the other.
    """
    rows, texts = [], (first, second)
    of = list(map(study.task, study.multitask))
    student = _answers(of, stages.student(study, seed), texts)
    for task in of:
        taught = np.full(task.num_outputs, np.nan)
        if task.name in study.distil.teachers:
            taught = ensemble(
                [
                    _answers([task], found, texts)[task.name]
                    for _, _, found in stages.members_of(study, task.name)
                ]
            )
        for answer, own, theirs in zip(
            task.labels or ("score",), student[task.name], taught, strict=True
        ):
            rows.append({"task": task.name, "answer": answer, "student": own, "teacher": theirs})
    return pd.DataFrame(rows)


def _answers(of: list[Task], found: Artifact, texts: tuple[str, str]) -> dict[str, np.ndarray]:
    """Probabilities (classes,) or score (1,) of one model on the texts, a task of `of` each."""
    trained = open_model(str(found.path), of[0].name)
    return {
        task.name: probabilities(
            task, answering.logits(replace(trained, task=task), [texts[: len(task.columns)]])
        )[0]
        for task in of
    }


@styled
def answers(frame: pd.DataFrame) -> Figure:
    """A panel a task of `ask`'s table: the student's probabilities (or score) above the teacher's."""
    figure, panels = grid(frame["task"].nunique(), height=1.9)
    told = []
    for panel, (name, rows) in zip(panels, frame.groupby("task", sort=False), strict=False):
        regression, said = list(rows["answer"]) == ["score"], []
        for who, system, shift in (("student", STUDENT, 0.2), ("teacher", ENSEMBLE, -0.2)):
            for place, (answer, value) in enumerate(zip(rows["answer"], rows[who], strict=True)):
                if np.isnan(value):
                    continue
                panel.barh(shift - place, value, height=0.36, color=colour(system))
                text = number(value, 1) if regression else f"{100 * value:.0f} %"
                panel.annotate(
                    text,
                    (max(value, 0), shift - place),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8.5,
                )
                said.append(f"{who} {answer} {text}")
        panel.set_yticks([-place for place in range(len(rows))], rows["answer"], fontsize=8.5)
        panel.set_ylim(0.6 - len(rows), 0.6)
        panel.set_xlim(
            0, 1.3 * max(5.0, rows[["student", "teacher"]].max(axis=None)) if regression else 1.3
        )
        panel.xaxis.set_major_locator(NullLocator())
        panel.grid(visible=False)
        panel.set_title(title(name), loc="left")
        told.append(f"{title(name)}: {', '.join(said)}")
    for words, system in (("student", STUDENT), ("its teacher", ENSEMBLE)):
        panels[0].barh(np.nan, np.nan, color=colour(system), label=words)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.set_label("; ".join(told) + ".")
    return figure


def _example(study: Study) -> tuple[str, str]:
    """A pair to begin with: of the dev sets where they are generated (real GLUE's texts are put on no page)."""
    pairs = [task for task in map(study.task, study.multitask) if len(task.columns) == 2]
    if study.data.source != "synthetic" or not pairs:
        return OWN
    row = datasets.Dataset.from_file(
        str(stages.data(study).file(f"{pairs[0].name}/{pairs[0].dev[0]}.arrow"))
    )[0]
    return tuple(row[column] for column in pairs[0].columns)


class Box:
    """Two boxes for texts and the answers to them; in a batch and on a page, the answers to an example.

    `seed` is the student's. A batch has nobody to type, so no widget is left in its notebook.
    """

    def __init__(self, study: Study, seed: int):
        self.study, self.seed, self.texts = study, seed, _example(study)

    def _figure(self, *texts: str) -> str:
        figure = answers(ask(self.study, self.seed, *texts))
        about = " and ".join(f"“{textwrap.shorten(text, 100, placeholder=' …')}”" for text in texts)
        return Shown(figure, f"Answers to {about}. {figure.get_label()}")._repr_html_()

    def _repr_mimebundle_(self, **_) -> dict:
        figure = self._figure(*self.texts)
        first, second = map(html.escape, self.texts)
        shown = f"<p>First text: <q>{first}</q><br>Second text: <q>{second}</q></p>{figure}"
        bundle = {"text/plain": f"[answers to: {' | '.join(self.texts)}]", "text/html": shown}
        return (
            bundle
            if os.environ.get("MTKD_LOG")
            else self._widget(figure)._repr_mimebundle_() | bundle
        )

    def _widget(self, figure: str):
        import ipywidgets

        wide = ipywidgets.Layout(width="100%", max_width="900px")
        boxes = [
            ipywidgets.Textarea(text, description=f"{which} text", layout=wide, rows=2)
            for which, text in zip(("First", "Second"), self.texts, strict=True)
        ]
        button, shown = (
            ipywidgets.Button(description="Ask", button_style="primary"),
            ipywidgets.HTML(figure),
        )

        def asked(_) -> None:
            button.disabled = True
            shown.value = self._figure(*(box.value for box in boxes))
            button.disabled = False

        button.on_click(asked)
        return ipywidgets.VBox([*boxes, button, shown])
