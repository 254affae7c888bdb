"""Tables 1 to 3 beside the published ones, the summary, and what made a report."""

from dataclasses import dataclass

import pandas as pd

from mtkd import tasks
from mtkd.report import published
from mtkd.report import scores as scored
from mtkd.report.scores import BASE, ENSEMBLE, in_order, name, title
from mtkd.report.significance import Compared, span
from mtkd.report.table import NONE, Table, count, number, spread

GAIN = "vs. MT-DNN (95 % interval)"
PUBLISHED = "Published train/dev/test"
METRICS = {"accuracy": "acc", "f1": "F1", "matthews": "Matthews"}
METRICS |= {"pearson": "Pearson", "spearman": "Spearman"}


def millions(results: pd.DataFrame, system: str) -> str:
    """Return a system's parameters in millions."""
    largest = results.loc[results["system"] == system, "params"].max()
    return NONE if pd.isna(largest) else f"{largest / 1e6:.1f} M"


def seeds_of(results: pd.DataFrame, system: str) -> str:
    """Return how many seeds a system has."""
    return str(results.loc[results["system"] == system, "seed"].nunique() or NONE)


def summary(results: pd.DataFrame, comparisons: pd.DataFrame) -> Table:
    """Return the main systems: size, average, and gain over MT-DNN with its 95 % interval.

    `results` and `comparisons` are the frames of results.csv and comparisons.csv.
    """
    turned = comparisons.rename(columns={"a": "b", "b": "a", "low": "high", "high": "low"})
    turned[["difference", "low", "high"]] *= -1
    compared, rows = Compared(pd.concat([comparisons, turned], ignore_index=True)), []
    by_system = scored.averages(results)
    for system in filter(scored.is_main, scored.systems(scored.dev(results))):
        values = by_system.loc[by_system["system"] == system, "average"]
        cells = {"System": name(system), "Parameters": millions(results, system)}
        cells |= {"Seeds": seeds_of(results, system), "Dev average": spread(values), GAIN: NONE}
        frame = scored.gains(results, compared, student=system)
        if "average" in frame.index and system != BASE:
            row = frame.loc["average"]
            between = f" ({span(row)})" if span(row) else ""
            cells[GAIN] = number(row["gain"], 2, sign=True) + between
        rows.append(cells)
    columns = ["System", "Parameters", "Seeds", "Dev average", GAIN]
    over = f"Percent, averaged over {', '.join(map(title, scored.averaged(results))) or 'no task'}."
    return Table("summary", "Dev scores", pd.DataFrame(rows, columns=columns), [over])


def closing_table(results: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Return `summary` as text of at most 100 columns, for the end of a run."""
    return summary(results, comparisons).text()


def table1(sizes: pd.DataFrame) -> Table:
    """Return Table 1 from the data themselves, one row per task, beside the published sizes."""
    known, present = published.table1(), set(sizes["task"])
    names = dict.fromkeys([*(task for task in known.index if task in present), *sizes["task"]])
    frame = pd.DataFrame(_size_row(sizes[sizes["task"] == task], known) for task in names)
    missing = sizes[sizes["missing"].astype(bool)].groupby("title", sort=False)["split"]
    notes = [f"{corpus}: these data lack {', '.join(gone)}." for corpus, gone in missing]
    notes.append(
        "Sizes of several splits are joined by +. Majority: share of the most frequent class. Dev "
        "in train: share of the dev examples that the train set has too. Words and word pieces: "
        "means per example."
    )
    if not scored.beside_the_paper(sizes):
        frame = frame.drop(columns=PUBLISHED)
    elif absent := [known.loc[task, "corpus"] for task in known.index if task not in present]:
        notes.append(f"Not in this study: {', '.join(absent)}.")
    return Table("table1", "Table 1: the tasks", frame, notes)


def _size_row(rows: pd.DataFrame, known: pd.DataFrame) -> dict:
    """Return a task's row of Table 1."""
    first = rows.iloc[0]
    task, labels = first["task"], rows["labels"].dropna()
    metrics = tasks.GLUE[task].metrics if task in tasks.GLUE else first.get("metrics", ())

    def joined(role: str) -> str:
        splits = rows[rows["role"] == role].itertuples()
        return " + ".join(NONE if row.missing else count(row.examples) for row in splits) or NONE

    def mean(column: str, *roles: str) -> str:
        """Return the mean per example of the first role that has any."""
        present = rows[~rows["missing"].astype(bool)].dropna(subset=[column, "examples"])
        for role in roles:
            part = present[present["role"] == role]
            if total := part["examples"].sum():
                return number(float((part[column] * part["examples"]).sum() / total))
        return NONE

    row = {"Corpus": str(first["title"]), "Kind": str(first["kind"])}
    row |= {"Train": joined("train"), "Dev": joined("dev"), "Test": joined("test")}
    official = known.loc[task, ["train", "dev", "test"]] if task in known.index else [NONE]
    label = labels.iloc[0] if len(labels) else None
    return row | {
        PUBLISHED: "/".join(official),
        "Labels": label if isinstance(label, str) else count(label),
        "Metrics": "/".join(METRICS[metric] for metric in metrics) or NONE,
        "Majority of dev, %": mean("majority", "dev", "train"),
        "Words": mean("words", "train", "dev", "test"),
        "Word pieces": mean("pieces", "train", "dev", "test"),
        "Dev in train, %": mean("overlap", "dev"),
    }


def table2() -> Table:
    """Return the published test scores; a run has none, as GLUE's test labels are not public."""
    frame = published.table2().replace("-", NONE).rename(columns=title)
    frame = frame.rename(columns={"MNLI": "MNLI-m/mm", "score": "Score"})
    note = (
        f"From the GLUE server, 1 April 2019 ({published.SOURCE}): QQP and MRPC as F1/accuracy, "
        "STS-B as Pearson/Spearman, CoLA and AX as Matthews correlation, else accuracy. Snorkel "
        "MeTaL is an ensemble."
    )
    frame = frame.rename_axis("Model").reset_index()
    return Table("table2", "Table 2: published test scores, percent", frame, [note])


@dataclass(frozen=True)
class _Column:
    """A column of Table 3: its label, and the (split suffix, metric) of each of its numbers."""

    label: str
    numbers: tuple[tuple[str, str], ...]

    def values(self, rows: pd.DataFrame) -> list[pd.Series]:
        """Return the values of each number, one per seed."""
        chosen = [
            rows["split"].str.endswith(suffix) & (rows["metric"] == metric)
            for suffix, metric in self.numbers
        ]
        return [rows.loc[chosen_rows, "value"].dropna() for chosen_rows in chosen]


def _column(task: str, rows: pd.DataFrame) -> _Column:
    if task == "mnli":
        halves = ("_matched", "accuracy"), ("_mismatched", "accuracy")
        return _Column("MNLI-m/mm acc", halves)
    metrics = tasks.GLUE[task].metrics if task in tasks.GLUE else dict.fromkeys(rows["metric"])
    label = f"{title(task)} {'/'.join(METRICS[metric] for metric in metrics)}"
    return _Column(label, tuple(("", metric) for metric in metrics))


def _cell(values: list[pd.Series], best: list[float]) -> str:
    """Return mean ± standard deviation of each number; bold where its mean as shown is `best`."""
    texts = [spread(part) for part in values]
    if all(text == NONE for text in texts):
        return NONE
    for index, part in enumerate(values):
        if len(part) and round(float(part.mean()), 1) == best[index]:
            texts[index] = f"**{texts[index]}**"
    return " / ".join(texts)


def _best(values: dict[str, list[pd.Series]]) -> list[float]:
    """Return the best mean as shown of each number; NaN where fewer than two models compete."""
    means = pd.DataFrame({system: [p.mean() for p in parts] for system, parts in values.items()})
    means = means.astype(float).round(1)
    return list(means.max(axis=1).where(means.notna().sum(axis=1) > 1))


def table3(results: pd.DataFrame) -> Table:
    """Return Table 3: dev scores by system and task, mean ± standard deviation over seeds.

    Bold is the best single model of this study, by the mean as shown. Published rows are beneath.
    """
    rows, paper = scored.dev(results), scored.beside_the_paper(results)
    names = in_order([*(published.TASKS if paper else ()), *rows["task"]])
    columns = {task: _column(task, rows[rows["task"] == task]) for task in names}
    columns["average"] = _Column("Average", (("", "average"),))
    averages = scored.averages(results).rename(columns={"average": "value"})
    averages = averages.assign(task="average", split="", metric="average")
    every, systems = pd.concat([rows, averages], ignore_index=True), scored.systems(rows)
    body = {
        system: {
            "Model": name(system),
            "Seeds": seeds_of(rows, system),
            "Params": millions(rows, system),
        }
        for system in systems
    }
    for task, column in columns.items():
        of_task = every[every["task"] == task]
        values = {one: column.values(of_task[of_task["system"] == one]) for one in systems}
        single = {one: values[one] for one in systems if not one.startswith(ENSEMBLE)}
        best = _best(single) or [float("nan")] * len(column.numbers)
        for system in systems:
            body[system][column.label] = _cell(values[system], best)
    frame = pd.DataFrame([*body.values(), *(_published_rows(columns) if paper else ())])
    notes, divide = _notes3(results), (len(systems),)
    return Table("table3", "Table 3: dev scores, percent", frame, notes, divide)


def _published_rows(columns: dict[str, _Column]) -> list[dict]:
    """Return the rows of the published Table 3 under these columns."""
    frame = published.table3(accuracy_first=True)
    frame["average"] = published.scores().mean(axis=1).map(number)
    rows = []
    for system, row in frame.iterrows():
        model = "BERT-large" if system == "bert" else name(system)
        cells = {column.label: row.get(task, NONE) for task, column in columns.items()}
        cells = {label: cell.replace("/", " / ") for label, cell in cells.items()}
        rows.append({"Model": f"{model} (published)", "Seeds": NONE, "Params": NONE, **cells})
    return rows


def _notes3(results: pd.DataFrame) -> list[str]:
    """Return how to read Table 3."""
    over, paper = scored.averaged(results), scored.beside_the_paper(results)
    notes = [
        f"Mean ± standard deviation over seeds. Bold: the best single model of this study. {NONE}: "
        "no score.",
        f"Average over {', '.join(map(title, over)) or 'no task'}; a task's score is the mean of "
        "its numbers." + " WNLI is not averaged: the published table lacks it." * paper,
        f"Published: {published.SOURCE}, Table 3, BERT-large and all of GLUE; averages are "
        "computed here. MRPC is printed there as F1/accuracy and reversed here.",
    ]
    return notes if paper else notes[:2]


def provenance(run: dict) -> Table:
    """Return what made the report, from run.json, with the stages' notes below."""
    run = {key: value for key, value in run.items() if key != "study"}
    notes = [str(note) for note in run.pop("notes", None) or []]
    if seconds := run.get("seconds"):
        total = {"all stages": sum(seconds.values())}
        run["seconds"] = {stage: _duration(value) for stage, value in (seconds | total).items()}
    frame = pd.DataFrame({"What": list(run), "Value": list(map(_flat, run.values()))})
    return Table("provenance", "What made this report", frame, notes, all_prose=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _flat(value) -> str:
    if isinstance(value, dict):
        return " · ".join(f"{key}: {_flat(inner)}" for key, inner in value.items()) or NONE
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value)) or NONE
    return NONE if value is None else str(value)
