"""Ranking: classification, ranking and the mean of both, by task and system."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from mtkd.report.scores import BASE, STUDENT, interval, name, title
from mtkd.report.sections import Section, gain_text
from mtkd.report.table import NONE, Table, count, number, spread

SYSTEMS = ("bert", BASE, STUDENT)
METRICS = {"top": "right first", "mrr": "MRR"}


@dataclass(frozen=True)
class RankingResults(Section):
    """Systems with a ranking head beside classification; `rows`: frame of ranking.csv."""

    csv: ClassVar[str] = "ranking"
    anchor: ClassVar[str] = "ranking"
    title: ClassVar[str] = "Ranking of candidates"
    about: ClassVar[str] = (
        "Beside classification, a ranking head learns which of a question's candidates is right, "
        "by a softmax over them (MT-DNN's objective for QNLI, Liu et al. 2019, arXiv:1901.11504). "
        "'Merged' is the mean of both probabilities."
    )

    def wide(self, task: str, metric: str) -> pd.DataFrame:
        """Return percent, mean over a task's dev splits: seeds x (system, way)."""
        rows = self.rows[(self.rows["task"] == task) & (self.rows["metric"] == metric)]
        return rows.pivot_table(index="seed", columns=["system", "way"], values="value")

    def finding(self) -> list[str]:
        """Return what merging adds to classification, a sentence per task."""
        return [self._finding(task) for task in self.rows["task"].unique()]

    def _finding(self, task: str) -> str:
        of_task = self.rows[self.rows["task"] == task]
        metric = of_task.loc[of_task["way"] == "classification", "metric"].iloc[0]
        wide, parts = self.wide(task, metric), []
        for system in (system for system in SYSTEMS if (system, "merged") in wide):
            paired = (wide[system, "merged"] - wide[system, "classification"]).dropna()
            low, high = interval(paired)
            gain = gain_text({"gain": paired.mean(), "low": low, "high": high}, 1)
            parts.append(f"{gain} points for {name(system)}")
        means = of_task[of_task["metric"] == metric].groupby("way")["value"].mean()
        seeds = of_task["seed"].nunique()
        chance = f"95 % intervals over {seeds} seeds" if seeds > 1 else "one seed, no intervals"
        return (
            f"**{title(task)}: merging ranking into classification changes {metric} from "
            f"{number(means['classification'])} to {number(means['merged'])} percent** on the mean "
            f"of all systems: {', '.join(parts)} ({chance})."
        )

    def tables(self) -> list[Table]:
        """Return percent by task and system, a column per metric and way."""
        rows, cells = self.rows, []
        columns = rows[["metric", "way"]].drop_duplicates()
        order = {metric: place for place, metric in enumerate(columns["metric"].unique())}
        columns = columns.sort_values("metric", key=lambda metric: metric.map(order), kind="stable")
        for task in rows["task"].unique():
            for system in (system for system in SYSTEMS if system in set(rows["system"])):
                row = {"Task": title(task), "System": name(system)}
                for metric, way in columns.itertuples(index=False):
                    wide = self.wide(task, metric)
                    known = (system, way) in wide
                    head = f"{METRICS.get(metric, metric)}, {way}"
                    row[head] = spread(wide[system, way].dropna()) if known else NONE
                cells.append(row)
        asked = rows[rows["metric"] == "top"].groupby("task")["n"].max()
        numbers = [f"{title(task)}: {count(size)}" for task, size in asked.items()]
        notes = [
            "Percent on dev, mean ± standard deviation over seeds "
            f"({rows['seed'].nunique()}). Right first and MRR are over the questions with two or "
            f"more candidates, exactly one of them right ({', '.join(numbers) or 'none'}).",
        ]
        return [Table("ranking", self.title, pd.DataFrame(cells), notes)]
