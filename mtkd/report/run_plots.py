"""Figures of what happens in a study's runs: learning curves, and the teachers' soft targets."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mtkd.report import scores
from mtkd.report.scores import BASE, STUDENT, SYSTEMS, name, title
from mtkd.report.style import (
    COLOURS,
    by_system,
    empty_figure,
    new_figure,
    styled,
)
from mtkd.report.table import number


@styled
def learning_curves(curves: pd.DataFrame, of: str = "score") -> Figure:
    """Draw dev scores (percent, mean of a task's metrics) or train losses by epoch.

    Args:
        curves: columns run, system, task, epoch, loss, value (one row per metric).
        of: "score" or "loss".

    Returns:
        One panel per task; a line is the mean over a system's runs, the band their range.
    """
    column, label = ("value", "dev score, percent") if of == "score" else ("loss", "train loss")
    rows = curves.groupby(["system", "run", "task", "epoch"], sort=False, as_index=False)
    rows = rows[column].mean().dropna(subset=[column]) if len(curves) else curves
    if not len(rows):
        return empty_figure("There are no learning curves.")
    systems = list(dict.fromkeys(["candidate", *SYSTEMS, *rows["system"]]))
    systems = {system: name(system) for system in systems if system in set(rows["system"])}
    tasks = scores.in_order(rows["task"])
    layout = {"col_order": tasks, "col_wrap": min(len(tasks), 4), "height": 2.3}
    layout |= {"aspect": 1.1 if len(tasks) > 1 else 2, "facet_kws": {"sharey": False}}
    lines = {"kind": "line", "x": "epoch", "y": column, "col": "task", "errorbar": ("pi", 100)}
    grid = sns.relplot(rows.replace({"system": systems}), **lines, **by_system(systems), **layout)
    for task, axes in grid.axes_dict.items():
        axes.set_title(title(task))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid.set_axis_labels("epoch", label)
    anchor = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    sns.move_legend(grid, ncols=4, title=None, frameon=False, **anchor)
    last = rows[rows["epoch"] == rows.groupby("task")["epoch"].transform("max")]
    last = last.groupby(["task", "system"], sort=False)[column].mean()
    digits = 1 if of == "score" else 3
    texts = [f"{title(t)}, {systems[s]} {number(value, digits)}" for (t, s), value in last.items()]
    figure = grid.figure
    figure.set_label(f"{label.capitalize()} by epoch. After the last epoch: {'; '.join(texts)}.")
    return figure


@styled
def soft_targets(soft: pd.DataFrame) -> Figure:
    """Draw the entropy (nats) of each teacher's soft targets, and its calibration.

    Training against dev examples shows overconfidence: a teacher has seen the labels of the
    examples whose soft targets it gives.

    Args:
        soft: columns task, split, source, entropy, confidence, correct; rows of source "teacher"
            are used.
    """
    rows = soft[soft["source"] == "teacher"].dropna(subset=["entropy", "confidence"])
    tasks = scores.in_order(rows["task"])
    if not tasks:
        return empty_figure("There are no class probabilities of teachers to show.")
    tints = [COLOURS[STUDENT], COLOURS[BASE]]
    halves = ["training (soft targets)", "dev"]
    rows = rows.assign(examples=np.where(rows["split"] == "train", *halves))
    rows["correct"] = rows["correct"].astype(float)
    look = {"hue": "examples", "hue_order": halves, "palette": tints}
    histogram = {"x": "entropy", "stat": "percent", "common_norm": False, "element": "step"}
    lines = {"x": "confidence", "y": "correct", "style": "examples", "style_order": halves}
    across, down = min(len(tasks), 2), -(-len(tasks) // 2)
    figure = new_figure(5 * across, 0.5 + 2.2 * down)
    panels = figure.subplots(down, 2 * across, squeeze=False).reshape(-1, 2)
    for (left, right), task in zip(panels, tasks, strict=False):
        part = rows[rows["task"] == task]
        bins = np.linspace(0, max(part["entropy"].max(), 1e-6), 26)
        sns.histplot(part, bins=bins, legend=False, ax=left, **histogram, **look)
        points = _calibration(part)
        if len(points):
            sns.lineplot(points, markers=["o", "s"], legend=False, ax=right, **lines, **look)
        right.axline((1, 1), slope=1, color="#999999", linestyle=":")
        left.set(title=title(task), xlabel="entropy, nats", ylabel="examples, %")
        lowest = min(0.5, part["confidence"].min())
        right.set(xlim=(lowest, 1.02), ylim=(0, 1.04), xlabel="confidence", ylabel="correct")
        for axis in (right.xaxis, right.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    for axes in panels[len(tasks) :].flat:
        axes.set_axis_off()
    keys = [Patch(color=tint, label=half) for half, tint in zip(halves, tints, strict=True)]
    figure.legend(handles=keys, loc="outside lower center", ncols=2)
    means = rows.groupby(["task", "examples"])[["entropy", "confidence", "correct"]].mean()
    texts = [
        f"{title(task)} {half}: mean entropy {number(row.entropy, 2)}, mean confidence "
        f"{row.confidence:.0%}, correct {row.correct:.0%}"
        for (task, half), row in means.iterrows()
    ]
    figure.set_label(f"Entropy and calibration of the soft targets. {'; '.join(texts)}.")
    return figure


def _calibration(rows: pd.DataFrame, bins: int = 10, least: int = 10) -> pd.DataFrame:
    """Return mean confidence and share correct by confidence bin with `least` examples or more."""
    bin_of = np.minimum((rows["confidence"] * bins).astype(int), bins - 1)
    groups = rows.groupby(["examples", bin_of.rename("bin")])
    means = groups[["confidence", "correct"]].mean()[groups.size() >= least]
    return means.reset_index()
