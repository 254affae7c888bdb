"""MKD's part of the report: system by task with size and speed, quality against latency, and what sharing a student adds.

Every function takes `Found`, or None where the study has no students of MKD's: then it says so. Figures of others are
marked published; none is MKD's own, whose full text was not at hand.
"""

import math
from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from mtkd.artifacts import Artifact
from mtkd.report import neighbours as others
from mtkd.report import scores as figures
from mtkd.report.scores import ENSEMBLE, name, title
from mtkd.report.sections.mkd_figures import over_task_specific, pareto
from mtkd.report.sections.mkd_results import ABSENT, COMPARISONS, Found, added
from mtkd.report.significance import METHOD, called, span
from mtkd.report.style import Shown
from mtkd.report.table import NONE, Table, count, number, spread


def _missing(name_: str) -> Table:
    return Table(name_, ABSENT, pd.DataFrame({"System": []}))


def _significant(value: float) -> str:
    """Three figures, whole numbers with thousands marked."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(found: Found | None) -> Table:
    """System x task (percent, mean ± standard deviation over seeds) with size and speed."""
    if found is None:
        return _missing("mkd")
    averages = figures.averages(found.results, found.averaged)
    tops = averages[averages["system"] != ENSEMBLE].groupby("system")["average"].mean()
    tops = tops[[system for system in tops.index if found.student_of(system)]].round(1)
    rows = []
    for system in found.systems():
        wide = figures.by_seed(found.results, system)
        cells = {
            title(task): spread(wide[task].dropna()) if task in wide else NONE
            for task in figures.in_order(found.tasks)
        }
        average = spread(averages.loc[averages["system"] == system, "average"])
        if len(tops) and system in tops and tops[system] == tops.max():
            average = f"**{average}**"
        rows.append(
            {
                "System": found.label(system),
                "Seeds": str(int((wide.index >= 0).sum()) or NONE),
                **cells,
                "Average": average,
                **_cost_cells(found, system),
            }
        )
    large = sum(found.student_of(system) is None for system in found.systems())
    notes = [
        f"Percent on dev, mean ± standard deviation over seeds; a task's score is the mean of its metrics. Average over "
        f"{', '.join(map(title, found.averaged))}; bold: the best student. A student's four ways have the same updates, batch size and "
        "weights to start from; a fine-tuned one has had more.",
        "Parameters (without embeddings in brackets) and operations of matrix products: of what an example goes through, all members for "
        f"the ensemble. MB: weights on disk of all models that it takes to serve the {len(found.tasks)} tasks. Times on "
        f"{_machine(found.machine)}, word pieces to logits.",
    ]
    return Table(
        "mkd", "MKD: dev scores, size and speed", pd.DataFrame(rows), notes, divide=(large,)
    )


def _machine(machine: dict) -> str:
    text = f"{machine.get('cpu', 'the processor')} ({machine.get('threads', 1)} thread{'s' if machine.get('threads', 1) != 1 else ''})"
    return text + (f" and {machine['gpu']}" if machine.get("gpu") else "")


def _cost_cells(found: Found, system: str) -> dict[str, str]:
    """Columns of size and speed; dashes for a system that was not measured."""
    cells, small, large = {}, found.sizes[0], found.sizes[-1]
    row = found.cost(system, small)
    cells["Params (no emb.), M"] = (
        NONE
        if row is None
        else f"{row.params / 1e6:.2f} ({row.params_without_embeddings / 1e6:.2f})"
    )
    cells["MB, all tasks"] = NONE if row is None else _significant(row.bytes_all / 1e6)
    cells["MFLOPs"] = NONE if row is None else _significant(row.flops / 1e6)
    for device in dict.fromkeys(found.costs["device"]):
        row, many = found.cost(system, small, device), found.cost(system, large, device)
        where = "" if device == "cpu" else f", {device}"
        cells[f"ms at {small}{where}"] = NONE if row is None else f"{row.latency:.2f}"
        cells[f"Ex./s at {large}{where}"] = NONE if many is None else f"{many.rate:,.0f}"
    return cells


def costs_table(costs: pd.DataFrame, machine: dict) -> Table:
    """Everything measured: a row a shape, device and batch size."""
    rows = []
    for _, row in costs.drop_duplicates(["measured", "device", "batch"]).iterrows():
        same = list(dict.fromkeys(costs.loc[costs["measured"] == row.measured, "system"]))
        rows.append(
            {
                "Systems": ", ".join(same),
                "Device": row.device,
                "Batch": count(row.batch),
                "Params": count(row.params),
                "Without embeddings": count(row.params_without_embeddings),
                "Bytes": count(row.bytes),
                "MFLOPs an example": _significant(row.flops / 1e6),
                "Latency, ms": f"{row.latency:.2f} ({row.latency_low:.2f} to {row.latency_high:.2f})",
                "Examples/s": f"{row.rate:,.0f} ({row.rate_low:,.0f} to {row.rate_high:,.0f})",
            }
        )
    notes = [
        "Medians; in brackets the least and the greatest of the rounds. Systems of one shape share a measurement; parameters and "
        "bytes are the first one's, with a single head.",
        f"On {_machine(machine)}, in {machine.get('precision', 'fp32')}.",
    ]
    return Table("costs", "What it costs to serve", pd.DataFrame(rows), notes)


def pairs(found: Found | None) -> list[tuple[str, str]]:
    """Multi-task distillation of every student against the other ways of training it."""
    return [
        (f"mkd-{student}:mtl", base.format(student))
        for student in (found.students if found else ())
        for base, _ in COMPARISONS
    ]


def label(found: Found | None) -> Callable[[str], str]:
    """How a comparison calls a system, a student among them."""
    shown = (
        (
            lambda system: (
                found.label(system).replace(": ", " by ")
                if found.student_of(system)
                else name(system)
            )
        )
        if found
        else name
    )
    return partial(called, label=shown)


def gains_table(found: Found | None) -> Table:
    """What multi-task distillation adds, by student and comparison: points with the 95 % interval."""
    if found is None:
        return _missing("mkd_gains")
    rows = []
    for student in found.students:
        for base, words in COMPARISONS:
            frame = added(found, student, base)
            cells = {
                "Average" if task == "average" else title(task): _gain(row)
                for task, row in frame.iterrows()
            }
            rows.append(
                {
                    "Multi-task distillation": f"{found.label(student).partition(':')[0]}: {words}",
                    "Seeds": str(int(frame["seeds"].max())) if len(frame) else NONE,
                    **cells,
                }
            )
    notes = [
        f"Points, paired by seed, on the same budget of updates, before any fine-tuning. {METHOD.partition(';')[0]}."
    ]
    return Table(
        "mkd_gains", "What multi-task distillation adds", pd.DataFrame(rows).fillna(NONE), notes
    )


def _gain(row) -> str:
    return number(row["gain"], 1, sign=True) + (f" ({span(row, 1)})" if span(row) else "")


def neighbours() -> Table:
    """Published figures of small models, none of them MKD's."""
    return others.table()


def finding(found: Found | None) -> str:
    """One paragraph of Markdown computed from the results, whichever way they fall."""
    if found is None:
        return ABSENT
    return " ".join(_finding_of(found, student) for student in found.students)


def _finding_of(found: Found, student: str) -> str:
    shown = found.label(student).partition(":")[0]
    parts = []
    for base, words in COMPARISONS:
        frame = added(found, student, base)
        if "average" not in frame.index:
            continue
        row = frame.loc["average"]
        sure = "" if row.low > 0 or row.high < 0 else ", which includes zero"
        told = f" (95 % interval {span(row)}{sure})" if span(row) else ""
        parts.append((row, f"{number(row.gain, 2, sign=True)} points {words}{told}"))
    if not parts:
        return f"**{shown}**: what multi-task distillation adds cannot be told, as the ways of training share no task."
    row = parts[0][0]
    if round(row.gain, 2) <= 0:
        verdict = "multi-task distillation did not add to task-specific distillation"
    elif not span(row):
        verdict = "multi-task distillation added to task-specific distillation in this run (no interval: chance is not ruled out)"
    elif row.low > 0 and row.seeds < 2:
        verdict = "multi-task distillation added to task-specific distillation in this run (one seed: how training varies is not known)"
    else:
        verdict = f"multi-task distillation {'added' if row.low > 0 else 'did not measurably add'} to task-specific distillation"
    return " ".join(
        filter(
            None,
            [
                f"**{shown}: {verdict}.**",
                f"On average {'; '.join(text for _, text in parts)}.",
                _above_its_teacher(found, student),
                _cheaper(found, student, shown),
            ],
        )
    )


def _above_its_teacher(found: Found, student: str) -> str:
    """Says so where the student on hard targets alone is a point or more above the teacher: then distillation holds it back."""
    means = figures.averages(found.results, found.averaged).groupby("system")["average"].mean()
    alone = means.reindex([student, f"mt-{student}:mtl"]).max()
    if not alone >= means.get(found.teacher, math.inf) + 1:
        return ""
    return (
        f"On hard targets alone the student reaches {number(alone)}, {number(alone - means[found.teacher])} points above its teacher "
        f"({number(means[found.teacher])}): the teacher's logits hold less than the labels do."
    )


def _cheaper(found: Found, student: str, shown: str) -> str:
    """How much faster and smaller a student is than the teacher and the ensemble, and how far behind."""
    system, texts = f"mkd-{student}:mtl", []
    means = figures.averages(found.results, found.averaged).groupby("system")["average"].mean()
    small, large = found.sizes[0], found.sizes[-1]
    for other in dict.fromkeys((found.teacher, ENSEMBLE)):
        mine, theirs = found.cost(system, small), found.cost(other, small)
        if mine is None or theirs is None:
            continue
        faster, rate = (
            theirs.latency / mine.latency,
            found.cost(system, large).rate / found.cost(other, large).rate,
        )
        behind = (
            f", {number(means[system] - means[other], 1, sign=True)} points"
            if system in means and other in means
            else ""
        )
        texts.append(
            f"against {found.label(other)} {_times(faster)} as fast at batch {small}, {_times(rate)} at batch {large}, "
            f"{100 * mine.params / theirs.params:.0f} % of the parameters that an example goes through{behind}"
        )
    return f"{shown}: {'; '.join(texts)}." if texts else ""


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times"


def scores_of(runs: dict[str, list[Artifact]], teacher: Artifact) -> Table:
    """Dev scores (percent, mean of a task's metrics) of one student's ways of training, beside the teacher's."""
    rows = []
    for system, found in {"teacher (mt-dnn:mtl)": [teacher], **runs}.items():
        means = (
            pd.concat([part.frame("scores.csv") for part in found]).groupby("task")["value"].mean()
        )
        cells = {title(task): number(means[task]) for task in figures.in_order(means.index)}
        rows.append(
            {
                "System": system,
                **cells,
                "Mean": number(means.mean()),
                "Seconds": number(sum(part.seconds for part in found)),
            }
        )
    return Table("scores", "Dev scores in percent", pd.DataFrame(rows).fillna(NONE))


def curves_of(runs: dict[str, list[Artifact]], seed: int) -> pd.DataFrame:
    """Curves of the ways of training, with the columns that `learning_curves` takes."""
    parts = [
        part.frame("curve.csv").assign(run=system, system=system, seed=seed)
        for system, found in runs.items()
        for part in found
    ]
    return pd.concat(parts, ignore_index=True)


def write_tables(found: Found | None) -> list[Table]:
    """Tables of the report's folder; none where the study has no students."""
    if found is None:
        return []
    return [
        table(found),
        gains_table(found),
        costs_table(found.costs, found.machine),
        *_beside(found),
    ]


def _beside(found: Found) -> list[Table]:
    """The published neighbours, where the study has tasks of theirs."""
    return [neighbours()] if figures.beside_the_paper(found.results) else []


def write_figures(found: Found | None) -> dict[str, Figure]:
    return (
        {}
        if found is None
        else {"mkd_pareto": pareto(found), "mkd_gains": over_task_specific(found)}
    )


class part:
    """The report's part on MKD: table, quality against latency, gains and published neighbours; nothing without students."""

    def __init__(self, found: Found | None):
        self.pieces = (
            []
            if found is None
            else [
                table(found),
                Shown(pareto(found)),
                Shown(over_task_specific(found)),
                gains_table(found),
                *_beside(found),
            ]
        )

    def _repr_html_(self) -> str:
        return "\n".join(piece._repr_html_() for piece in self.pieces)

    def __repr__(self) -> str:
        return f"[MKD: {len(self.pieces)} tables and figures]"
