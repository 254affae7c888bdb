"""What the stages' notebooks show of their output, as small tables."""

import datasets
import pandas as pd

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.report import tables
from mtkd.report.scores import dev, title
from mtkd.report.table import NONE, Table, count, number


def examples(study: Study, data: Artifact) -> Table:
    """Return each synthetic task's first training example with its label's name.

    Texts of GLUE and of a study's own tasks belong to their owners and stay off pages.
    """
    rows, caption = [], "An example of each task (‖ separates two texts)"
    if study.data.source != "synthetic":
        note = "The texts belong to their owners: none is shown on a page that may be published."
        return Table("examples", caption, pd.DataFrame({"Task": []}), [note])
    for task in (study.task(name) for name in study.tasks if name not in study.own_tasks):
        path = f"{task.name}/{task.train or task.test[0]}.arrow"
        if path not in data.record["files"]:  # a set without examples
            continue
        first = datasets.Dataset.from_file(str(data.file(path)))[0]
        label = number(first["label"]) if task.regression else NONE
        if not task.regression and first["label"] >= 0:
            label = task.labels[first["label"]]
        text = " ‖ ".join(first[column] for column in task.columns)
        rows.append({"Task": task.title, "Text": text, "Label": label})
    return Table("examples", caption, pd.DataFrame(rows))


def sizes(study: Study, data: Artifact) -> Table:
    """Return Table 1 of the study's data."""
    return tables.table1(data.frame("sizes.csv"), list(map(study.task, study.tasks)))


def lengths(frame: pd.DataFrame) -> Table:
    """Return how many word pieces the examples have, and how many are cut (lengths.csv)."""
    columns = {
        "Task": frame["task"].map(title),
        "Split": frame["split"],
        "Examples": frame["examples"].map(count),
        "Word pieces": frame["mean"].map(number),
        "Longest": frame["longest"].map(count),
        "Cut, %": frame["cut"].map(lambda percent: number(percent, 2)),
    }
    return Table("lengths", "Word pieces of an example", pd.DataFrame(columns))


def origin(about: dict) -> Table:
    """Return where an encoder is from (origin.json)."""
    rows = {key: value for key, value in about.items() if key not in ("recipe", "loss")}
    rows |= about.get("recipe", {})
    rows = {key.replace("_", " "): str(value) for key, value in rows.items() if value is not None}
    frame = pd.DataFrame({"What": list(rows), "Value": list(rows.values())})
    return Table("origin", "The encoder", frame)


def scores(rows: pd.DataFrame, members: pd.DataFrame | None = None, by: tuple = ()) -> Table:
    """Return dev scores in percent by task, split, metric and the columns `by`.

    `rows` is the frame of scores.csv, `members` of members.csv: those of fine-tuned candidates.
    """
    keys = [*by, "task", "split", "metric"]
    frame = dev(rows).set_index(keys)[["value", "n"]]
    shown = pd.DataFrame({"Score": frame["value"].map(number), "Examples": frame["n"].map(count)})
    if members is not None:
        wide = members.pivot(index=keys, columns="candidate", values="value")
        shown = shown.join(wide.map(number))
    shown = shown.rename(index=title, level="task").reset_index()
    shown = shown.rename(columns={key: key.capitalize() for key in keys})
    return Table("scores", "Dev scores in percent", shown)


def selection(frame: pd.DataFrame) -> Table:
    """Return the candidates, best first (selection.csv)."""
    shown = frame.drop(columns=["encoder", "dropout", "seed"]).rename(columns=title)
    values = shown.columns.difference(["candidate", "kept"])
    shown[values] = shown[values].map(number)
    shown["kept"] = shown["kept"].map({True: "**yes**", False: "no"})
    return Table("selection", "Candidates", shown)


def curve_of(artifact: Artifact, system: str, seed: int) -> pd.DataFrame:
    """Return a run's curve.csv with the columns that `figures.learning_curves` takes."""
    return artifact.frame("curve.csv").assign(run=artifact.path.name, system=system, seed=seed)
