"""MKD's figures: quality against latency, and what multi-task distillation adds."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mtkd.report.figures import Series, forest
from mtkd.report.significance import bars
from mtkd.report.style import COLOURS, MKD_COLOURS, empty_figure, legend_below, new_figure, styled
from mtkd.report.table import number

TRAINING = {  # of the systems, each in its colour
    "hard targets, single-task": COLOURS["bert"],
    "hard targets, multi-task": MKD_COLOURS["mt-"],
    "task-specific distillation": MKD_COLOURS["task-kd-"],
    "multi-task distillation": MKD_COLOURS["mkd-"],
    "multi-task distillation with hard targets": "#e69f00",
    "ensemble": COLOURS["mt-dnn-ensemble"],
}


def front(points: pd.DataFrame) -> list:
    """Return the index of the points (ms, average) that no other is both faster and better than."""
    ordered = points.sort_values(["ms", "average"], ascending=[True, False])
    best_before = ordered["average"].cummax().shift(fill_value=-float("inf"))
    return list(ordered.index[ordered["average"] > best_before])


@styled
def pareto(points: pd.DataFrame) -> Figure:
    """Draw average dev score against latency on the processor, a panel per batch size.

    Args:
        points: columns label, model, training (a key of `TRAINING`), batch, ms (per example) and
            average (percent). The dashed line joins the `front`.
    """
    if not len(points):
        return empty_figure("No system has both a score on every task and a measured cost.")
    look = {"hue": "training", "style": "model", "s": 90, "palette": TRAINING}
    look["hue_order"] = [one for one in TRAINING if one in set(points["training"])]
    layout = {"col": "batch", "height": 4, "aspect": 0.95, "facet_kws": {"sharex": False}}
    grid = sns.relplot(points, x="ms", y="average", **look, **layout)
    texts = []
    for batch, axes in grid.axes_dict.items():
        at_batch = points[points["batch"] == batch]
        best = at_batch.loc[front(at_batch)]
        axes.set(xscale="log", title=f"Batch {batch}")
        line = pd.concat([best, best.tail(1).assign(ms=axes.get_xlim()[1])])
        axes.step(line["ms"], line["average"], "--", where="post", color="#777777", zorder=0)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        names = [
            f"{row.label} ({row.ms:.2g} ms, {number(row.average)})" for row in best.itertuples()
        ]
        texts.append(f"batch {batch}: {', '.join(names)}")
    best_are = "dashed: none is both faster and better"
    grid.set_axis_labels(f"ms per example\n{best_are}", "average dev score, percent")
    grid.figure.set_label(
        "Average dev score against latency on the processor. No other system is both faster and "
        f"better than, at {'; '.join(texts)}."
    )
    return grid.figure


@styled
def over_task_specific(frames: dict[tuple[str, str], pd.DataFrame], names: list[str]) -> Figure:
    """Draw points that multi-task distillation adds by task, a panel per student.

    Args:
        frames: by student and what it is compared with, frames of `scores.gains` by row name.
        names: row names from the top.
    """
    if not any(map(len, frames.values())):
        return empty_figure("No student has scores by both ways of distillation.")
    students = list(dict.fromkeys(student for student, _ in frames))
    figure = new_figure(10, 1.7 + 0.44 * len(names))
    panels = figure.subplots(1, len(students), sharey=True, squeeze=False)[0]
    looks, texts = [(MKD_COLOURS["mkd-"], "o", True), (MKD_COLOURS["mt-"], "o", False)], []
    for axes, student in zip(panels, students, strict=True):
        pairs = [(base, frame) for (of, base), frame in frames.items() if of == student]
        series = [Series(*pair, *look) for pair, look in zip(pairs, looks, strict=True)]
        forest(axes, names, series, dodge=0.28)
        axes.set(title=student, xlabel="points added by multi-task distillation")
        texts.append(f"{student} {', '.join(map(str, series))}")
    legend_below(figure, panels[0], ncols=2, title=bars(pd.concat(frames.values())))
    figure.set_label(f"Points that multi-task distillation adds. {'; '.join(texts)}.")
    return figure
