"""The report's figures: data frames in, a figure out, its alt text in the figure's label.

Systems, seeds, tasks or splits that are missing are left out; a figure without data says so.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtkd.report import published, scores
from mtkd.report.scores import ENSEMBLE, STUDENT, SYSTEMS, name, title
from mtkd.report.significance import Compared
from mtkd.report.style import COLOURS, MARKERS, MUTED, by_system, colour, empty_figure, styled
from mtkd.report.table import number
from mtkd.tasks import SELECTION


@dataclass(frozen=True)
class Series:
    """One set of points with intervals: rows by name, with columns gain, low and high."""

    label: str
    rows: pd.DataFrame
    colour: str
    marker: str = "o"

    def __str__(self) -> str:
        """Return the points in words, for alt texts."""
        points = (f"{row} {number(gain, 2, sign=True)}" for row, gain in self.rows["gain"].items())
        return f"{self.label}: {', '.join(points)}"


def draw_intervals(axes: Axes, names: list[str], series: list[Series], gains=True) -> None:
    """Draw points with their intervals, one row per name from the top.

    The axis of gains reaches to three times the largest: longer intervals run out of the figure.
    """
    shown = [name for one in series for name in one.rows.index]
    step = 0.24 if len(set(shown)) < len(shown) else 0.0  # keeps points of one row apart
    for place, one in enumerate(series):
        rows = one.rows.astype(float)
        shift = step * (place - (len(series) - 1) / 2)
        y = [names.index(row) + shift for row in rows.index]
        error = np.maximum([rows["gain"] - rows["low"], rows["high"] - rows["gain"]], 0)
        look = {"fmt": one.marker, "color": one.colour, "capsize": 3, "label": one.label}
        axes.errorbar(rows["gain"], y, xerr=error, **look)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=7)
    if gains:
        axes.axvline(0, color="#555555", linewidth=1)
        reach = 3 * max([1.0, *(one.rows["gain"].abs().max() for one in series if len(one.rows))])
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -reach), min(high, reach))
        axes.xaxis.set_major_formatter("{x:+g}")


@styled
def forest(names: list[str], series: list[Series], heading: str, axis: str) -> Figure:
    """Draw differences by row name; `axis` says what the points and their bars are."""
    series = [one for one in series if len(one.rows)]
    if not series:
        return empty_figure(f"{heading}: there is nothing to compare.")
    height = 1.5 + (0.2 + 0.14 * len(series)) * len(names)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    draw_intervals(axes, names, series)
    axes.set(title=heading, xlabel=axis)
    figure.legend(loc="outside lower center", ncols=4)
    figure.set_label(f"{heading}. {'. '.join(map(str, series))}.")
    return figure


def bars(frame: pd.DataFrame) -> str:
    """Describe the error bars of these gains."""
    if not np.isfinite(frame["low"].to_numpy(dtype=float)).any():
        return "no predictions, so no interval"
    if (seeds := int(frame["seeds"].max())) > 1:
        return f"bars: 95 % interval over {seeds} seeds and dev examples"
    return "bars: 95 % interval over dev examples; one seed"


@styled
def overview(
    results: pd.DataFrame,
    sizes: pd.DataFrame | None = None,
    teachers: Sequence[str] = published.TEACHERS,
    compared: Compared | None = None,
    stacked: bool = False,
) -> Figure:
    """Draw the main result: average dev scores by system, and points over MT-DNN by task.

    The paper finds larger gains on smaller tasks, and that the student keeps most of the ensembles'
    gain (MT-DNN_KD, Liu et al. 2019, sections 4.2 and 4.3).

    Args:
        results: rows of results.csv.
        sizes: frame of Table 1, to order tasks by their number of training examples.
        teachers: tasks with a teacher.
        compared: comparisons with their intervals.
        stacked: put one panel below the other, for a phone.
    """
    averages = scores.averages(results).groupby("system")["average"].agg(["mean", "std"])
    systems = [system for system in SYSTEMS if system in averages.index]
    if not systems:
        return empty_figure("There is no system with scores on every task.")
    names, series = _task_gains(results, sizes, teachers, compared)
    if stacked:
        heights = [1 + 0.3 * len(systems), 1 + 0.45 * len(names)]
        size, shape, ratios = (4.2, 1 + sum(heights)), (2, 1), {"height_ratios": heights}
    else:
        size, shape, ratios = (10, 1.6 + 0.45 * len(names)), (1, 2), {}
    figure, (left, right) = plt.subplots(*shape, figsize=size, layout="constrained", **ratios)
    mean, std = averages["mean"][systems], averages["std"][systems]
    frame = pd.DataFrame({"gain": mean, "low": mean - std, "high": mean + std})
    labels = [f"{name(system)}  {number(mean[system])}" for system in systems]
    for system, label in zip(systems, labels, strict=True):
        row = frame.loc[[system]].set_axis([label])
        point = Series("", row, colour(system), MARKERS[system])
        draw_intervals(left, labels, [point], gains=False)
    left.set(title="Average dev score", xlabel="percent\nbars: standard deviation over seeds")
    left.margins(x=0.15)
    draw_intervals(right, names, series)
    right.set_title("Points over MT-DNN, small tasks first")
    about = bars(series[0].rows)
    right.set_xlabel(f"*: task with a teacher\n{textwrap.fill(about, 36) if stacked else about}")
    legend = {"loc": "outside lower center", "ncols": 1 if stacked else 3}
    figure.legend(*right.get_legend_handles_labels(), **legend)
    points = ". ".join(map(str, series))
    figure.set_label(f"Average dev scores: {', '.join(labels)}. Points over MT-DNN. {points}.")
    return figure


def _task_gains(results, sizes, teachers, compared) -> tuple[list[str], list[Series]]:
    """Return the names of tasks, such as `RTE* (2,490)`, and the gains on them."""
    train, names = scores.train_sizes(sizes), {}
    tasks = scores.in_order(scores.dev(results)["task"])
    for task in sorted(tasks, key=lambda task: train.get(task, np.inf)):
        size = f" ({train[task]:,.0f})" if task in train else ""
        names[task] = title(task) + "*" * (task in teachers) + size
    frames = {one: scores.gains(results, compared, one) for one in (STUDENT, ENSEMBLE)}
    paper = published.gains().drop(index="average").assign(low=np.nan, high=np.nan)
    looks = {name(one): (frame, COLOURS[one], MARKERS[one]) for one, frame in frames.items()}
    looks["MT-DNN_KD, published"] = (paper[paper.index.isin(tasks)], MUTED, "x")
    names["average"] = "Average"
    series = [
        Series(label, frame.dropna(subset=["gain"]).rename(index=names), *look)
        for label, (frame, *look) in looks.items()
        if len(frame)  # no published figures of own tasks
    ]
    return list(names.values()), series


@styled
def learning_curves(curves: pd.DataFrame, of: str = "score") -> Figure:
    """Draw dev scores (percent, mean of a task's metrics) or train losses by epoch.

    Args:
        curves: columns run, system, task, epoch, loss, split, value (one row per metric).
        of: "score" or "loss".

    Returns:
        One panel per task; a line is the mean over a system's runs, the band their range.
    """
    column, label = ("value", "dev score, percent") if of == "score" else ("loss", "train loss")
    rows = curves[curves["split"] != SELECTION]
    rows = rows.groupby(["system", "run", "task", "epoch"], sort=False, as_index=False)
    rows = rows[column].mean().dropna(subset=[column])
    if not len(rows):
        return empty_figure("There are no learning curves.")
    systems = {system: name(system) for system in rows["system"].unique()}
    tasks = scores.in_order(rows["task"])
    panels = {"col": "task", "col_order": tasks, "col_wrap": min(len(tasks), 4), "height": 2.4}
    lines = {"kind": "line", "x": "epoch", "y": column, "errorbar": ("pi", 100)}
    rows = rows.replace({"system": systems})
    axes = {"facet_kws": {"sharey": False}}
    grid = sns.relplot(rows, **lines, **panels, **axes, **by_system(systems))
    for task, panel in grid.axes_dict.items():
        panel.set_title(title(task))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid.set_axis_labels("epoch", label)
    last = rows[rows["epoch"] == rows.groupby("task")["epoch"].transform("max")]
    last = last.groupby(["task", "system"], sort=False)[column].mean()
    texts = [f"{title(task)}, {system} {value:.3g}" for (task, system), value in last.items()]
    grid.figure.set_label(f"{label} by epoch. After the last epoch: {'; '.join(texts)}.")
    return grid.figure


@styled
def soft_targets(soft: pd.DataFrame) -> Figure:
    """Draw the calibration of each teacher: share correct by confidence, and its mean entropy.

    Training against dev examples shows overconfidence: a teacher has seen the labels of the
    examples whose soft targets it gives. A point stands for ten examples or more.

    Args:
        soft: columns task, split, source, entropy (nats), confidence, correct; rows of source
            "teacher" are used.
    """
    rows = soft[soft["source"] == "teacher"].dropna(subset=["entropy", "confidence"])
    halves = ["training (soft targets)", "dev"]
    rows = rows.assign(
        examples=np.where(rows["split"] == "train", *halves),
        correct=rows["correct"].astype(float),
        bin=np.minimum(10 * rows["confidence"], 9).astype(int),
    )
    groups = rows.groupby(["task", "examples", "bin"])[["confidence", "correct"]]
    points = groups.mean()[groups.size() >= 10].reset_index()
    if not len(points):
        return empty_figure("There are too few class probabilities of teachers to show.")
    tasks = scores.in_order(points["task"])
    panels = {"col": "task", "col_order": tasks, "col_wrap": min(len(tasks), 4), "height": 2.6}
    look = {"hue": "examples", "hue_order": halves, "style": "examples", "style_order": halves}
    lines = {"kind": "line", "x": "confidence", "y": "correct", "markers": True, "dashes": False}
    grid = sns.relplot(points, **lines, **panels, **look)
    means = rows.groupby(["task", "examples"])[["entropy", "confidence", "correct"]].mean()
    for task, panel in grid.axes_dict.items():
        entropies = [number(means["entropy"].get((task, half)), 2) for half in halves]
        panel.set_title(f"{title(task)}: {' / '.join(entropies)} nats")
        panel.axline((1, 1), slope=1, color=MUTED, linestyle=":")
    texts = [
        f"{title(task)} {half}: entropy {row.entropy:.2f}, confidence {row.confidence:.0%}, "
        f"correct {row.correct:.0%}"
        for (task, half), row in means.iterrows()
    ]
    grid.figure.set_label(f"Calibration of the soft targets, means. {'; '.join(texts)}.")
    return grid.figure


@styled
def pretraining(about: dict) -> Figure:
    """Draw the masked-LM loss (nats) by step, of an encoder's origin.json."""
    if not about.get("loss"):
        return empty_figure("The encoder is a checkpoint; it was not pre-trained here.")
    frame = pd.DataFrame(about["loss"], columns=["step", "masked-LM loss (nats)"])
    first, last = frame.iloc[[0, -1], 1]
    figure = sns.relplot(frame, kind="line", x="step", y=frame.columns[1], aspect=2).figure
    figure.set_label(f"Masked-LM loss falls from {first:.2f} to {last:.2f}.")
    return figure
