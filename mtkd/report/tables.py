"""Tables 1, 2 and 3 beside the published ones, gains and provenance: each a `Table` (frame, Markdown, CSV, HTML)."""

import pandas as pd

from mtkd import tasks
from mtkd.report import published
from mtkd.report import scores as figures
from mtkd.report.scores import ENSEMBLE, gains, name, title
from mtkd.report.significance import METHOD, Compared, span
from mtkd.report.table import NONE, Table, count, number, percent

PUBLISHED = "Published train/dev/test"
_METRICS = {
    "accuracy": "acc",
    "f1": "F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def table1(sizes: pd.DataFrame) -> Table:
    """Table 1 from the data themselves, one row a task; published sizes in their own column."""
    known, rows, notes = published.table1(), [], []
    present = list(dict.fromkeys(sizes["task"]))
    names = [
        *(t for t in known.index if t in present),
        *(t for t in present if t not in known.index),
    ]
    for task in names:
        part = sizes[sizes["task"] == task]
        rows.append(_size_row(task, part, known))
        gone = part[part["missing"].astype(bool)]
        if len(gone):
            splits = ", ".join(gone["split"])
            notes.append(
                f"{part['title'].iloc[0]}: {splits} of the official release is missing in these data."
            )
    notes.append(
        "Sizes of several splits are joined by +. Majority: share of the most frequent class. Dev in train: share of "
        "the dev examples that also stand in the train set. Words and word pieces: means an example."
    )
    frame = pd.DataFrame(rows)
    if not figures.beside_the_paper(sizes):
        frame = frame.drop(columns=PUBLISHED)
    elif absent := [known.loc[task, "corpus"] for task in known.index if task not in names]:
        notes.append(f"Not in this study: {', '.join(absent)}.")
    return Table("table1", "Table 1: the tasks, from the data themselves", frame, notes)


def _size_row(task: str, part: pd.DataFrame, known: pd.DataFrame) -> dict:
    def joined(role: str) -> str:
        splits = part[part["role"] == role]
        return (
            " + ".join(NONE if row.missing else count(row.examples) for row in splits.itertuples())
            or NONE
        )

    def mean(column: str, roles=("train", "dev", "test"), digits: int = 1) -> str:
        """Of the first role that has it: the splits' mean, weighted by their examples."""
        for role in roles:
            rows = part[(part["role"] == role) & ~part["missing"].astype(bool)].dropna(
                subset=[column, "examples"]
            )
            if len(rows) and rows["examples"].sum():
                return number(
                    float((rows[column] * rows["examples"]).sum() / rows["examples"].sum()), digits
                )
        return NONE

    official = known.loc[task] if task in known.index else None
    measured = (
        tasks.GLUE[task].metrics
        if task in tasks.GLUE
        else part["metrics"].iloc[0]
        if "metrics" in part
        else ()
    )
    metrics = "/".join(_METRICS[metric] for metric in measured) or NONE
    labels = part["labels"].dropna()
    return {
        "Corpus": str(part["title"].iloc[0]),
        "Kind": str(part["kind"].iloc[0]),
        "Train": joined("train"),
        "Dev": joined("dev"),
        "Test": joined("test"),
        PUBLISHED: NONE if official is None else "/".join(official[["train", "dev", "test"]]),
        "Labels": NONE
        if not len(labels)
        else str(labels.iloc[0])
        if isinstance(labels.iloc[0], str)
        else count(labels.iloc[0]),
        "Metrics": metrics,
        "Majority of dev, %": mean("majority", ("dev", "train")),
        "Words": mean("words"),
        "Word pieces": mean("pieces"),
        "Dev in train, %": mean("overlap", ("dev",)),
    }


def table2(results: pd.DataFrame) -> Table:
    """Table 2: published test scores; below them ours on test splits whose labels are to be had."""
    if not figures.beside_the_paper(results):
        note = "The published test scores are of GLUE's tasks: this study has none of them."
        return Table("table2", "Table 2: test scores, percent", pd.DataFrame(), [note])
    shown = published.table2()
    columns = {
        task: f"{title(task)}{'-m/mm' if task == 'mnli' else ''}"
        for task in shown.columns
        if task != "score"
    }
    rows = []
    for model, row in shown.iterrows():
        cells = {columns[task]: row[task].replace("-", NONE) for task in columns}
        rows.append({"Model": f"{model} (published)", **cells, "Score": row["score"]})
    notes = [
        f"Published test scores ({published.SOURCE}) come from the GLUE server, 1 April 2019: QQP and MRPC as "
        "F1/accuracy, STS-B as Pearson/Spearman, CoLA and AX as Matthews correlation, else accuracy. Snorkel MeTaL is "
        "an ensemble."
    ]
    tested = results[results["split"].astype(str).str.startswith("test")]
    for system in figures.systems(tested) if len(tested) else []:
        part = tested[tested["system"] == system]
        cells = {
            columns[task]: _cell(part[part["task"] == task], _order(task, f1_first=True))
            for task in columns
        }
        rows.append({"Model": name(system), **cells, "Score": NONE})
    if len(tested):
        notes.append("Ours: scored on test splits with labels, not by the GLUE server.")
    else:
        notes.append(
            "Ours have no row: GLUE's test labels are hidden, and only its server scores them."
        )
    return Table(
        "table2", "Table 2: test scores, percent", pd.DataFrame(rows), notes, divide=(len(shown),)
    )


def _order(task: str, f1_first: bool = False) -> list[tuple[str | None, str]]:
    """The (split suffix, metric) of a cell's numbers in order."""
    if task == "mnli":
        return [("_matched", "accuracy"), ("_mismatched", "accuracy")]
    metrics = tasks.GLUE[task].metrics if task in tasks.GLUE else ()
    return [
        (None, metric)
        for metric in (reversed(metrics) if f1_first and metrics[0] == "accuracy" else metrics)
    ]


def _values(rows: pd.DataFrame, suffix: str | None, metric: str) -> pd.Series:
    chosen = rows[rows["metric"] == metric]
    return (chosen[chosen["split"].str.endswith(suffix)] if suffix else chosen)["value"].dropna()


def _cell(rows: pd.DataFrame, order: list, best: list[float | None] = ()) -> str:
    """Mean ± standard deviation over seeds of every number of a cell; bold where the mean as shown is the best."""
    texts = []
    for place, (suffix, metric) in enumerate(order):
        values = _values(rows, suffix, metric)
        text = number(values.mean()) + (
            f" ± {number(values.std(ddof=1))}" if len(values) > 1 else ""
        )
        top = best[place] if place < len(best) else None
        texts.append(
            f"**{text}**"
            if top is not None and len(values) and round(float(values.mean()), 1) == top
            else text
        )
    return NONE if not texts or all(text == NONE for text in texts) else " / ".join(texts)


def _best(rows: pd.DataFrame, order: list) -> list[float | None]:
    """The best mean as shown, for every number of a cell, among the single models."""
    single = rows[~rows["system"].str.startswith(ENSEMBLE)]
    tops = []
    for suffix, metric in order:
        means = [_values(part, suffix, metric).mean() for _, part in single.groupby("system")]
        means = [round(float(mean), 1) for mean in means if pd.notna(mean)]
        tops.append(max(means) if len(means) > 1 else None)
    return tops


def _column(task: str, order: list) -> str:
    if task == "mnli":
        return "MNLI-m/mm acc"
    return f"{title(task)} {'/'.join(_METRICS[metric] for _, metric in order)}"


def table3(results: pd.DataFrame) -> Table:
    """Table 3: dev scores by system and task, mean ± standard deviation over seeds; published rows beneath.

    Bold is the best single model of this study, by the mean as shown; an ensemble is not a single model.
    """
    rows = figures.dev(results)
    paper = figures.beside_the_paper(results)
    names = figures.in_order([*(published.TASKS if paper else ()), *rows["task"]])
    scored = {task: dict.fromkeys(rows[rows["task"] == task]["metric"]) for task in names}
    orders = {task: _order(task) or [(None, metric) for metric in scored[task]] for task in names}
    columns = {task: _column(task, orders[task]) for task in names}
    best = {task: _best(rows[rows["task"] == task], orders[task]) for task in names}
    averages = figures.averages(results)
    means = averages.groupby("system")["average"].mean()
    single = {
        system: round(float(mean), 1)
        for system, mean in means.items()
        if not system.startswith(ENSEMBLE)
    }
    body = []
    for system in figures.systems(rows):
        part = rows[rows["system"] == system]
        cells = {columns[t]: _cell(part[part["task"] == t], orders[t], best[t]) for t in names}
        values = averages.loc[averages["system"] == system, "average"]
        text = number(values.mean()) + (
            f" ± {number(values.std(ddof=1))}" if len(values) > 1 else ""
        )
        top = len(single) > 1 and single.get(system) == max(single.values())
        body.append(
            {
                "Model": name(system),
                "Seeds": str(part["seed"].nunique() or NONE),
                "Params": _millions(part),
                **cells,
                "Average": f"**{text}**" if top else text,
            }
        )
    beneath = published.table3(accuracy_first=True).head(None if paper else 0)
    overall = published.scores().mean(axis=1)
    for system, row in beneath.iterrows():
        cells = {
            columns[task]: row[task].replace("/", " / ") if task in row.index else NONE
            for task in names
        }
        model = ("BERT-large" if system == "bert" else name(system)) + " (published)"
        body.append(
            {
                "Model": model,
                "Seeds": NONE,
                "Params": NONE,
                **cells,
                "Average": number(overall[system]),
            }
        )
    frame = pd.DataFrame(body)
    divide = (len(frame) - len(beneath),)
    return Table("table3", "Table 3: dev scores, percent", frame, _notes3(results, rows), divide)


def _millions(part: pd.DataFrame) -> str:
    sizes = part["params"].dropna()
    return f"{sizes.max() / 1e6:.1f} M" if len(sizes) else NONE


def _notes3(results: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """What a reader of Table 3 must know, and everything that is missing."""
    counted = figures.averaged(results)
    notes = [
        "Mean ± standard deviation over seeds. Bold: the best single model of this study; an ensemble is not one.",
        f"Average: over {', '.join(map(title, counted)) or 'no task'}; a task's score is the mean of its numbers.",
    ]
    if paper := figures.beside_the_paper(results):
        notes[-1] += " WNLI is not averaged: the published table lacks it."
        notes.append(
            f"Published: {published.SOURCE}, Table 3, BERT-large and all of GLUE. MRPC is printed there as F1/accuracy "
            "and turned round here; the averages are worked out from the cells."
        )
    if absent := [
        title(task) for task in published.TASKS if paper and task not in set(rows["task"])
    ]:
        notes.append(f"{NONE}: not in this study: {', '.join(absent)}.")
    mnli = rows[rows["task"] == "mnli"]
    gone = [
        half
        for half in ("matched", "mismatched")
        if not mnli["split"].str.endswith(f"_{half}").any()
    ]
    if len(mnli) and gone:
        notes.append(f"{NONE}: these data have no dev scores of MNLI {' and '.join(gone)}.")
    for system in figures.systems(rows):
        part = rows[rows["system"] == system]
        if lacking := [
            title(t) for t in figures.in_order(rows["task"]) if t not in set(part["task"])
        ]:
            tail = "; so no average is given for it." if set(counted) - set(part["task"]) else "."
            notes.append(f"{name(system)} has no score on {', '.join(lacking)}{tail}")
    marked = figures.scores(results)
    for row in marked[~marked["complete"].astype(bool)].itertuples():
        seed = "" if pd.isna(row.seed) else f", seed {int(row.seed)}"
        who = f"{name(row.system)}{seed}"
        notes.append(
            f"{who} lacks a metric or split of {title(row.task)}: left out of averages and gains."
        )
    return notes


def gains_table(results: pd.DataFrame, compared: Compared | None = None) -> Table:
    """`gains` for reading: MT-DNN_KD and the ensembles against MT-DNN, beside the published gains."""
    frame, paper = gains(results, compared), published.gains()
    rows = []
    for task, row in frame.iterrows():
        official = paper.loc[task] if task in paper.index else None
        rows.append(
            {
                "Task": "**Average**" if task == "average" else title(task),
                "Seeds": str(int(row.seeds)),
                "MT-DNN": number(row.base),
                "MT-DNN_KD": number(row.student),
                "Gain": number(row.gain, 2, sign=True),
                "95 % interval": span(row) or NONE,
                "p": NONE if pd.isna(row.p) else f"{row.p:.3f}",
                "Ensemble's gain": number(row.ensemble_gain, 2, sign=True),
                "Share kept": percent(row.kept),
                "Gain, published": NONE
                if official is None
                else number(official.gain, 2, sign=True),
                "Share kept, published": NONE if official is None else percent(official.kept),
            }
        )
    notes = [
        f"Points over MT-DNN, paired by seed. {METHOD} Share kept: the student's gain over the ensemble's, given only where "
        "the ensemble gains.",
        f"Published: worked out from Table 3 of {published.SOURCE}.",
    ]
    found = pd.DataFrame(rows)
    if not figures.beside_the_paper(results):
        notes, found = notes[:1], found.iloc[:, :-2]
    overall = (len(rows) - 1,) if "average" in frame.index else ()
    return Table("gains", "What distillation gains", found, notes, divide=overall)


def provenance(run: dict) -> Table:
    """What made the report, from run.json: commit, machine, packages, encoders, seconds a stage; notes below."""
    rows = []
    for key, value in run.items():
        if key in ("study", "notes"):
            continue
        if key == "seconds" and isinstance(value, dict):
            spent = [v for v in value.values() if isinstance(v, (int, float))]
            value = {
                **{stage: _duration(v) for stage, v in value.items()},
                "all stages": _duration(sum(spent)),
            }
        rows.append({"What": str(key), "Value": _flat(value)})
    return Table(
        "provenance",
        "What made this report",
        pd.DataFrame(rows, columns=["What", "Value"]),
        [str(note) for note in run.get("notes") or []],
        words=True,
    )


def _duration(seconds) -> str:
    if not isinstance(seconds, (int, float)):
        return _flat(seconds)
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
