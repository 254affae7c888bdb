"""The ablation: what each setting of distillation changes, and how large ensembles should be."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtkd.config.distillation import Unlabelled, Variant
from mtkd.report import scores
from mtkd.report.figures import Series, forest
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, title
from mtkd.report.sections import SystemsSection, gain_text
from mtkd.report.significance import METHOD
from mtkd.report.style import COLOURS, by_system, empty_figure, legend_below, new_figure, styled
from mtkd.report.table import NONE, Table, count, number

PLAIN, VANILLA = f"{STUDENT}:mtl", f"{BASE}:mtl"


@dataclass(frozen=True)
class AblationResults(SystemsSection):
    """Students distilled with one setting changed.

    Attributes:
        variants: by name, as in the study's settings.
        ensemble_size: the study's `candidates.ensemble_size`.
    """

    anchor: ClassVar[str] = "ablation"
    title: ClassVar[str] = "Ablation of distillation"
    about: ClassVar[str] = (
        "MT-DNN_KD before fine-tuning, with one setting changed. Each student has the same "
        "encoder, seeds, initial weights and updates unless its description says otherwise."
    )
    variants: dict[str, Variant]
    ensemble_size: int

    def over(self, system: str, base: str) -> pd.Series | None:
        """Return the average gain of a system over another; None where they share no task."""
        frame = self.gains(system, base)
        return frame.loc["average"] if "average" in frame.index else None

    def pairs(self) -> list[tuple[str, str]]:
        """Return every variant against MT-DNN_KD, MT-DNN and its control."""
        students = {f"{STUDENT}:{name}": variant for name, variant in self.variants.items()}
        pairs = [(student, base) for base in (PLAIN, VANILLA) for student in students]
        pairs.append((VANILLA, PLAIN))
        controls = {student: variant.control for student, variant in students.items()}
        return pairs + [(one, f"{STUDENT}:{other}") for one, other in controls.items() if other]

    def finding(self) -> list[str]:
        """Return which variants are better or worse than MT-DNN_KD beyond chance."""
        rows = {name: self.over(f"{STUDENT}:{name}", PLAIN) for name in self.variants}
        rows = {name: row for name, row in rows.items() if row is not None}
        better = [f"{name} {gain_text(row)}" for name, row in rows.items() if row["low"] > 0]
        worse = [f"{name} {gain_text(row)}" for name, row in rows.items() if row["high"] < 0]
        rest = len(self.variants) - len(better) - len(worse)
        sentences = [f"No difference is established for {rest} of {len(self.variants)} variants."]
        for way, names in (("worse", worse), ("better", better)):
            if names:
                texts = ", ".join(names)
                sentences.insert(
                    0, f"Variants **{way}** than MT-DNN_KD, in points (95 % interval): {texts}."
                )
        return sentences

    def tables(self) -> list[Table]:
        """Return one row per variant: dev scores by task, their average, gains of the average."""
        students = {VANILLA: ("MT-DNN", "hard targets alone"), PLAIN: ("MT-DNN_KD", "nothing")}
        for name, variant in self.variants.items():
            students[f"{STUDENT}:{name}"] = (name, describe(variant))
        controls = {name: one.control for name, one in self.variants.items() if one.control}
        rows = []
        for system, (name, changed) in students.items():
            wide = scores.by_seed(self.scored, system)
            cells = {"Student": name, "What is changed": changed, "Seeds": str(len(wide) or NONE)}
            cells["Average"] = number(self.means.get(system))
            for base in (PLAIN, VANILLA):
                row = None if system == base else self.over(system, base)
                cells[f"over {students[base][0]}"] = gain_text(row)
            if controls:
                control = controls.get(name)
                gain = control and gain_text(self.over(system, f"{STUDENT}:{control}"))
                cells["over its control"] = f"{control}: {gain}" if control else NONE
            for task in scores.in_order(self.tasks):
                cells[title(task)] = number(wide[task].mean()) if task in wide else NONE
            rows.append(cells)
        notes = [
            "Percent on dev before fine-tuning, means over seeds; a task's score is the mean of "
            f"its metrics. Average over {', '.join(map(title, self.averaged))}.",
            f"Differences in points, paired by seed. {METHOD.partition(';')[0]}. Of so many "
            "differences, some exclude zero by chance.",
        ]
        frame, prose = pd.DataFrame(rows), ("What is changed",)
        return [Table("ablation", self.title, frame, notes, divide=(2,), prose=prose)]

    def figures(self) -> dict[str, Figure]:
        """Return the differences, and scores by ensemble size where there are several sizes."""
        figures = {"ablation": differences(self)}
        if by_ensemble_size(self)["size"].nunique() > 1:
            figures["ensemble_size"] = ensemble_size(self)
        return figures


def describe_unlabelled(unlabelled: Unlabelled) -> str:
    """Return what a study's setting `unlabelled` asks for, in words."""
    sources = {
        "snli": "SNLI pairs",
        "left_out_train": "training examples left out by data.max_train",
        "other_tasks": "sentence pairs of other tasks",
    }
    given = {text: getattr(unlabelled, field) for field, text in sources.items()}
    texts = ", ".join(f"up to {count(amount)} {text}" for text, amount in given.items() if amount)
    return f"{texts} per task ({'more' if unlabelled.extra_updates else 'same'} updates)"


def describe(variant: Variant) -> str:
    """Return what a variant changes, in words."""
    sources = {
        "ensemble": "soft targets on the training sets alone",
        "unlabelled": "soft targets also on unlabelled texts",
        "cross_fit": "soft targets of cross-fitted teachers",
        "self_distillation": "soft targets of a model like the student",
    }
    parts = [sources[variant.source]] if variant.source else []
    parts += [describe_unlabelled(variant.unlabelled)] if variant.unlabelled else []
    for field, value in variant.changes.items():
        if field not in ("source", "unlabelled"):
            text = json.dumps(value).translate(str.maketrans("", "", '[]{}"'))
            parts.append(f"{field.replace('_', ' ')}: {text or 'none'}")
    return "; ".join(parts)


def on_common_seeds(averages: pd.DataFrame, systems: list[str]) -> pd.DataFrame:
    """Return the rows of these systems on the seeds that all of them have."""
    rows = averages[averages["system"].isin(systems)]
    return rows[rows.groupby("seed")["system"].transform("nunique") == rows["system"].nunique()]


@styled
def differences(section: AblationResults) -> Figure:
    """Draw points of each variant over MT-DNN_KD before fine-tuning, on average, best first."""
    systems = {name: f"{STUDENT}:{name}" for name in section.variants}
    systems["MT-DNN (no soft targets)"] = VANILLA
    rows = {name: section.over(system, PLAIN) for name, system in systems.items()}
    rows = {name: row for name, row in rows.items() if row is not None}
    if not rows:
        return empty_figure("No variant shares a task with MT-DNN_KD.")
    frame = pd.DataFrame(rows).T.sort_values("gain", ascending=False, kind="stable")
    variants = frame.index.isin(list(section.variants))
    figure = new_figure(8.5, 1.2 + 0.32 * len(frame))
    axes = figure.subplots()
    points = Series("variants", frame[variants], COLOURS[STUDENT], "D")
    forest(axes, list(frame.index), [points, Series("MT-DNN", frame[~variants], COLOURS[BASE])])
    over = f"points over MT-DNN_KD, average of {len(section.averaged)} tasks before fine-tuning"
    axes.set_xlabel(f"{over}\nbars: 95 % interval over seeds and dev examples")
    texts = [f"{name} {gain_text(row)}" for name, row in frame.iterrows()]
    figure.set_label(f"Points over MT-DNN_KD before fine-tuning. {'; '.join(texts)}.")
    return figure


def by_ensemble_size(section: AblationResults) -> pd.DataFrame:
    """Return average dev scores by ensemble size: size, system, seed, average (percent).

    `system` is the ensemble or the student. Students differ from MT-DNN_KD in the size alone, and
    count on the seeds that students of all sizes have.
    """
    students, ensembles = {PLAIN: section.ensemble_size}, {ENSEMBLE: section.ensemble_size}
    for name, variant in section.variants.items():
        if variant.changes.keys() == {"ensemble_size"}:
            students[f"{STUDENT}:{name}"] = variant.ensemble_size
    for system in section.rows["system"].unique():
        if system.startswith(f"{ENSEMBLE}:keep-"):
            ensembles[system] = int(system.rpartition("-")[2])
    taught = on_common_seeds(section.averages, list(students))
    parts = []
    for label, rows, sizes in ((ENSEMBLE, section.averages, ensembles), (PLAIN, taught, students)):
        rows = rows[rows["system"].isin(sizes)]
        parts.append(rows.assign(size=rows["system"].map(sizes), system=label))
    return pd.concat(parts, ignore_index=True)[["size", "system", "seed", "average"]]


@styled
def ensemble_size(section: AblationResults) -> Figure:
    """Draw average dev scores of ensembles and of their students by number of members."""
    points = by_ensemble_size(section)
    names = {ENSEMBLE: "ensemble, fine-tuned", PLAIN: "MT-DNN_KD, before fine-tuning"}
    figure = new_figure(7, 4)
    axes = figure.subplots()
    lines = {"x": "size", "y": "average", "errorbar": "sd", "err_style": "bars"}
    sns.lineplot(points.replace({"system": names}), ax=axes, **lines, **by_system(names))
    seeds = points.loc[points["system"] == PLAIN, "seed"]
    vanilla = section.averages[section.averages["system"] == VANILLA]
    level = vanilla.loc[vanilla["seed"].isin(seeds), "average"].mean()
    axes.axhline(level, color=COLOURS[BASE], linestyle=":", label="MT-DNN, before fine-tuning")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    over = f"average of {len(section.averaged)} tasks, percent"
    axes.set(xlabel="members of each ensemble", ylabel=over)
    legend_below(figure, axes, ncols=3, title="bars: standard deviation over seeds")
    means = points.groupby(["system", "size"])["average"].mean()
    texts = [f"{names[one]}, {size} members {number(mean)}" for (one, size), mean in means.items()]
    texts.append(f"MT-DNN, before fine-tuning {number(level)}")
    figure.set_label(f"Average dev score by ensemble size. {'; '.join(texts)}.")
    return figure
