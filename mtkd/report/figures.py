"""The report's main figures: data frames in, a figure out, its alt text in the figure's label.

Systems, seeds, tasks or splits that are missing are left out; a figure without data says so.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtkd.report import published, scores
from mtkd.report.run_plots import learning_curves, soft_targets
from mtkd.report.scores import ENSEMBLE, STUDENT, SYSTEMS, gains, name, title
from mtkd.report.significance import Compared, bars
from mtkd.report.style import (
    COLOURS,
    MUTED,
    Shown,
    colour,
    empty_figure,
    legend_below,
    marker,
    new_figure,
    styled,
)
from mtkd.report.table import number

__all__ = ["ensemble_vs_student", "gain_by_size", "learning_curves", "overview", "soft_targets"]
show = Shown


@dataclass(frozen=True)
class Series:
    """One set of points of a `forest`: rows by name, with columns gain, low and high."""

    label: str
    rows: pd.DataFrame
    colour: str
    marker: str = "o"
    filled: bool = True

    def __str__(self) -> str:
        """Return the points in words, for alt texts."""
        gains = (f"{row} {number(gain, 2, sign=True)}" for row, gain in self.rows["gain"].items())
        return f"{self.label}: {', '.join(gains) or 'none'}"


def forest(axes: Axes, names: list[str], series: list[Series], dodge: float = 0.0) -> None:
    """Draw differences with their intervals, one row per name from the top.

    The axis reaches to three times the largest difference: longer intervals run out of the figure.
    """
    series = [one for one in series if len(one.rows)]
    axes.axvline(0, color="#555555", linewidth=1)
    for place, one in enumerate(series):
        rows = one.rows.astype(float)
        y = np.array([names.index(row) for row in rows.index], dtype=float)
        y += dodge * (place - (len(series) - 1) / 2)
        error = np.maximum([rows["gain"] - rows["low"], rows["high"] - rows["gain"]], 0)
        look = {"color": one.colour, "mfc": one.colour if one.filled else "white", "mew": 1.6}
        look |= {"fmt": one.marker, "capsize": 3, "label": one.label}
        axes.errorbar(rows["gain"], y, xerr=error, **look)
    largest = max([1.0, *(one.rows["gain"].abs().max() for one in series)])
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -3 * largest), min(high, 3 * largest))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.xaxis.set_major_formatter("{x:+g}")
    axes.locator_params(axis="x", nbins=7)


def task_name(task: str) -> str:
    """Return a row's name in a frame of `scores.gains`."""
    return "Average" if task == "average" else title(task)


@styled
def overview(
    results: pd.DataFrame,
    sizes: pd.DataFrame | None = None,
    teachers=published.TEACHERS,
    compared: Compared | None = None,
) -> Figure:
    """Draw the main result: average dev scores by system, and MT-DNN_KD's gain by task.

    Args:
        results: rows of results.csv.
        sizes: frame of Table 1, to order tasks by their number of training examples.
        teachers: tasks with a teacher.
        compared: comparisons with their intervals.
    """
    averages = scores.averages(results)
    systems = [system for system in SYSTEMS if system in set(averages["system"])]
    if not systems:
        return empty_figure("There is no system with scores on every task.")
    names, series, bars_are = _gains_by_size(results, sizes, teachers, compared)
    figure = new_figure(10, max(3.4, 1.3 + 0.3 * len(names)))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    means = averages.groupby("system")["average"].mean()
    labels = {system: f"{name(system)}  {number(means[system])}" for system in systems}
    order = list(labels.values())
    look = {"palette": [colour(system) for system in systems], "linestyles": "none"}
    look |= {"markers": [marker(system) for system in systems], "legend": False}
    sd = {"errorbar": "sd", "capsize": 0.1, "err_kws": {"linewidth": 1.5}}
    axes = {"x": "average", "y": "system", "order": order, "hue": "system", "hue_order": order}
    shown = averages[averages["system"].isin(systems)].replace({"system": labels})
    sns.pointplot(shown, ax=left, **axes, **look, **sd)
    left.set(ylabel="", xlabel="percent, mean over tasks\nbars: standard deviation over seeds")
    left.set_title("Average dev score")
    left.margins(x=0.15)
    forest(right, names, series)
    right.set_title("MT-DNN_KD − MT-DNN, small tasks first")
    right.set_xlabel(f"points (filled: with a teacher)\n{bars_are}")
    texts = "Average dev scores: " + ", ".join(labels.values())
    figure.set_label(f"{texts}. Gain of MT-DNN_KD over MT-DNN. {'. '.join(map(str, series))}.")
    return figure


def _gains_by_size(results, sizes, teachers, compared) -> tuple[list[str], list[Series], str]:
    """Return row names (small tasks first), their gains by group, and what the bars are."""
    frame = gains(results, compared).dropna(subset=["gain"])
    train = scores.train_sizes(sizes) | {"average": np.inf}
    tasks = sorted(frame.index, key=lambda task: (train.get(task, 1e12), task == "average"))
    sized = {task: f" ({train[task]:,.0f})" for task in tasks if train.get(task, np.inf) < np.inf}
    names = {task: task_name(task) + sized.get(task, "") for task in tasks}
    frame = frame.loc[tasks]
    tint, groups = COLOURS[STUDENT], []
    taught = frame.index.isin(teachers)
    single = frame.index != "average"
    for label, kept, look in (
        ("task with a teacher", taught, (tint,)),
        ("task without a teacher", ~taught & single, (tint, "o", False)),
        ("average", ~single, ("#222222", "D")),
    ):
        groups.append(Series(label, frame[kept].rename(index=names), *look))
    return list(names.values()), groups, bars(frame)


@styled
def gain_by_size(
    results: pd.DataFrame,
    sizes: pd.DataFrame | None,
    teachers=published.TEACHERS,
    compared: Compared | None = None,
) -> Figure:
    """Draw MT-DNN_KD's gain by task, small tasks first, beside the published gains.

    The paper finds larger gains on smaller tasks (MT-DNN_KD, Liu et al. 2019, section 4.2).
    """
    names, series, bars_are = _gains_by_size(results, sizes, teachers, compared)
    if not names:
        return empty_figure("No gains to show: MT-DNN and MT-DNN_KD share no task.")
    by_name = {row.partition(" (")[0]: row for row in names}
    official = published.gains()[["gain"]].assign(low=np.nan, high=np.nan)
    official = official.rename(index=lambda task: by_name.get(task_name(task)))
    official = official[official.index.notna()].drop(index="Average", errors="ignore")
    figure = new_figure(9, 1.6 + 0.36 * len(names))
    axes = figure.subplots()
    label = "published (BERT-large, all of GLUE)"
    forest(axes, names, [Series(label, official, MUTED, "d", False), *series])
    axes.set_title("Gain by size of the training set")
    axes.set_xlabel(f"MT-DNN_KD − MT-DNN, points\n{bars_are}")
    axes.set_ylabel("task (training examples)")
    legend_below(figure, axes, ncols=4)
    figure.set_label(f"Gain of MT-DNN_KD over MT-DNN in points. {'. '.join(map(str, series))}.")
    return figure


@styled
def ensemble_vs_student(
    results: pd.DataFrame, teachers=published.TEACHERS, compared: Compared | None = None
) -> Figure:
    """Draw points of the student and of the ensembles over MT-DNN, by task (section 4.3)."""
    frame = gains(results, compared)
    frame = frame[frame["base"].notna()]
    if not len(frame):
        return empty_figure("Nothing to compare: MT-DNN has no dev scores.")
    names = {
        task: f"{task_name(task)}{'*' * (task in teachers)}  {number(row['base'])}"
        for task, row in frame.iterrows()
    }
    series = []
    for system, points in ((STUDENT, frame), (ENSEMBLE, gains(results, compared, ENSEMBLE))):
        points = points.dropna(subset=["gain"]).rename(index=names)
        series.append(Series(name(system), points, colour(system), marker(system)))
    figure = new_figure(9, 1.6 + 0.42 * len(names))
    axes = figure.subplots()
    forest(axes, list(names.values()), series, dodge=0.3)
    axes.set_title("Student and ensembles against MT-DNN")
    axes.set_xlabel(f"points over MT-DNN\n{bars(frame)}")
    axes.set_ylabel("task (*: with a teacher) and MT-DNN's score")
    legend_below(figure, axes, ncols=2)
    figure.set_label(f"Points over MT-DNN by task. {'. '.join(map(str, series))}.")
    return figure
