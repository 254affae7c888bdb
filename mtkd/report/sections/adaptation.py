"""Adaptation with few labels: accuracy on SNLI by share of its training set."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mtkd.report.scores import BASE, STUDENT, interval, name
from mtkd.report.sections import Section, gain_text, verdict
from mtkd.report.style import MUTED, by_system, legend_below, new_figure, styled
from mtkd.report.table import NONE, Table, count, number, spread
from mtkd.tasks import SNLI

SYSTEMS = ("bert", BASE, STUDENT)


@dataclass(frozen=True)
class AdaptationResults(Section):
    """Systems fine-tuned on shares of SNLI's training set; `rows`: frame of adaptation.csv."""

    csv: ClassVar[str] = "adaptation"
    anchor: ClassVar[str] = "adaptation"
    title: ClassVar[str] = "Adaptation with few labels"
    about: ClassVar[str] = (
        "MT-DNN (Liu et al. 2019, arXiv:1901.11504) claims that its shared layers need fewer "
        "labels of a new task than BERT's. Each system is fine-tuned with a new head on shares of "
        "SNLI's training set; a seed's runs share head, examples, batches and number of updates."
    )

    @cached_property
    def wide(self) -> pd.DataFrame:
        """Accuracy on dev in percent: seeds x (system, training examples)."""
        return self.rows.pivot_table(index="seed", columns=["system", "examples"], values="value")

    @property
    def systems(self) -> list[str]:
        """Systems with scores, BERT first."""
        return [system for system in SYSTEMS if system in self.wide]

    def gains(self, system: str, base: str = "bert") -> pd.DataFrame:
        """Return points of a system over another by number of training examples.

        Columns: gain, low, high (95 % t-interval), seeds (those of both systems). The last row,
        "mean", is over all shares below the whole training set, or over all where there is no such.
        """
        wide = self.wide
        if system not in wide or base not in wide:
            return pd.DataFrame(columns=["gain", "low", "high", "seeds"])
        paired = (wide[system] - wide[base]).dropna()
        whole = self.rows.loc[self.rows["share"] == 1, "examples"].max()
        part = [size for size in paired if size != whole] or list(paired)
        paired = paired.astype(float).assign(mean=paired[part].mean(axis=1))
        rows = {key: (paired[key].mean(), *interval(paired[key]), len(paired)) for key in paired}
        return pd.DataFrame(rows, index=["gain", "low", "high", "seeds"]).T

    def finding(self) -> list[str]:
        """Return whether each multi-task system adapts better than BERT."""
        sentences = []
        for system in SYSTEMS[1:]:
            frame = self.gains(system)
            if len(frame) and frame.loc["mean", "seeds"]:
                mean = frame.loc["mean"]
                over = ", on average over shares below the whole" if len(frame) > 2 else ""
                sentences.append(
                    f"**With few labels {name(system)} is {verdict(mean)} than BERT**: in points "
                    f"(95 % interval) {gain_text(mean, 1)}{over}."
                )
        return sentences

    def tables(self) -> list[Table]:
        """Return accuracy by system and share, and the differences from BERT."""
        rows, wide, cells = self.rows, self.wide, []
        shares = rows.groupby("examples")["share"].first()
        heads = {size: f"{100 * share:g} % ({count(size)})" for size, share in shares.items()}
        for system in self.systems:
            known = wide[system].reindex(columns=list(heads))
            scores = {head: spread(known[size].dropna()) for size, head in heads.items()}
            cells.append({"System": name(system), **scores})
        for system in SYSTEMS[1:]:
            frame = self.gains(system).reindex(heads)
            gains = {head: gain_text(frame.loc[size], 1) for size, head in heads.items()}
            cells.append({"System": f"{name(system)} − BERT", **gains})
        whole = count(round(rows["examples"].max() / rows["share"].max()))
        updates = f"{count(rows['updates'].min())} to {count(rows['updates'].max())}"
        notes = [
            f"Accuracy in percent on {count(rows['n'].max())} of SNLI's dev examples, mean ± "
            f"standard deviation over {len(wide)} seed(s); in brackets the training examples. "
            f"Small shares are repeated: a run has {updates} updates, the same for all systems.",
            "Differences in points, paired by seed, with their 95 % t-interval over seeds.",
            f"Shares are of {whole} of SNLI's {count(SNLI.num_train)} training examples.",
        ]
        caption, divide = "Adaptation to SNLI by share of its training set", (len(self.systems),)
        return [Table("adaptation", caption, pd.DataFrame(cells).fillna(NONE), notes, divide)]

    def figures(self) -> dict[str, Figure]:
        """Return the adaptation curve."""
        return {"adaptation": curve(self)}


@styled
def curve(section: AdaptationResults) -> Figure:
    """Draw accuracy on SNLI's dev set by number of training examples."""
    names = {system: name(system) for system in section.systems}
    figure = new_figure(8.5, 4.6)
    axes = figure.subplots()
    shift = {label: 1.05 ** (place - 1) for place, label in enumerate(names.values())}
    rows = section.rows[section.rows["system"].isin(names)].replace({"system": names})
    rows = rows.assign(x=rows["examples"] * rows["system"].map(shift))  # keeps bars apart
    lines = {"x": "x", "y": "value", "errorbar": _bar, "err_style": "bars"}
    sns.lineplot(rows, ax=axes, **lines, **by_system(names))
    axes.axhline(100 / SNLI.num_outputs, color=MUTED, linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(rows["examples"].unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="training examples of SNLI", ylabel="accuracy on SNLI's dev set, percent")
    title = f"bars: 95 % interval over {len(section.wide)} seeds" if len(section.wide) > 1 else None
    legend_below(figure, axes, ncols=4, title=title)
    means = section.wide.mean()
    texts = [
        f"{names[system]} {number(means[system, size])} with {count(size)}"
        for system, size in means.index
        if system in names
    ]
    figure.set_label(f"Accuracy on SNLI's dev set by training examples. {', '.join(texts)}.")
    return figure


def _bar(values: pd.Series) -> tuple[float, float]:
    """Return the ends of an error bar, which has no length for a single seed."""
    return tuple(np.nan_to_num(interval(values), nan=values.mean()))
