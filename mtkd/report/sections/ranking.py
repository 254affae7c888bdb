"""Ranking: classification, ranking and the mean of both, by task and system."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from mtkd.config.study import SYSTEMS, Study
from mtkd.report.scores import interval, name, title
from mtkd.report.sections import Artifacts, Section, rows_of
from mtkd.report.table import NONE, Table, gain_text, number, spread


@dataclass(frozen=True)
class RankingResults(Section):
    """Systems with a ranking head beside classification; `rows`: frame of ranking.csv."""

    csv: ClassVar[str] = "ranking"
    title: ClassVar[str] = "Ranking of candidates"
    about: ClassVar[str] = (
        "Beside classification, a ranking head learns which of a question's candidates is right, "
        "by a softmax over them (MT-DNN's objective for QNLI, Liu et al. 2019, arXiv:1901.11504). "
        "'Merged' is the mean of both probabilities."
    )

    def finding(self) -> list[str]:
        """Return what merging adds to classification, a sentence per task."""
        return [self._finding(task) for task in self.rows["task"].unique()]

    def _finding(self, task: str) -> str:
        rows = self.rows[self.rows["task"] == task]
        metric = rows.loc[rows["way"] == "classification", "metric"].iloc[0]
        rows, parts = rows[rows["metric"] == metric], []
        for system in (system for system in SYSTEMS if system in set(rows["system"])):
            part = rows[rows["system"] == system]
            wide = part.pivot_table(index="seed", columns="way", values="value")
            paired = (wide["merged"] - wide["classification"]).dropna()
            low, high = interval(paired)
            gain = gain_text({"gain": paired.mean(), "low": low, "high": high}, 1)
            parts.append(f"{gain} points for {name(system)}")
        means = rows.groupby("way")["value"].mean()
        return (
            f"**{title(task)}: merging ranking into classification changes {metric} from "
            f"{number(means['classification'])} to {number(means['merged'])} percent** on the mean "
            f"of all systems: {', '.join(parts)} (95 % intervals over {rows['seed'].nunique()} "
            "seeds)."
        )

    def tables(self) -> list[Table]:
        """Return percent by task and system, a column per metric and way."""
        keys = ["task", "system", "metric", "way"]
        by_seed = self.rows.groupby([*keys, "seed"], sort=False)["value"].mean()
        frame = by_seed.groupby(keys, sort=False).agg(spread).unstack(["metric", "way"])
        frame = frame.sort_index(axis=1, level="metric", sort_remaining=False)
        frame.columns = [f"{metric}, {way}" for metric, way in frame.columns]
        frame = frame.rename(index=title, level="task").rename(index=name, level="system")
        asked = self.rows[self.rows["metric"] == "top"].groupby("task")["n"].max()
        numbers = [f"{title(task)}: {size:,.0f}" for task, size in asked.items()]
        notes = [
            "Percent on dev, mean ± standard deviation over seeds. Top (right first) and MRR are "
            "over the questions with two or more candidates, exactly one of them right "
            f"({', '.join(numbers) or 'none'}).",
        ]
        return [Table("ranking", self.title, frame.fillna(NONE).reset_index(), notes)]


def section(study: Study, results: pd.DataFrame, artifacts: Artifacts) -> RankingResults | None:
    """Return the section where the study ranks a task."""
    if not study.ranking:
        return None
    return RankingResults(rows_of(study.name, artifacts("08_ranking").values(), "rankings.csv"))
