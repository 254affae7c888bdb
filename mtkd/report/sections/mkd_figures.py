"""MKD's figures: quality against time, and what multi-task distillation adds."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mtkd.report import scores as figures
from mtkd.report.scores import title
from mtkd.report.sections.mkd_results import ABSENT, COMPARISONS, Found, added
from mtkd.report.significance import bars, reach
from mtkd.report.style import WAYS, blank, colour, marker, nothing, styled
from mtkd.report.table import number


def front(points: pd.DataFrame) -> list:
    """Index of the points that no other beats: none as fast (x) with a higher score (y), nor faster with as high."""
    kept, best = [], -math.inf
    for place, row in points.sort_values(["x", "y"], ascending=[True, False]).iterrows():
        if row.y > best:
            kept.append(place)
            best = row.y
    return kept


@styled
def pareto(found: Found | None) -> Figure:
    """Average dev score against time an example, a panel a batch size (processor): the line joins what nothing else beats."""
    if found is None:
        return nothing(ABSENT)
    averages = figures.averages(found.results, found.averaged).groupby("system")["average"]
    systems = [
        system
        for system in found.systems()
        if system in averages.groups and found.cost(system, found.sizes[0]) is not None
    ]
    if not systems:
        return nothing("No system has both a score on every task and a measured cost.")
    means, deviations = averages.mean(), averages.std(ddof=1).fillna(0)
    figure = blank(10.5, 5.6)
    panels = figure.subplots(1, len(found.sizes), sharey=True, squeeze=False)[0]
    told = []
    for axes, size in zip(panels, found.sizes, strict=True):
        points = pd.DataFrame(
            {
                "x": [found.cost(system, size).latency / size for system in systems],
                "y": [means[system] for system in systems],
            },
            index=systems,
        )
        best = front(points)
        for system, row in points.iterrows():
            hollow = system.endswith(":mtl") and f"{system.partition(':')[0]}" in systems
            face = "white" if hollow or ":hard-" in system else colour(system)
            axes.errorbar(
                row.x,
                row.y,
                yerr=deviations[system],
                fmt=_marker(found, system),
                color=colour(system),
                mfc=face,
                mew=1.6,
                markersize=6 if ":hard-" in system else 8.5,
                elinewidth=1,
                capsize=2,
                zorder=3,
                label=found.label(system),
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15, y=0.08)
        _front_line(axes, points.loc[best])
        axes.set_xlabel("ms an example")
        axes.set_title(f"Batch {size}", loc="left")
        words = [
            f"{found.label(system)} ({points.x[system]:.2g} ms, {number(points.y[system])})"
            for system in best
        ]
        told.append(f"batch {size}: {', '.join(words)}")
    panels[0].set_ylabel(f"average dev score of {len(found.averaged)} tasks, percent")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5
    )
    figure.set_label(
        "Average dev score against time an example on the processor. What nothing else beats at "
        + "; ".join(told)
        + "."
    )
    return figure


def _front_line(axes: Axes, best: pd.DataFrame) -> None:
    """Joins the points that nothing beats, from the lower edge to the right one: a single point has a line too."""
    (_, right), (low, _) = axes.get_xlim(), axes.get_ylim()
    axes.step(
        [best["x"].iloc[0], *best["x"], right],
        [low, *best["y"], best["y"].iloc[-1]],
        where="post",
        color="#777777",
        linewidth=1.2,
        linestyle="--",
        zorder=1,
        label="nothing else is both faster and better",
    )
    axes.set(xlim=(axes.get_xlim()[0], right), ylim=(low, axes.get_ylim()[1]))


def _marker(found: Found, system: str) -> str:
    student = found.student_of(system)
    return marker(system) if student is None else "PXv<>"[found.students.index(student) % 5]


@styled
def over_task_specific(found: Found | None) -> Figure:
    """A panel a student: points that multi-task distillation adds over task-specific distillation, and over hard targets, by task."""
    if found is None:
        return nothing(ABSENT)
    frames = {
        student: {base: added(found, student, base) for base, _ in COMPARISONS[:2]}
        for student in found.students
    }
    names = [*figures.in_order(found.tasks), "average"]
    if all(not len(frame) for pair in frames.values() for frame in pair.values()):
        return nothing("No student has scores by both ways of distillation.")
    figure = blank(10, 1.7 + 0.46 * len(names))
    panels = figure.subplots(1, len(frames), sharey=True, squeeze=False)[0]
    told = []
    for axes, (student, pair) in zip(panels, frames.items(), strict=True):
        axes.axvline(0, color="#555555", linewidth=1)
        for (base, words), shift, tint in zip(
            COMPARISONS, (0.13, -0.13), (WAYS["mkd-"], WAYS["mt-"]), strict=False
        ):
            frame, face = pair[base], tint if base == COMPARISONS[0][0] else "white"
            for task, row in frame.iterrows():
                shape = "D" if task == "average" else "o"
                axes.errorbar(
                    row["gain"],
                    shift - names.index(task),
                    xerr=reach(row),
                    fmt=shape,
                    color=tint,
                    mfc=face,
                    mew=1.6,
                    markersize=7,
                    capsize=3,
                    elinewidth=1.1,
                )
            axes.plot([], [], "o", color=tint, mfc=face, mew=1.6, label=words)
            told += [
                f"{found.label(student).partition(':')[0]} {words}, {'average' if task == 'average' else title(task)} "
                f"{number(row.gain, 1, sign=True)}"
                for task, row in frame.iterrows()
            ]
        values = np.abs(pd.concat(pair.values())[["gain", "low", "high"]].to_numpy(dtype=float))
        # Room for every point and most intervals: each student has its own scale.
        ends, most = values[:, 1:][np.isfinite(values[:, 1:])], np.nanmax(values[:, 0])
        room = max(2.0, 1.3 * most, min(1.05 * ends.max(initial=0), 3 * most))
        axes.set_xlim(-room, room)
        axes.set_xlabel("points added by multi-task distillation")
        axes.set_title(found.label(student).partition(":")[0], loc="left")
    panels[0].set_yticks(
        [-place for place in range(len(names))],
        ["Average" if task == "average" else title(task) for task in names],
    )
    panels[0].set_ylim(-len(names) + 0.4, 0.6)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        title=bars(pd.concat(frame for pair in frames.values() for frame in pair.values())),
    )
    figure.set_label("Points that multi-task distillation adds. " + "; ".join(told) + ".")
    return figure
