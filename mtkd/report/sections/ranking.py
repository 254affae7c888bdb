"""Ranking: classification, ranking and the mean of both, by task and system."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd

from mtkd.config.study import SYSTEMS, Study
from mtkd.report.scores import name, title
from mtkd.report.sections import Artifacts, Section, rows_of
from mtkd.report.significance import METHOD, Resampled, estimate
from mtkd.report.table import NONE, Table, gain_text, number, spread


@dataclass(frozen=True)
class RankingResults(Section):
    """Systems with a ranking head beside classification.

    Attributes:
        rows: frame of ranking.csv.
        resampled: scores of the systems `<system>/classification` and `<system>/merged` by a task's
            first metric.
    """

    csv: ClassVar[str] = "ranking"
    title: ClassVar[str] = "Ranking of candidates"
    about: ClassVar[str] = (
        "Beside classification, a ranking head learns which of a question's candidates is right, "
        "by a softmax over them (MT-DNN's objective for QNLI, Liu et al. 2019, arXiv:1901.11504). "
        "'Merged' is the mean of both probabilities."
    )
    resampled: Resampled

    def finding(self) -> list[str]:
        """Return what merging adds to classification, a sentence per task."""
        return [self._finding(task) for task in self.rows["task"].unique()]

    def _finding(self, task: str) -> str:
        rows = self.rows[self.rows["task"] == task]
        metric = rows.loc[rows["way"] == "classification", "metric"].iloc[0]
        rows, parts = rows[rows["metric"] == metric], []
        for system in (system for system in SYSTEMS if system in set(rows["system"])):
            ways = (f"{system}/{way}" for way in ("merged", "classification"))
            gain = estimate(self.resampled.differences(*ways, {task: 1}))
            parts.append(f"{gain_text(gain, 1)} points for {name(system)}")
        means = rows.groupby("way")["value"].mean()
        return (
            f"**{title(task)}: merging ranking into classification changes {metric} from "
            f"{number(means['classification'])} to {number(means['merged'])} percent** on the mean "
            f"of all systems: {', '.join(parts)} (95 % intervals; seeds: {rows['seed'].nunique()})."
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
            f"In the finding: {METHOD} Examples are resampled one by one, not by question.",
        ]
        return [Table("ranking", self.title, frame.fillna(NONE).reset_index(), notes)]


def section(study: Study, results: pd.DataFrame, artifacts: Artifacts) -> RankingResults | None:
    """Return the section where the study ranks a task."""
    if not study.ranking:
        return None
    made = artifacts("08_ranking")
    predictions = (
        (f"{run.system}/{way}", run.seed, frame.assign(outputs=frame[column]))
        for run, artifact in made.items()
        for frame in [artifact.frame("predictions.parquet")]
        for way, column in (("merged", "outputs"), ("classification", "classified"))
    )
    tasks = [study.task(name) for name in study.ranking]
    resampled = Resampled([replace(one, metrics=one.metrics[:1]) for one in tasks], predictions)
    return RankingResults(rows_of(study.name, made.values(), "rankings.csv"), resampled)
