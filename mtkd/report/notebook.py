"""What a stage's notebook shows of its own output: small tables and the curve of pre-training."""

import datasets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.report import tables
from mtkd.report.figures import show
from mtkd.report.run_plots import learning_curves, soft_targets
from mtkd.report.scores import title
from mtkd.report.style import blank, nothing, styled
from mtkd.report.table import NONE, Table, count, number

__all__ = [
    "curve_of",
    "examples",
    "learning_curves",
    "origin",
    "pretraining",
    "scores",
    "selection",
    "show",
    "sizes",
    "soft_targets",
]


def examples(study: Study, data: Artifact) -> Table:
    """The first example of each task's train set (of AX's test set) with its label's name, where the data are generated.

    Real GLUE's texts and a study's own belong to their owners and are not put on a page that may be published.
    """
    shown = [study.task(name) for name in study.tasks if name not in study.own_tasks]
    if not shown:
        return Table(
            "examples",
            "Examples",
            pd.DataFrame(),
            [
                "The tasks are the study's own: no row of them is shown on this page, which "
                "may be published."
            ],
        )
    if study.data.source != "synthetic":
        return Table(
            "examples",
            "Examples",
            pd.DataFrame(),
            [
                "GLUE's texts belong to their owners under each corpus's own terms: no "
                "row of them is shown on this page."
            ],
        )
    rows, known = [], data.json("fingerprints.json")
    for task in shown:
        split = task.train or task.test[0]
        if split not in known[task.name]:  # AX, where examples are held back
            continue
        first = datasets.Dataset.from_file(str(data.file(f"{task.name}/{split}.arrow")))[0]
        label = (
            number(first["label"])
            if task.regression
            else task.labels[first["label"]]
            if first["label"] >= 0
            else NONE
        )
        texts = " ‖ ".join(first[column] for column in task.columns)
        rows.append(
            {
                "Task": task.title,
                "Text": texts if len(texts) < 300 else f"{texts[:300]} …",
                "Label": label,
            }
        )
    return Table(
        "examples",
        "An example of each task (‖ parts the two texts)",
        pd.DataFrame(rows),
        words=True,
    )


def sizes(study: Study, data: Artifact) -> Table:
    """Table 1 before anything is tokenised: without the word pieces an example."""
    table = data.frame("sizes.csv")
    return tables.table1(
        table.assign(pieces=np.nan, metrics=[study.task(name).metrics for name in table.task])
    )


def origin(found: dict) -> Table:
    """Where an encoder comes from, by its origin.json."""
    rows = [
        (
            "From",
            "a checkpoint, taken as it is"
            if found["from"] == "checkpoint"
            else "pre-training in this study",
        )
    ]
    if "checkpoint" in found:
        rows.append(("Checkpoint", found["checkpoint"]))
    rows += [(key.replace("_", " "), str(value)) for key, value in found.get("recipe", {}).items()]
    if found.get("loss"):
        rows += [
            ("Word pieces trained on", count(found["tokens"])),
            ("Seconds", number(found["seconds"])),
            ("Masked-LM loss at the end", number(found["loss"][-1][1], 2)),
        ]
    return Table("origin", "The encoder", pd.DataFrame(rows, columns=["What", "Value"]), words=True)


@styled
def pretraining(found: dict) -> Figure:
    """Masked-LM loss by step, from an encoder's origin.json."""
    if not found.get("loss"):
        return nothing("The encoder is a checkpoint; it was not pre-trained here.")
    steps, losses = np.array(found["loss"], dtype=float).T
    figure = blank(7, 3)
    axes = figure.subplots()
    axes.plot(steps, losses)
    axes.set(xlabel="step", ylabel="masked-LM loss (nats)")
    figure.set_label(
        f"Masked-LM loss falls from {losses[0]:.2f} to {losses[-1]:.2f} over {int(steps[-1])} steps"
    )
    return figure


def scores(ensemble: pd.DataFrame, members: pd.DataFrame | None = None) -> Table:
    """Dev scores in percent, a row a task, split and metric; an ensemble's members stand beside it."""
    rows = []
    for row in ensemble.itertuples():
        cells = {
            "Task": title(row.task),
            "Split": row.split,
            "Metric": row.metric,
            "Score": number(row.value),
            "Examples": count(row.n),
        }
        if members is not None:
            same = members[(members.split == row.split) & (members.metric == row.metric)]
            cells |= {found.candidate: number(found.value) for found in same.itertuples()}
        rows.append(cells)
    return Table("scores", "Dev scores in percent", pd.DataFrame(rows))


def selection(table: pd.DataFrame) -> Table:
    """The candidates, best first, by the mean dev score of the tasks they are selected on."""
    on = [
        column
        for column in table.columns
        if column not in ("candidate", "encoder", "dropout", "mean", "kept")
    ]
    rows = [
        {
            "Candidate": row["candidate"],
            **{title(name): number(row[name]) for name in on},
            "Mean": number(row["mean"]),
            "Kept": "**yes**" if row["kept"] else "no",
        }
        for row in table.to_dict("records")
    ]
    return Table("selection", "Candidates", pd.DataFrame(rows))


def curve_of(found: Artifact, system: str, seed: int) -> pd.DataFrame:
    """A run's curve.csv with the columns that `learning_curves` takes."""
    return found.frame("curve.csv").assign(run=found.path.name, system=system, seed=seed)
