"""Every plot of the report: frames in, a figure out, its description in the figure's label.

Missing parts (a system, a seed, a task, a split) leave their place empty; a plot without data says so.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from mtkd.report import published
from mtkd.report import scores as figures
from mtkd.report.run_plots import learning_curves, soft_targets
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, SYSTEMS, gains, name, title
from mtkd.report.significance import Compared, bars, reach
from mtkd.report.style import (
    COLOURS,
    MARKERS,
    MUTED,
    Shown,
    blank,
    colour,
    marker,
    nothing,
    place_labels,
    styled,
)
from mtkd.report.table import number, percent

__all__ = [
    "ensemble_vs_student",
    "gain_by_size",
    "learning_curves",
    "overview",
    "show",
    "soft_targets",
]
show = Shown


def _thousands(value: float, _=None) -> str:
    if value < 1000:
        return f"{value:g}"
    return f"{value / 1000:.2g}k" if value < 10_000 else f"{value / 1000:.0f}k"


def _signed(value: float, _=None) -> str:
    return number(value, 0 if abs(value - round(value)) < 1e-9 else 1, sign=True)


def _window(axes, which: str, values, frame: pd.DataFrame, places: dict[str, float]) -> None:
    """Limits that show every value and most of every interval; one that runs out of the picture ends in an arrow at its edge.

    `places` are the rows of `frame` on the other axis.
    """
    values = np.array([v for v in values if math.isfinite(v)] or [0.0])
    ends = frame[["low", "high"]].to_numpy(dtype=float).ravel()
    room = 3 * max(np.abs(values).max(), 0.2)
    ends = np.clip(ends[np.isfinite(ends)], -room, room)
    low, high = min(0, values.min(), *ends), max(0, values.max(), *ends)
    pad = 0.08 * max(high - low, 0.2)
    low, high = low - pad, high + pad
    getattr(axes, f"set_{which}lim")(low, high)
    for task, place in places.items():
        row = frame.loc[task]
        for beyond, edge, mark in ((row["low"] < low, low, "<v"), (row["high"] > high, high, ">^")):
            if beyond:
                point = (edge, place) if which == "x" else (place, edge)
                axes.plot(
                    *point,
                    mark[which == "y"],
                    color=COLOURS[STUDENT],
                    markersize=6,
                    clip_on=False,
                    zorder=5,
                )


def _dodged(train: dict[str, float]) -> dict[str, float]:
    """Places on the log axis: tasks of nearly the same size stand side by side, so that their bars stay apart."""
    places: dict[str, float] = {}
    for task in sorted(train, key=train.get):
        place = train[task]
        while any(abs(math.log(place / other)) < 0.11 for other in places.values()):
            place *= 1.12
        places[task] = place
    return places


@styled
def gain_by_size(
    results: pd.DataFrame,
    sizes: pd.DataFrame,
    teachers=published.TEACHERS,
    compared: Compared | None = None,
    paper: bool = True,
) -> Figure:
    """Gain of MT-DNN_KD over MT-DNN (points) against train examples (log): the paper's claim about small tasks.

    Filled points are tasks with a teacher; with `paper`, hollow diamonds are the published gains at Table 1's sizes.
    """
    train, paper = figures.train_sizes(sizes), paper and figures.beside_the_paper(results)
    frame = gains(results, compared).drop(index="average", errors="ignore").dropna(subset=["gain"])
    frame = frame[[task in train for task in frame.index]]
    if not len(frame):
        return nothing("No gains to show: MT-DNN and MT-DNN_KD share no task of known size.")
    figure = blank(9, 5)
    axes = figure.subplots()
    axes.axhline(0, color="#555555", linewidth=1)
    labels, places = [], _dodged({task: train[task] for task in frame.index})
    for task, row in frame.iterrows():
        taught = task in teachers
        face = COLOURS[STUDENT] if taught else "white"
        axes.errorbar(
            places[task],
            row["gain"],
            yerr=reach(row),
            fmt="o",
            markersize=9,
            color=COLOURS[STUDENT],
            mfc=face,
            mew=1.8,
            capsize=3,
            elinewidth=1.2,
            zorder=3,
        )
        labels.append((places[task], row["gain"], title(task)))
    official = published.gains().drop(index="average")["gain"] if paper else pd.Series(dtype=float)
    for task, gain in official.items():
        axes.plot(published.size(task), gain, "d", markersize=7, mfc="none", mec=MUTED, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_signed))
    axes.margins(x=0.12)
    _window(axes, "y", [*frame["gain"], *official], frame, places)
    beside = (
        ""
        if all(places[task] == train[task] for task in places)
        else " (tasks of like size stand side by side)"
    )
    axes.set(xlabel=f"train examples of the task{beside}", ylabel="MT-DNN_KD − MT-DNN, points")
    axes.set_title(f"Gain by size of the train set ({bars(frame)})", loc="left")
    key = [
        ("o", COLOURS[STUDENT], COLOURS[STUDENT], "task with a teacher"),
        ("o", "white", COLOURS[STUDENT], "task without"),
        ("d", "none", MUTED, "published (BERT-large)"),
    ][: 3 if paper else 2]
    for shape, face, edge, text in key:
        axes.plot([], [], shape, mfc=face, mec=edge, mew=1.6, label=text)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if beside:
        _labels_below(axes, places, frame)
    else:
        ends = (
            (x, y)
            for task, x in places.items()
            for y in np.linspace(frame.loc[task, "low"], frame.loc[task, "high"], 12)
        )
        place_labels(
            axes,
            labels,
            [*ends, *((published.size(task), gain) for task, gain in official.items())],
        )
    texts = [
        f"{title(task)} ({_thousands(train[task])}): {number(row.gain, 2, sign=True)}"
        for task, row in frame.iterrows()
    ]
    figure.set_label(
        "Gain of MT-DNN_KD over MT-DNN in points, by train examples. " + "; ".join(texts) + "."
    )
    return figure


def _labels_below(axes, places: dict[str, float], frame: pd.DataFrame) -> None:
    """Writes the tasks' names upright below their bars: they have no room beside them where tasks stand close together."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * (high - low), high)
    for task, x in places.items():
        y = np.nanmin(frame.loc[task, ["gain", "low"]].to_numpy(dtype=float))
        axes.annotate(
            title(task),
            (x, max(y, low)),
            (0, -8),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9.5,
            rotation=90,
        )


@styled
def ensemble_vs_student(
    results: pd.DataFrame, teachers=published.TEACHERS, compared: Compared | None = None
) -> Figure:
    """By task: BERT, student and ensemble relative to MT-DNN (points); at the right the share of the gain kept."""
    frame = gains(results, compared)
    frame = frame[frame["base"].notna()]
    if not len(frame):
        return nothing("Nothing to compare: MT-DNN has no dev scores.")
    bert = gains(results, student="bert")["gain"].reindex(frame.index)
    figure = blank(9, 1.5 + 0.42 * len(frame))
    axes = figure.subplots()
    axes.axvline(0, color=COLOURS[BASE], linewidth=1.6)
    near = np.abs(frame[["gain", "ensemble_gain"]].to_numpy(dtype=float))
    room = 3 * max(np.nanmax(near) if np.isfinite(near).any() else 0.0, 1.0)
    shown, labels = [], []
    for place, (task, row) in enumerate(frame.iterrows()):
        y = -place
        if row["gain"] == row["gain"]:
            axes.errorbar(
                row["gain"],
                y,
                xerr=reach(row),
                fmt=MARKERS[STUDENT],
                color=COLOURS[STUDENT],
                capsize=3,
                markersize=7,
                elinewidth=1.1,
                zorder=4,
            )
        axes.plot(
            row["ensemble_gain"],
            y,
            MARKERS[ENSEMBLE],
            color=COLOURS[ENSEMBLE],
            markersize=8,
            zorder=3,
        )
        if (
            bert[task] < -room
        ):  # far off: told at the edge, so that the differences of interest keep their room
            axes.text(
                0.006,
                y,
                f"◀ {_signed(round(bert[task], 1))}",
                transform=axes.get_yaxis_transform(),
                va="center",
                color=MUTED,
                fontsize=9,
            )
        else:
            axes.plot(
                bert[task], y, MARKERS["bert"], color=COLOURS["bert"], markersize=6.5, zorder=2
            )
            shown.append(bert[task])
        kept = percent(row["kept"])
        axes.text(1.01, y, kept, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5)
        mark = "Average" if task == "average" else title(task) + ("*" if task in teachers else "")
        labels.append(f"{mark}  {number(row['base'])}")
    axes.text(
        1.01,
        1,
        "kept by\nstudent",
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=9,
        color=MUTED,
    )
    axes.set_yticks([-place for place in range(len(labels))], labels)
    axes.set_ylim(-len(labels) + 0.4, 0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(_signed))
    axes.set_xlabel(
        f"points above MT-DNN, whose score stands beside the task (* with a teacher)\n{bars(frame)}"
    )
    _window(
        axes,
        "x",
        [*shown, *frame["gain"], *frame["ensemble_gain"]],
        frame,
        {task: -place for place, task in enumerate(frame.index)},
    )
    axes.set_title("Student and ensemble against MT-DNN", loc="left", pad=26)
    for system in ("bert", STUDENT, ENSEMBLE):
        axes.plot([], [], MARKERS[system], color=COLOURS[system], label=name(system))
    axes.plot([], [], color=COLOURS[BASE], label=name(BASE))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    texts = [
        f"{'average' if task == 'average' else title(task)}: student {number(row.gain, 2, sign=True)}, ensemble "
        f"{number(row.ensemble_gain, 2, sign=True)}, kept {percent(row.kept)}"
        for task, row in frame.iterrows()
    ]
    figure.set_label("Points above MT-DNN by task. " + "; ".join(texts) + ".")
    return figure


@styled
def overview(
    results: pd.DataFrame,
    sizes: pd.DataFrame | None = None,
    teachers=published.TEACHERS,
    compared: Compared | None = None,
) -> Figure:
    """The finding at a glance: average dev scores of the systems, and the gain of MT-DNN_KD over MT-DNN by task."""
    averages, frame = figures.averages(results), gains(results, compared).dropna(subset=["gain"])
    systems = [system for system in SYSTEMS if system in set(averages["system"])]
    if not systems:
        return nothing("There is no system with scores on every task.")
    figure = blank(10, max(3.6, 1.4 + 0.32 * len(frame)))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _averages(left, averages, systems)
    _gains(right, frame, figures.train_sizes(sizes), teachers)
    texts = [
        f"{name(s)} {number(averages.loc[averages['system'] == s, 'average'].mean())}"
        for s in systems
    ]
    figure.set_label(
        "Average dev scores: "
        + ", ".join(texts)
        + ". Gain of MT-DNN_KD over MT-DNN: "
        + "; ".join(
            f"{'average' if task == 'average' else title(task)} {number(row.gain, 2, sign=True)}"
            for task, row in frame.iterrows()
        )
        + "."
    )
    return figure


def _averages(axes, averages: pd.DataFrame, systems: list[str]) -> None:
    for place, system in enumerate(systems):
        values = averages.loc[averages["system"] == system, "average"].to_numpy()
        axes.plot(
            values,
            np.full(len(values), -place),
            "|",
            color=colour(system),
            markersize=13,
            alpha=0.6,
        )
        axes.plot(values.mean(), -place, marker(system), color=colour(system), markersize=10)
        axes.annotate(
            number(values.mean()),
            (values.mean(), -place),
            (0, 10),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
        )
    axes.set_yticks([-place for place in range(len(systems))], [name(system) for system in systems])
    axes.set_ylim(-len(systems) + 0.5, 0.7)
    axes.margins(x=0.15)
    axes.set_xlabel("percent, mean over tasks\n(strokes: seeds)")
    axes.set_title("Average dev score", loc="left")
    axes.grid(axis="y", visible=False)


def _gains(axes, frame: pd.DataFrame, train: dict[str, float], teachers) -> None:
    """Gains by task from the smallest train set to the largest, the average below."""
    if not len(frame):
        axes.set_axis_off()
        axes.text(
            0.5,
            0.5,
            "MT-DNN_KD or MT-DNN has no scores",
            ha="center",
            color=MUTED,
            transform=axes.transAxes,
        )
        return
    order = sorted(
        (task for task in frame.index if task != "average"),
        key=lambda task: train.get(task, math.inf),
    )
    order += ["average"] if "average" in frame.index else []
    axes.axvline(0, color="#555555", linewidth=1)
    for place, task in enumerate(order):
        row, overall = frame.loc[task], task == "average"
        tint = "#222222" if overall else COLOURS[STUDENT]
        face = tint if overall or task in teachers else "white"
        axes.errorbar(
            row["gain"],
            -place,
            xerr=reach(row),
            fmt="D" if overall else "o",
            color=tint,
            mfc=face,
            mew=1.6,
            markersize=8,
            capsize=3,
            elinewidth=1.3,
        )
    labels = [
        "Average"
        if task == "average"
        else f"{title(task)}  {_thousands(train[task])}"
        if task in train
        else title(task)
        for task in order
    ]
    axes.set_yticks([-place for place in range(len(order))], labels)
    axes.set_ylim(-len(order) + 0.4, 0.6)
    _window(axes, "x", frame["gain"], frame, {task: -place for place, task in enumerate(order)})
    axes.xaxis.set_major_formatter(FuncFormatter(_signed))
    axes.set_xlabel(f"points (filled: with a teacher)\n{bars(frame)}")
    axes.set_title("MT-DNN_KD against MT-DNN, small tasks first", loc="left")
