"""The report's part on ranking: classification, ranking and both merged, by task and system.

Every function takes the frame of `mtkd.stages.ranking.results`, or None where the study ranks no task.
"""

import pandas as pd

from mtkd.report.scores import interval, name, title
from mtkd.report.table import NONE, Table, bold_html, count, gained, number, spread
from mtkd.workflow.jobs import SYSTEMS

HEADING = "Questions and candidates, ranked"
WORDS = (
    "A ranking head learns beside classification which of a question's candidates is the right one, by a softmax over them (MT-DNN's "
    "objective for QNLI, Liu et al. 2019, arXiv:1901.11504); an answer is the mean of both probabilities."
)
METRICS = {"top": "right first", "mrr": "MRR"}


def _wide(found: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Seeds x (system, way): percent, mean over a task's dev splits."""
    rows = found[(found["task"] == task) & (found["metric"] == metric)]
    return rows.pivot_table(index="seed", columns=["system", "way"], values="value")


def table(found: pd.DataFrame) -> Table:
    """Task and system x way and metric: percent, mean ± standard deviation over seeds."""
    rows = []
    for task in dict.fromkeys(found["task"]):
        for system in [system for system in SYSTEMS if system in set(found["system"])]:
            cells = {"Task": title(task), "System": name(system)}
            for metric in dict.fromkeys(found["metric"]):
                for way in dict.fromkeys(found["way"]):
                    if len(found[(found["metric"] == metric) & (found["way"] == way)]):
                        wide = _wide(found, task, metric)
                        known = (system, way) in wide
                        cells[f"{METRICS.get(metric, metric)}, {way}"] = (
                            spread(wide[system, way].dropna()) if known else NONE
                        )
            rows.append(cells)
    asked = found[found["metric"] == "top"].groupby("task")["n"].max()
    told = (
        "; ".join(f"{title(task)}: {count(size)}" for task, size in asked.items())
        or "there is none"
    )
    notes = [
        f"Percent on dev, mean ± standard deviation over seeds ({found['seed'].nunique()}).",
        "Right first and MRR (mean of one over the right candidate's rank): over the questions with two or more candidates, exactly "
        f"one of them right ({told}).",
    ]
    return Table("ranking", HEADING, pd.DataFrame(rows), notes)


def finding(found: pd.DataFrame) -> str:
    """A sentence a task on what merging adds to classification, for each system, whichever way it falls."""
    return " ".join(_finding_of(found, task) for task in dict.fromkeys(found["task"]))


def _finding_of(found: pd.DataFrame, task: str) -> str:
    metric, parts = (
        found.loc[(found["task"] == task) & (found["way"] == "classification"), "metric"].iloc[0],
        [],
    )
    wide = _wide(found, task, metric)
    for system in [system for system in SYSTEMS if (system, "merged") in wide]:
        paired = (wide[system, "merged"] - wide[system, "classification"]).dropna()
        low, high = interval(paired)
        sure = ", which includes zero" if low <= 0 <= high else ""
        parts.append(
            f"{gained(dict(gain=paired.mean(), low=low, high=high))} points for {name(system)}{sure}"
        )
    seeds = found["seed"].nunique()
    bars = (
        f" (in brackets the 95 % interval over {seeds} seeds)"
        if seeds > 1
        else " (one seed: chance is not ruled out)"
    )
    mean = (
        found[(found["task"] == task) & (found["metric"] == metric)].groupby("way")["value"].mean()
    )
    return (
        f"**{title(task)}: merged with ranking, classification's {metric} goes from {number(mean['classification'])} to "
        f"{number(mean['merged'])} percent on the mean of all systems**: {'; '.join(parts)}{bars}."
    )


class part:
    """The report's part: heading, finding and table; nothing where the study ranks no task."""

    def __init__(self, found: pd.DataFrame | None):
        self.found = found

    def _repr_html_(self) -> str:
        if self.found is None:
            return ""
        return "\n".join(
            [
                f"<h2>{HEADING}</h2>",
                f"<p>{WORDS}</p>",
                f"<p>{bold_html(finding(self.found))}</p>",
                table(self.found).html(),
            ]
        )

    def __repr__(self) -> str:
        return "" if self.found is None else f"[{HEADING}]"


def write_tables(found: pd.DataFrame | None) -> list[Table]:
    return [] if found is None else [table(found)]


def scores_of(found: pd.DataFrame) -> Table:
    """One run of the notebook: a row a task, split, way and metric."""
    rows = [
        {
            "Task": title(row.task),
            "Split": row.split,
            "Way": row.way,
            "Metric": METRICS.get(row.metric, row.metric),
            "Score": number(row.value),
            "Scored": count(row.n),
        }
        for row in found.itertuples()
    ]
    return Table("scores", "Dev scores in percent", pd.DataFrame(rows))
