"""Plots of what happens in the runs: learning curves, and the teachers' soft targets."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mtkd.report import scores as figures
from mtkd.report.scores import SYSTEMS, name, title
from mtkd.report.style import DEV, TRAIN, blank, colour, marker, nothing, styled
from mtkd.report.table import number


def grid(count: int, across: int = 4, width: float = 10, height: float = 2.3, extra: float = 0.6):
    """A figure with `count` panels, `across` of them side by side, and the panels; sizes in inches, `height` a row."""
    rows = math.ceil(count / across)
    figure = blank(
        width if count >= across else max(width * count / across, 5), height * rows + extra
    )
    panels = figure.subplots(rows, min(across, count), squeeze=False).ravel()
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, panels


@styled
def learning_curves(curves: pd.DataFrame, of: str = "score") -> Figure:
    """A panel a task: dev score (percent, mean of its metrics) or train `loss` by epoch; thin a run, thick the mean."""
    if not len(curves):
        return nothing("There are no learning curves.")
    column = "value" if of == "score" else "loss"
    lines = (
        curves.groupby(["system", "run", "task", "epoch"], sort=False)[column].mean().reset_index()
    )
    lines = lines.dropna(subset=[column])
    names, systems = (
        figures.in_order(lines["task"]),
        [s for s in ("candidate", *SYSTEMS) if s in set(lines["system"])],
    )
    systems += [system for system in dict.fromkeys(lines["system"]) if system not in systems]
    figure, panels = grid(len(names))
    for panel, task in zip(panels, names, strict=False):
        for system in systems:
            part = lines[(lines["task"] == task) & (lines["system"] == system)]
            for _, run in part.groupby("run", sort=False):
                panel.plot(
                    run["epoch"], run[column], color=colour(system), linewidth=0.7, alpha=0.4
                )
            mean = part.groupby("epoch")[column].mean()
            dash = "--" if ":" in system else "-"
            panel.plot(
                mean.index,
                mean,
                dash,
                color=colour(system),
                linewidth=2,
                marker=marker(system),
                markersize=4,
            )
        panel.set_title(title(task), loc="left")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for system in systems:
        dash = "--" if ":" in system else "-"
        panels[0].plot(
            [],
            [],
            dash,
            color=colour(system),
            marker=marker(system),
            linewidth=2,
            label=name(system),
        )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    for panel in panels[max(len(names) - 4, 0) : len(names)]:
        panel.set_xlabel("epoch")
    figure.supylabel("dev score, percent" if of == "score" else "train loss", fontsize=10)
    last = (
        lines[lines["epoch"] == lines["epoch"].max()]
        .groupby(["task", "system"], sort=False)[column]
        .mean()
    )
    texts = [
        f"{title(task)}, {name(system)} {number(value, 1 if of == 'score' else 3)}"
        for (task, system), value in last.items()
    ]
    what = "Dev score" if of == "score" else "Train loss"
    figure.set_label(
        f"{what} by epoch, a panel a task. After the last epoch: " + "; ".join(texts) + "."
    )
    return figure


@styled
def soft_targets(soft: pd.DataFrame) -> Figure:
    """Two panels a teacher: how the entropy (nats) of its targets is spread, and how often it is right at its confidence.

    Train against dev shows what a teacher is too sure of: it has seen the labels of the examples that it teaches.
    """
    rows = soft[soft["source"] == "teacher"].dropna(subset=["entropy", "confidence"])
    names = figures.in_order(rows["task"])
    if not names:
        return nothing("There are no class probabilities of teachers to show.")
    across, bands = min(len(names), 4), math.ceil(len(names) / 4)
    figure = blank(max(2.5 * across, 5), 0.6 + 4.8 * bands)
    panels = figure.subplots(2 * bands, across, squeeze=False)
    pairs = [
        (panels[2 * band, column], panels[2 * band + 1, column])
        for band in range(bands)
        for column in range(across)
    ]
    for spare in (axes for pair in pairs[len(names) :] for axes in pair):
        spare.set_axis_off()
    texts = []
    for place, (task, (above, below)) in enumerate(zip(names, pairs, strict=False)):
        part = rows[rows["task"] == task]
        bins = np.linspace(0, max(part["entropy"].max(), 1e-6), 26)
        for split, tint, words in (("train", TRAIN, "train (soft targets)"), ("dev", DEV, "dev")):
            half = part[(part["split"] == "train") == (split == "train")]
            if not len(half):
                continue
            above.hist(
                half["entropy"],
                bins=bins,
                weights=np.full(len(half), 100 / len(half)),
                histtype="stepfilled",
                color=(tint, 0.22),
                edgecolor=tint,
                linewidth=1.5,
                label=words,
            )
            _reliability(below, half, tint, "o-" if split == "train" else "s--")
            texts.append(
                f"{title(task)} {split}: mean entropy {number(half['entropy'].mean(), 2)}, mean confidence "
                f"{number(100 * half['confidence'].mean(), 0)} %, right {number(100 * half['correct'].mean(), 0)} %"
            )
        below.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
        above.set_title(title(task), loc="left")
        above.set_xlabel("entropy, nats")
        low = min(0.5, float(part["confidence"].min()))
        below.set(xlim=(low, 1.02), ylim=(0, 1.04), xlabel="confidence")
        for axis in (below.xaxis, below.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        if place % across == 0:
            above.set_ylabel("share of examples, %")
            below.set_ylabel("share that is right")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.set_label("Entropy and calibration of the soft targets. " + "; ".join(texts) + ".")
    return figure


def _reliability(
    axes, half: pd.DataFrame, tint: str, line: str, bins: int = 10, least: int = 10
) -> None:
    """Share right by confidence, in bins of equal width that hold at least `least` examples."""
    place = np.minimum((half["confidence"] * bins).astype(int), bins - 1)
    grouped = half.assign(right=half["correct"].astype(float)).groupby(place)
    means = grouped[["confidence", "right"]].mean()[grouped.size() >= least]
    axes.plot(means["confidence"], means["right"], line, color=tint, markersize=4.5, linewidth=1.5)
