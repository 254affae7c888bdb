"""Adaptation with few labels: accuracy on SNLI by share of its training set."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mtkd.config.study import SYSTEMS, Study
from mtkd.report.scores import judged, name
from mtkd.report.sections import Artifacts, Section, rows_of
from mtkd.report.significance import METHOD, Resampled, estimate
from mtkd.report.style import by_system, styled
from mtkd.report.table import NONE, Table, count, gain_text, number, spread
from mtkd.tasks import SNLI


@dataclass(frozen=True)
class AdaptationResults(Section):
    """Systems fine-tuned on shares of SNLI's training set.

    Attributes:
        rows: frame of adaptation.csv.
        resampled: scores of the systems `<system>/<training examples>`.
    """

    csv: ClassVar[str] = "adaptation"
    title: ClassVar[str] = "Adaptation with few labels"
    about: ClassVar[str] = (
        "MT-DNN (Liu et al. 2019, arXiv:1901.11504) claims that its shared layers need fewer "
        "labels of a new task than BERT's. Each system is fine-tuned with a new head on shares of "
        "SNLI's training set; a seed's runs share head, examples, batches and number of updates."
    )
    resampled: Resampled

    @cached_property
    def wide(self) -> pd.DataFrame:
        """Accuracy on dev in percent: seeds x (system, training examples)."""
        return self.rows.pivot_table(index="seed", columns=["system", "examples"], values="value")

    def gains(self, system: str, base: str = "bert") -> pd.DataFrame:
        """Return points of a system over another by number of training examples.

        Columns: gain, low, high (95 % interval), p, seeds (those of both systems). The last row,
        "mean", is over all shares below the whole training set, or over all where there is no such.
        Empty where the systems have no share in common.
        """
        values = {
            size: self.resampled.differences(f"{system}/{size}", f"{base}/{size}", {SNLI.name: 1})
            for size in sorted(self.rows["examples"].unique())
        }
        values = {size: one for size, one in values.items() if not one.empty}
        whole = self.rows.loc[self.rows["share"] == 1, "examples"].max()
        if part := [one for size, one in values.items() if size != whole] or [*values.values()]:
            values["mean"] = sum(part).dropna(axis=1) / len(part)
        return pd.DataFrame({key: estimate(one) for key, one in values.items()}).T

    def finding(self) -> list[str]:
        """Return whether each multi-task system adapts better than BERT."""
        means = {system: self.gains(system).T.get("mean") for system in SYSTEMS[1:]}
        return [
            f"**With few labels {name(system)} is {judged(mean)} than BERT**: in points (95 % "
            f"interval) {gain_text(mean, 1)}, on average over shares below the whole."
            for system, mean in means.items()
            if mean is not None
        ]

    def tables(self) -> list[Table]:
        """Return accuracy by system and share, and the differences from BERT."""
        rows, cells = self.rows, []
        shares = rows.groupby("examples")["share"].first()
        heads = {size: f"{100 * share:g} % ({count(size)})" for size, share in shares.items()}
        systems = [system for system in SYSTEMS if system in self.wide]
        for system in systems:
            scores = self.wide[system].apply(lambda values: spread(values.dropna()))
            cells.append({"System": name(system), **scores.rename(heads)})
        for system in SYSTEMS[1:]:
            gains = self.gains(system).drop(index="mean", errors="ignore")
            texts = {heads[size]: gain_text(row, 1) for size, row in gains.iterrows()}
            cells.append({"System": f"{name(system)} − BERT", **texts})
        updates = f"{count(rows['updates'].min())} to {count(rows['updates'].max())}"
        notes = [
            f"Accuracy in percent on {count(rows['n'].max())} of SNLI's dev examples, mean ± "
            "standard deviation over seeds; in brackets the training examples. Small shares are "
            f"repeated: a run has {updates} updates, the same for all systems.",
            f"Differences in points, paired by seed. {METHOD}",
        ]
        frame = pd.DataFrame(cells).fillna(NONE)
        caption = "Adaptation to SNLI by share of its training set"
        return [Table("adaptation", caption, frame, notes, divide=len(systems))]

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Accuracy on SNLI's dev set by number of training examples."""
        return {"adaptation": self._curve()}

    @styled
    def _curve(self) -> Figure:
        names = {system: name(system) for system in SYSTEMS if system in self.wide}
        rows, sizes = self.rows.replace({"system": names}), sorted(self.rows["examples"].unique())
        lines = {"kind": "line", "x": "examples", "y": "value", "errorbar": "sd", "aspect": 1.6}
        grid = sns.relplot(rows, **lines, **by_system(names))
        grid.set(xscale="log", xlabel="training examples of SNLI", ylabel="accuracy, percent")
        grid.ax.set_xticks(sizes, map(count, sizes))
        grid.ax.minorticks_off()
        means = rows.groupby(["system", "examples"])["value"].mean().items()
        texts = [f"{system} {number(mean)} with {count(size)}" for (system, size), mean in means]
        grid.figure.set_label(
            f"Accuracy on SNLI's dev set by training examples: {', '.join(texts)}"
        )
        return grid.figure


def section(study: Study, results: pd.DataFrame, artifacts: Artifacts) -> AdaptationResults | None:
    """Return the section where the study adapts to SNLI."""
    if not study.adaptation:
        return None
    made = artifacts("07_adaptation")
    predictions = (
        (f"{run.system}/{size}", run.seed, part)
        for run, artifact in made.items()
        for size, part in artifact.frame("predictions.parquet").groupby("examples")
    )
    rows = rows_of(study.name, made.values(), "scores.csv")
    return AdaptationResults(rows, Resampled([SNLI], predictions))
