"""What a report knows of MKD's students: their scores, names and costs, and what multi-task distillation adds."""

from dataclasses import dataclass, field

import pandas as pd

from mtkd.report import scores as figures
from mtkd.report.scores import ENSEMBLE, gains, name
from mtkd.report.significance import Compared

ABSENT = "This study has no students of MKD (its settings have no section mkd)."
COMPARISONS = (
    ("task-kd-{}", "over task-specific distillation"),
    ("mt-{}:mtl", "over hard targets, multi-task"),
    ("{}", "over hard targets, single-task"),
)
LARGE = ("bert", "mt-dnn:mtl", "mt-dnn", "mt-dnn-kd", ENSEMBLE)


@dataclass(frozen=True)
class Found:
    """`results`: rows of results.csv of all systems; `costs`: `mtkd.training.cost.costs`; `students`: names in the study;
    `tasks`: that the students are trained on; `teacher`: the system that wrote the logits; `compared`: the study's comparisons.
    """

    results: pd.DataFrame
    costs: pd.DataFrame
    machine: dict
    students: list[str]
    tasks: list[str]
    teacher: str
    compared: Compared = field(default_factory=Compared)

    @property
    def averaged(self) -> list[str]:
        """Tasks that an average is taken over: those of Table 3 that the students have."""
        return [task for task in figures.averaged(self.results) if task in self.tasks] or self.tasks

    def systems(self) -> list[str]:
        """Those with scores: the large ones, then every student's by its way of training."""
        present = list(dict.fromkeys(self.results["system"]))
        known = [system for system in LARGE if system in present]
        for student in self.students:
            ways = [
                student,
                f"mt-{student}:mtl",
                f"mt-{student}",
                f"task-kd-{student}",
                f"mkd-{student}:mtl",
            ]
            ways += [system for system in present if system.startswith(f"mkd-{student}:hard-")] + [
                f"mkd-{student}"
            ]
            known += [system for system in ways if system in present]
        return known

    def student_of(self, system: str) -> str | None:
        base = system.partition(":")[0]
        return next(
            (
                student
                for student in self.students
                for before in ("", "mt-", "task-kd-", "mkd-")
                if base == before + student
            ),
            None,
        )

    def label(self, system: str) -> str:
        """A system in words."""
        student = self.student_of(system)
        if student is None:
            return name(system) + (" (teacher)" if system == self.teacher else "")
        base, _, stage = system.partition(":")
        shown = {"lstm": "LSTM", "transformer": "Transformer"}.get(student, student)
        before = base.removesuffix(student)
        way = {
            "": "hard targets, single-task",
            "mt-": "hard targets, multi-task",
            "task-kd-": "task-specific distillation",
            "mkd-": "multi-task distillation",
        }[before]
        tail = (
            f" with hard targets ({stage.removeprefix('hard-')})"
            if stage.startswith("hard-")
            else ""
        )
        tuned = ", fine-tuned" if before in ("mt-", "mkd-") and not stage else ""
        return f"{shown}: {way}{tail}{tuned}"

    def cost(self, system: str, size: int, device: str = "cpu") -> pd.Series | None:
        """A system's row of `costs` at a batch size."""
        rows = self.costs[
            (self.costs["system"] == system)
            & (self.costs["batch"] == size)
            & (self.costs["device"] == device)
        ]
        return rows.iloc[0] if len(rows) else None

    @property
    def sizes(self) -> list[int]:
        return sorted(self.costs["batch"].unique())


def added(found: Found, student: str, base: str) -> pd.DataFrame:
    """`scores.gains` of a student by multi-task distillation over another way of training it, the average over `averaged`."""
    rows = found.results[found.results["task"].isin(found.tasks)]
    frame = gains(rows, found.compared, f"mkd-{student}:mtl", base.format(student))
    return frame[frame["gain"].notna()]
