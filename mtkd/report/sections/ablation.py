"""The ablation: what each setting of distillation changes, and how large ensembles should be."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from mtkd.config.distillation import Variant
from mtkd.config.study import Study
from mtkd.report.figures import Series, bars, forest
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT
from mtkd.report.sections import Artifacts, SystemsSection, rows_of
from mtkd.report.significance import METHOD
from mtkd.report.style import COLOURS
from mtkd.report.table import NONE, Table, gain_text, number

PLAIN, VANILLA = f"{STUDENT}:mtl", f"{BASE}:mtl"


@dataclass(frozen=True)
class AblationResults(SystemsSection):
    """Students distilled with one setting changed; `variants` by name, as in the study."""

    title: ClassVar[str] = "Ablation of distillation"
    about: ClassVar[str] = (
        "MT-DNN_KD before fine-tuning, with one setting changed. Each student has the same "
        "encoder, seeds, initial weights and updates unless its description says otherwise."
    )
    variants: dict[str, Variant]

    def pairs(self) -> list[tuple[str, str]]:
        """Return every variant against MT-DNN_KD, MT-DNN and its control."""
        students = {f"{STUDENT}:{name}": variant for name, variant in self.variants.items()}
        pairs = [(student, base) for base in (PLAIN, VANILLA) for student in students]
        controls = {student: variant.control for student, variant in students.items()}
        pairs += [(one, f"{STUDENT}:{other}") for one, other in controls.items() if other]
        return [*pairs, (VANILLA, PLAIN)]

    def finding(self) -> list[str]:
        """Return which variants are better or worse than MT-DNN_KD beyond chance."""
        rows = {name: self.gain(f"{STUDENT}:{name}", PLAIN) for name in self.variants}
        sentences, unsure = [], len(rows)
        for word, end, sign in (("worse", "high", -1), ("better", "low", 1)):
            texts = [
                f"{name} {gain_text(row)}" for name, row in rows.items() if sign * row[end] > 0
            ]
            unsure -= len(texts)
            if texts:
                over = "MT-DNN_KD, in points (95 % interval)"
                sentences.append(f"Variants **{word}** than {over}: {', '.join(texts)}.")
        return [*sentences, f"No difference is established for {unsure} of {len(rows)} variants."]

    def tables(self) -> list[Table]:
        """Return one row per variant: dev scores by task, their average, gains of the average."""
        students = {VANILLA: ("MT-DNN", "hard targets alone"), PLAIN: ("MT-DNN_KD", "nothing")}
        for name, variant in self.variants.items():
            students[f"{STUDENT}:{name}"] = (name, describe(variant))
        rows = []
        for system, (name, changed) in students.items():
            variant, cells = self.variants.get(name), {"Student": name, "What is changed": changed}
            for base in (PLAIN, VANILLA):
                row = self.gain(system, base)
                cells[f"over {students[base][0]}"] = NONE if system == base else gain_text(row)
            if variant and variant.control:
                row = self.gain(system, f"{STUDENT}:{variant.control}")
                cells["over its control"] = f"{variant.control}: {gain_text(row)}"
            if system == PLAIN or (variant and variant.ensemble_size):
                size = f":keep-{variant.ensemble_size}" if variant else ""
                cells["Its ensembles"] = number(self.means.get(ENSEMBLE + size))
            rows.append(cells | self.cells(system, lambda values: number(values.mean())))
        notes = [
            f"Percent on dev before fine-tuning, means over seeds; {self.averaged}.",
            f"Differences in points, paired by seed. {METHOD} Of so many "
            "differences, some exclude zero by chance.",
        ]
        return [Table("ablation", self.title, pd.DataFrame(rows).fillna(NONE), notes, divide=2)]

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Points of each variant over MT-DNN_KD before fine-tuning, on average, best first."""
        systems = {name: f"{STUDENT}:{name}" for name in self.variants}
        systems["MT-DNN (no soft targets)"] = VANILLA
        frame = pd.DataFrame({name: self.gain(one, PLAIN) for name, one in systems.items()}).T
        frame = frame.dropna(subset=["gain"]).sort_values("gain", ascending=False, kind="stable")
        plain = frame.index == "MT-DNN (no soft targets)"
        points = Series("variants", frame[~plain], COLOURS[STUDENT], "D")
        series = [points, Series("MT-DNN", frame[plain], COLOURS[BASE])]
        axis = f"points, {self.averaged}\n{bars(frame)}"
        heading = "Variants over MT-DNN_KD, before fine-tuning"
        return {"ablation": forest(list(frame.index), series, heading, axis)}


def describe(variant: Variant) -> str:
    """Return what a variant changes, in words."""
    parts = []
    for field, value in variant.changes.items():
        text = json.dumps(value).translate(str.maketrans("_", " ", '[]{}"'))
        parts.append(f"{field.replace('_', ' ')}: {text or 'none'}")
    return "; ".join(parts)


def section(study: Study, results: pd.DataFrame, artifacts: Artifacts) -> AblationResults | None:
    """Return the section: the rows of students by variant, then of ensembles by size."""
    if not study.ablation:
        return None
    variants = study.ablation.variants
    place = {name: number for number, name in enumerate(variants)}
    students = sorted(artifacts("06_ablation").items(), key=lambda item: place[item[0].variant])
    ensembles = rows_of(study.name, artifacts("03_teacher").values(), "ensembles.csv")
    size = ensembles["system"].str.extract(r"(\d+)$")[0].astype(int)
    ensembles = ensembles.loc[size.sort_values(kind="stable").index]
    rows = rows_of(study.name, [artifact for _, artifact in students], "scores.csv")
    rows = pd.concat([rows, ensembles], ignore_index=True)
    return AblationResults(rows, results, study.multitask, variants)
