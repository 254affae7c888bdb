"""What the stages' notebooks show of their output: small tables, and the curve of pre-training."""

import datasets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.report import tables
from mtkd.report.scores import title
from mtkd.report.style import empty_figure, new_figure, styled
from mtkd.report.table import NONE, Table, count, number


def examples(study: Study, data: Artifact) -> Table:
    """Return each synthetic task's first training example with its label's name.

    Texts of GLUE and of a study's own tasks belong to their owners and stay off pages.
    """
    if study.data.source != "synthetic":
        note = "The texts belong to their owners: none is shown on a page that may be published."
        return Table("examples", "Examples", pd.DataFrame(), [note])
    rows, known = [], data.json("fingerprints.json")
    for task in (study.task(name) for name in study.tasks if name not in study.own_tasks):
        split = task.train or task.test[0]
        if split not in known[task.name]:  # a set without examples
            continue
        first = datasets.Dataset.from_file(str(data.file(f"{task.name}/{split}.arrow")))[0]
        label = number(first["label"]) if task.regression else NONE
        if not task.regression and first["label"] >= 0:
            label = task.labels[first["label"]]
        text = " ‖ ".join(first[column] for column in task.columns)
        rows.append({"Task": task.title, "Text": text, "Label": label})
    caption = "An example of each task (‖ separates two texts)"
    return Table("examples", caption, pd.DataFrame(rows), all_prose=True)


def sizes(study: Study, data: Artifact) -> Table:
    """Return Table 1 before tokenising: without word pieces."""
    frame = data.frame("sizes.csv")
    metrics = [study.task(name).metrics for name in frame["task"]]
    return tables.table1(frame.assign(pieces=np.nan, metrics=metrics))


def origin(about: dict) -> Table:
    """Return where an encoder is from (origin.json)."""
    rows = {"From": about["from"], "Checkpoint": about.get("checkpoint")}
    rows |= {key.replace("_", " "): value for key, value in about.get("recipe", {}).items()}
    if about.get("loss"):
        rows |= {"Word pieces trained on": count(about["tokens"])}
        rows |= {"Seconds": number(about["seconds"])}
        rows |= {"Masked-LM loss at the end": number(about["loss"][-1][1], 2)}
    rows = {key: str(value) for key, value in rows.items() if value is not None}
    frame = pd.DataFrame({"What": list(rows), "Value": list(rows.values())})
    return Table("origin", "The encoder", frame, all_prose=True)


@styled
def pretraining(about: dict) -> Figure:
    """Draw the masked-LM loss by step (origin.json)."""
    if not about.get("loss"):
        return empty_figure("The encoder is a checkpoint; it was not pre-trained here.")
    steps, losses = np.array(about["loss"], dtype=float).T
    figure = new_figure(7, 3)
    axes = figure.subplots()
    axes.plot(steps, losses)
    axes.set(xlabel="step", ylabel="masked-LM loss (nats)")
    change = f"from {losses[0]:.2f} to {losses[-1]:.2f} over {int(steps[-1])} steps"
    figure.set_label(f"Masked-LM loss falls {change}")
    return figure


def scores(rows: pd.DataFrame, members: pd.DataFrame | None = None) -> Table:
    """Return dev scores in percent by task, split and metric, with those of an ensemble's members.

    `rows` is the frame of scores.csv, `members` of members.csv.
    """
    keys = ["task", "split", "metric"]
    frame = rows.set_index(keys)[["value", "n"]]
    shown = pd.DataFrame({"Score": frame["value"].map(number), "Examples": frame["n"].map(count)})
    if members is not None:
        wide = members.pivot(index=keys, columns="candidate", values="value")
        shown = shown.join(wide.map(number))
    shown = shown.rename(index=title, level="task").reset_index()
    shown = shown.rename(columns=dict(zip(keys, map(str.capitalize, keys), strict=True)))
    return Table("scores", "Dev scores in percent", shown)


def selection(frame: pd.DataFrame) -> Table:
    """Return the candidates, best first (selection.csv)."""
    shown = frame.drop(columns=["encoder", "dropout"]).rename(columns=title)
    values = shown.columns.difference(["candidate", "kept"])
    shown[values] = shown[values].map(number)
    shown["kept"] = shown["kept"].map({True: "**yes**", False: "no"})
    names = {"candidate": "Candidate", "mean": "Mean", "kept": "Kept"}
    return Table("selection", "Candidates", shown.rename(columns=names))


def curve_of(artifact: Artifact, system: str, seed: int) -> pd.DataFrame:
    """Return a run's curve.csv with the columns that `run_plots.learning_curves` takes."""
    return artifact.frame("curve.csv").assign(run=artifact.path.name, system=system, seed=seed)
