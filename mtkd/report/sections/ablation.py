"""The ablation's part of the report: what each lever on distillation changes, and the ensembles' size.

Every function takes `Found`, or None where the study compares no ways to distil: then the report says nothing of them.
"""

import html
import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtkd.config.distillation import Distil, Unlabelled, Variant
from mtkd.config.study import Study
from mtkd.report import scores as figures
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, gains, title
from mtkd.report.significance import METHOD, Compared
from mtkd.report.style import COLOURS, Shown, blank, nothing, styled
from mtkd.report.table import NONE, Table, count, number
from mtkd.workflow.jobs import variants

PLAIN, VANILLA = f"{STUDENT}:mtl", f"{BASE}:mtl"
HEADING = "Levers on distillation"
ABOUT = (
    "MT-DNN_KD before fine-tuning with one setting changed. Each student has the encoder, the seeds and the weights to start from of "
    "the plain one, and as many updates unless it says otherwise."
)


@dataclass(frozen=True)
class Found:
    """`results`: rows of results.csv of the study's own systems; `rows`: those of the ablation's; `keep`: the study's
    candidates.ensemble_size; `tasks`: of multi-task training; `compared`: `pairs` by their predictions.
    """

    results: pd.DataFrame
    rows: pd.DataFrame
    variants: dict[str, Variant]
    keep: int
    tasks: list[str]
    compared: Compared | None = None

    @property
    def scored(self) -> pd.DataFrame:
        both = pd.concat([self.results, self.rows], ignore_index=True)
        return both[both["task"].isin(self.tasks)]

    @property
    def averaged(self) -> list[str]:
        return [task for task in figures.averaged(self.results) if task in self.tasks]

    def over(self, system: str, base: str) -> pd.Series | None:
        """`scores.gains` on average of a system over another, paired by seed; None where they share no task."""
        frame = gains(self.scored, self.compared, system, base)
        return (
            frame.loc["average"]
            if "average" in frame.index and math.isfinite(frame.loc["average", "gain"])
            else None
        )


def pairs(found: Found | None) -> list[tuple[str, str]]:
    """Every variant's student, and MT-DNN's, against MT-DNN_KD before fine-tuning; the variants' against MT-DNN and their controls."""
    students = {
        f"{STUDENT}:{name}": variant for name, variant in (found.variants if found else {}).items()
    }
    both = [(student, base) for base in (PLAIN, VANILLA) for student in students] + (
        [(VANILLA, PLAIN)] if students else []
    )
    return both + [
        (student, f"{STUDENT}:{variant.control}")
        for student, variant in students.items()
        if variant.control
    ]


def amounts(given: Unlabelled) -> str:
    """What `unlabelled` asks for, in words."""
    of = {
        "snli": "pairs of SNLI",
        "left_out_train": "examples that data.max_train leaves out",
        "tasks": "pairs of other tasks",
    }
    texts = ", ".join(
        f"up to {count(getattr(given, key))} {text}"
        for key, text in of.items()
        if getattr(given, key)
    )
    return f"{texts} a task ({'more' if given.extra_updates else 'same'} updates)"


def words(variant: Variant) -> str:
    """A variant in words."""
    if variant.source == "cross_fit":
        parts = [f"teachers cross-fitted on {variant.folds} parts"]
    elif variant.source == "unlabelled":
        parts = [f"soft targets also on {amounts(variant.unlabelled)}"]
    elif variant.source == "ensemble":
        parts = ["soft targets on the train sets alone"]
    elif variant.source == "self_distillation":
        parts = [
            "taught on all tasks by "
            + (
                "the vanilla MT-DNN"
                if variant.generations == 1
                else "a student of the first generation"
            )
        ]
    else:
        parts = []
    if variant.teachers:
        parts.append(f"teachers of {', '.join(map(title, variant.teachers))}")
    told = {
        "hard_weight": "weight of hard targets",
        "temperature": "temperature",
        "ensemble_size": "members an ensemble",
        "epochs": "epochs",
    }
    parts += [
        f"{text} {value:g}"
        for key, text in told.items()
        if (value := getattr(variant, key)) is not None
    ]
    if variant.hard_weight_of is not None:
        weights = ", ".join(
            f"{title(task)} {value:g}" for task, value in variant.hard_weight_of.items()
        )
        parts.append(f"weight of hard targets by task: {weights or 'none'}")
    if variant.annealing is not None:
        parts.append(
            "weight of hard targets from 0 to 1 over the training"
            if variant.annealing
            else "no annealing"
        )
    losses = {
        "kl": "divergence in place of cross entropy (the same gradient)",
        "logits": "logits in place of probabilities",
        "cross-entropy": "cross entropy",
    }
    return "; ".join(parts + ([losses[variant.loss]] if variant.loss else []))


def settings(study: Study, name: str) -> Table:
    """What a variant's student learns by, beside MT-DNN_KD of the study."""
    variant = variants(study)[name]
    own = variant.distil(study.distil, study.multitask)
    rows = [
        {
            "Setting": "source of soft targets",
            "Here": variant.source or "as MT-DNN_KD",
            "MT-DNN_KD": "unlabelled" if study.distil.unlabelled else "ensemble",
        },
        {
            "Setting": "members of an ensemble",
            "Here": NONE
            if variant.source == "self_distillation"
            else str(variant.ensemble_size or study.candidates.ensemble_size),
            "MT-DNN_KD": str(study.candidates.ensemble_size),
        },
        {
            "Setting": "epochs",
            "Here": str(variant.epochs or study.train.epochs),
            "MT-DNN_KD": str(study.train.epochs),
        },
    ]
    rows += [
        {
            "Setting": f"distil.{field}",
            "Here": _value(getattr(own, field)),
            "MT-DNN_KD": _value(getattr(study.distil, field)),
        }
        for field in Distil.model_fields
    ]
    return Table("settings", f"{name}: {words(variant)}", pd.DataFrame(rows), words=True)


def _value(value) -> str:
    if value is None:
        return NONE
    if isinstance(value, Unlabelled):
        return amounts(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {part:g}" for key, part in value.items()) or NONE
    return (
        ", ".join(value)
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def table(found: Found) -> Table:
    """A row a variant: dev scores by task, average, and what it adds to MT-DNN_KD and to MT-DNN, before fine-tuning."""
    scored, rows = found.scored, []
    by = figures.averages(scored[~scored["system"].str.startswith(ENSEMBLE)], found.averaged)
    averages = by.groupby("system")["average"].mean()
    told = {
        VANILLA: ("MT-DNN", "hard targets alone"),
        PLAIN: ("MT-DNN_KD", "the study's own settings"),
    }
    told |= {
        f"{STUDENT}:{name}": (name, words(variant)) for name, variant in found.variants.items()
    }
    controls = {
        f"{STUDENT}:{name}": variant.control
        for name, variant in found.variants.items()
        if variant.control
    }
    for system, (name, text) in told.items():
        wide = figures.by_seed(scored, system)
        cells = {
            title(task): number(wide[task].mean()) if task in wide else NONE
            for task in figures.in_order(found.tasks)
        }
        over = {
            f"over {told[base][0]}": NONE
            if system == base
            else difference(found.over(system, base))
            for base in (PLAIN, VANILLA)
        }
        if controls:
            control = controls.get(system)
            over["over its control"] = (
                f"{control}: {difference(found.over(system, f'{STUDENT}:{control}'))}"
                if control
                else NONE
            )
        rows.append(
            {
                "Student": name,
                "What is changed": text,
                "Seeds": str(len(wide) or NONE),
                "Average": number(averages.get(system, math.nan)),
                **over,
                **cells,
            }
        )
    notes = [
        f"Percent on dev before fine-tuning, means over seeds; a task's score is the mean of its metrics. Average over "
        f"{', '.join(map(title, found.averaged))}.",
        f"Differences of the average in points, paired by seed. {METHOD.partition(';')[0]}; of so many, some may leave zero out by "
        "chance.",
    ]
    shared = alike(by, [*told])
    if 0 < (seeds := shared["seed"].nunique()) < by["seed"].nunique():
        levels = shared.groupby("system")["average"].mean()
        level = ", ".join(
            f"{told[system][0]} {number(levels[system])}"
            for system in (VANILLA, PLAIN)
            if system in levels
        )
        notes.append(f"Not all rows have the same seeds. Over the {seeds} that all have: {level}.")
    return Table(
        "ablation",
        "Levers on distillation",
        pd.DataFrame(rows),
        notes,
        divide=(2,),
        prose=("What is changed",),
    )


def alike(averages: pd.DataFrame, systems: list[str]) -> pd.DataFrame:
    """The rows of these systems (those there are) on the seeds that all of them have."""
    rows = averages[averages["system"].isin(systems)]
    return rows[rows.groupby("seed")["system"].transform("nunique") == rows["system"].nunique()]


def difference(row: pd.Series | None) -> str:
    """Points with the 95 % interval, where there is one."""
    if row is None:
        return NONE
    text = number(row["gain"], 2, sign=True)
    return text + (
        f" ({number(row['low'], 2, sign=True)} to {number(row['high'], 2, sign=True)})"
        if math.isfinite(row["low"])
        else ""
    )


@styled
def differences(found: Found) -> Figure:
    """Points that each variant adds to MT-DNN_KD before fine-tuning on average, best first, with 95 % intervals."""
    rows = {name: found.over(f"{STUDENT}:{name}", PLAIN) for name in found.variants}
    rows["MT-DNN (no soft targets)"] = found.over(VANILLA, PLAIN)
    rows = dict(
        sorted(
            ((name, row) for name, row in rows.items() if row is not None),
            key=lambda item: -item[1]["gain"],
        )
    )
    if not rows:
        return nothing("No variant shares a task with MT-DNN_KD.")
    figure = blank(8.5, 1.3 + 0.32 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color="#555555", linewidth=1)
    for place, (name, row) in enumerate(rows.items()):
        reach = (
            [[row["gain"] - row["low"]], [row["high"] - row["gain"]]]
            if math.isfinite(row["low"])
            else None
        )
        tint = COLOURS[STUDENT] if name in found.variants else COLOURS[BASE]
        axes.errorbar(
            row["gain"],
            -place,
            xerr=reach,
            fmt="D" if name in found.variants else "o",
            color=tint,
            markersize=6.5,
            capsize=3,
            elinewidth=1.1,
        )
    axes.set_yticks([-place for place in range(len(rows))], list(rows))
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.set_xlabel(
        f"points over MT-DNN_KD, average of {len(found.averaged)} tasks before fine-tuning\n"
        "(bars: 95 % interval over seeds and dev examples)"
    )
    told = "; ".join(f"{name} {difference(row)}" for name, row in rows.items())
    figure.set_label(f"Points over MT-DNN_KD before fine-tuning. {told}.")
    return figure


def by_size(found: Found) -> pd.DataFrame:
    """Average dev scores by the ensembles' size: size, system ('ensemble' or 'student'), seed, average (percent).

    A student counts that differs from MT-DNN_KD by its ensembles' size alone, on the seeds that those of all sizes have.
    """
    alone = {
        name: variant
        for name, variant in found.variants.items()
        if variant.changes.keys() == {"ensemble_size"}
    }
    students = {variant.ensemble_size: f"{STUDENT}:{name}" for name, variant in alone.items()} | {
        found.keep: PLAIN
    }
    ensembles = {
        int(system.rpartition("-")[2]): system
        for system in set(found.rows["system"])
        if system.startswith(f"{ENSEMBLE}:keep-")
    }
    ensembles |= {found.keep: ENSEMBLE}
    averages = figures.averages(found.scored, found.averaged)
    taught = alike(averages, list(students.values()))
    parts = [
        rows[rows["system"] == system].assign(size=size, system=kind)
        for kind, rows, systems in (
            ("ensemble", averages, ensembles),
            ("student", taught, students),
        )
        for size, system in sorted(systems.items())
    ]
    return pd.concat(parts, ignore_index=True)[["size", "system", "seed", "average"]]


def sized(found: Found) -> bool:
    """Whether there are ensembles of several sizes."""
    return by_size(found)["size"].nunique() > 1


@styled
def ensemble_size(found: Found) -> Figure:
    """Average dev score of ensembles and of their students against the number of members; where there are several."""
    points = by_size(found)
    figure = blank(7, 4)
    axes, told = figure.subplots(), []
    for system, kind, mark, words_ in (
        ("ensemble", ENSEMBLE, "^", "ensemble of k members, fine-tuned on each task"),
        ("student", STUDENT, "D", "MT-DNN_KD taught by them, before fine-tuning"),
    ):
        by = points[points["system"] == system].groupby("size")["average"]
        means, deviations = by.mean(), by.std(ddof=1).fillna(0)
        axes.errorbar(
            means.index,
            means,
            yerr=deviations if deviations.any() else None,
            fmt=f"-{mark}",
            color=COLOURS[kind],
            markersize=7,
            capsize=3,
            elinewidth=1,
            label=words_,
        )
        told.append(
            f"{words_}: " + ", ".join(f"{size} {number(value)}" for size, value in means.items())
        )
    vanilla, seeds = (
        figures.averages(found.scored, found.averaged),
        points.loc[points["system"] == "student", "seed"],
    )
    if len(
        level := vanilla.loc[
            (vanilla["system"] == VANILLA) & vanilla["seed"].isin(seeds), "average"
        ]
    ):
        axes.axhline(
            level.mean(),
            color=COLOURS[BASE],
            linewidth=1.2,
            linestyle="--",
            label="MT-DNN, before fine-tuning",
        )
        told.append(f"MT-DNN, before fine-tuning: {number(level.mean())}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        xlabel="members k of each ensemble",
        ylabel=f"average of {len(found.averaged)} tasks, percent",
    )
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        title="bars: standard deviation over seeds",
    )
    figure.set_label("Average dev score by the ensembles' size. " + "; ".join(told) + ".")
    return figure


def write_tables(found: Found | None) -> list[Table]:
    """Tables of the report's folder."""
    return [] if found is None else [table(found)]


def write_figures(found: Found | None) -> dict[str, Figure]:
    return (
        {}
        if found is None
        else {"ablation": differences(found)}
        | ({"ensemble_size": ensemble_size(found)} if sized(found) else {})
    )


class part:
    """The report's part on the ablation with its heading; nothing where there is none."""

    def __init__(self, found: Found | None):
        self.pieces = [] if found is None else [Shown(differences(found)), table(found)]
        self.pieces += [Shown(ensemble_size(found))] if found is not None and sized(found) else []

    def _repr_html_(self) -> str:
        head = f'<h2 id="levers">{HEADING}</h2><p>{html.escape(ABOUT)}</p>' if self.pieces else ""
        return "\n".join([head, *(piece._repr_html_() for piece in self.pieces)])

    def __repr__(self) -> str:
        return f"[ablation: {len(self.pieces)} tables and figures]" if self.pieces else ""
