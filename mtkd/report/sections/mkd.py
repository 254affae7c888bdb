"""MKD (Liu et al. 2020, arXiv:1911.03588): scores, size and speed of students of other shapes."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from mtkd.report import neighbours, scores
from mtkd.report.figures import task_name
from mtkd.report.scores import ENSEMBLE, name, title
from mtkd.report.sections import SystemsSection, gain_text, verdict
from mtkd.report.sections.mkd_figures import over_task_specific, pareto
from mtkd.report.significance import METHOD
from mtkd.report.table import NONE, Table, count, number, spread

COMPARISONS = {
    "task-kd-{}": "over task-specific distillation",
    "mt-{}:mtl": "over multi-task hard targets",
    "{}": "over single-task hard targets",
}
WAYS = {  # of training a student, by the prefix of its system's name
    "": "hard targets, single-task",
    "mt-": "hard targets, multi-task",
    "task-kd-": "task-specific distillation",
    "mkd-": "multi-task distillation",
}
LARGE = {
    "bert": "hard targets, single-task",
    "mt-dnn:mtl": "hard targets, multi-task",
    "mt-dnn": "hard targets, multi-task",
    "mt-dnn-kd": "multi-task distillation",
    ENSEMBLE: "ensemble",
}


@dataclass(frozen=True)
class MkdResults(SystemsSection):
    """Students of other shapes, distilled from one multi-task teacher's logits.

    Attributes:
        costs: frame of `mtkd.training.cost.measure_costs`.
        machine: what the costs were measured on: cpu, gpu, threads, precision.
        students: their names in the study.
        teacher: the system that gave the logits.
    """

    anchor: ClassVar[str] = "mkd"
    title: ClassVar[str] = "MKD: small students of another shape"
    about: ClassVar[str] = (
        "One multi-task teacher's logits are distilled into students of any shape. A student is "
        "trained four ways with the same updates, batch size and initial weights: on hard or soft "
        "targets, one student per task or one for all tasks (Liu et al. 2020, arXiv:1911.03588). "
        "Shapes and settings are this project's; no figure here is MKD's."
    )
    costs: pd.DataFrame
    machine: dict
    students: list[str]
    teacher: str

    @property
    def batches(self) -> list[int]:
        """Batch sizes of the measured costs."""
        return sorted(self.costs["batch"].unique())

    def systems(self) -> list[str]:
        """Return the systems with scores: the large ones, then each student's."""
        present = list(dict.fromkeys(self.scored["system"]))
        known = list(LARGE)
        for base in (prefix + student for student in self.students for prefix in WAYS):
            mixed = [system for system in present if system.startswith(f"{base}:hard-")]
            known += [f"{base}:mtl", *mixed, base]
        return [system for system in known if system in present]

    def student(self, system: str) -> tuple[str, str] | None:
        """Return the student and its way of training; None for a large system."""
        base, _, stage = system.partition(":")
        for student in self.students:
            for prefix, way in WAYS.items():
                if base == prefix + student:
                    return shape(student), way + " with hard targets" * stage.startswith("hard-")
        return None

    def label(self, system: str) -> str:
        """Return a system's name for tables and legends."""
        if self.student(system) is None:
            return name(system) + (" (teacher)" if system == self.teacher else "")
        kind, way = self.student(system)
        base, _, stage = system.partition(":")
        tuned = base.startswith(("mt-", "mkd-")) and not stage
        weight = f" ({stage[5:]})" if stage.startswith("hard-") else ""
        return f"{kind}: {way}{weight}{', fine-tuned' if tuned else ''}"

    def cost(self, system: str, batch: int, device: str = "cpu") -> pd.Series | None:
        """Return a system's row of `costs` at a batch size; None where it was not measured."""
        key = ["system", "batch", "device"]
        rows = self.costs[(self.costs[key] == [system, batch, device]).all(axis=1)]
        return rows.iloc[0] if len(rows) else None

    def pairs(self) -> list[tuple[str, str]]:
        """Return multi-task distillation of every student against its other ways of training."""
        names = [(student, base) for student in self.students for base in COMPARISONS]
        return [(f"mkd-{student}:mtl", base.format(student)) for student, base in names]

    def added(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Return gains of multi-task distillation by student and what it is compared with."""
        frames = {}
        for student in self.students:
            for base, words in COMPARISONS.items():
                gains = self.gains(f"mkd-{student}:mtl", base.format(student))
                frames[shape(student), words] = gains
        return frames

    def finding(self) -> list[str]:
        """Return what multi-task distillation adds, and what students save."""
        frames, savings, sentences = self.added(), [], []
        for student in self.students:
            rows = {
                words: frame.loc["average"]
                for (of, words), frame in frames.items()
                if of == shape(student) and "average" in frame.index
            }
            if "over task-specific distillation" in rows:
                better = verdict(rows["over task-specific distillation"])
                texts = [f"{words} {gain_text(row)}" for words, row in rows.items()]
                sentences.append(
                    f"**{shape(student)}: multi-task distillation is {better} than task-specific "
                    f"distillation**; in points (95 % interval) {', '.join(texts)}."
                )
            savings.append(self._saving(student))
        return [*sentences, "; ".join(filter(None, savings))]

    def _saving(self, student: str) -> str:
        """Return how much faster and smaller a student is than its teacher, and how far behind."""
        system = f"mkd-{student}:mtl"
        costs = [(self.cost(system, b), self.cost(self.teacher, b)) for b in self.batches]
        if any(own is None or teacher is None for own, teacher in costs):
            return ""
        faster = [
            f"{teacher.latency / own.latency:.2g} times as fast at batch {own.batch}"
            for own, teacher in costs
        ]
        size = costs[0][0].params / costs[0][1].params
        points = self.means.get(system, float("nan")) - self.means.get(self.teacher, float("nan"))
        return (
            f"{shape(student)} against its teacher ({name(self.teacher)}): "
            f"{', '.join(faster)}, {size:.0%} of the parameters, {number(points, sign=True)} points"
        )

    def tables(self) -> list[Table]:
        """Return scores with sizes and speeds, gains, costs, and published small models."""
        tables = [self._scores_table(), self._gains_table(), costs_table(self.costs, self.machine)]
        published = scores.beside_the_paper(self.results)
        return [*tables, neighbours.table()] if published else tables

    def _scores_table(self) -> Table:
        best = self.means[[one for one in self.means.index if self.student(one)]].round(1)
        rows = []
        for system in self.systems():
            wide = scores.by_seed(self.scored, system)
            seeds = str(int((wide.index >= 0).sum()) or NONE)
            cells = {"System": self.label(system), "Seeds": seeds}
            for task in scores.in_order(self.tasks):
                cells[title(task)] = spread(wide[task].dropna()) if task in wide else NONE
            average = spread(self.averages.loc[self.averages["system"] == system, "average"])
            top = system in best and best[system] == best.max()
            cells["Average"] = f"**{average}**" if top else average
            rows.append(cells | self._cost_cells(system))
        large = sum(self.student(system) is None for system in self.systems())
        notes = [
            "Percent on dev, mean ± standard deviation over seeds; a task's score is the mean of "
            f"its metrics. Average over {', '.join(map(title, self.averaged))}; bold: the best "
            "student. Fine-tuned students have had more updates than the others.",
            "Parameters and operations (matrix products) are those an example passes through, for "
            f"the ensemble of all its members. MB: weights on disk for all {len(self.tasks)} "
            f"tasks. Times from word pieces to logits on {_machine(self.machine)}.",
        ]
        frame, caption = pd.DataFrame(rows).fillna(NONE), "MKD: dev scores, size and speed"
        return Table("mkd", caption, frame, notes, divide=(large,))

    def _cost_cells(self, system: str) -> dict[str, str]:
        """Return the columns of size and speed; none for a system that was not measured."""
        first, last = self.batches[0], self.batches[-1]
        cells = {}
        for device in self.costs["device"].unique():
            row, many = (self.cost(system, batch, device) for batch in (first, last))
            if row is None or many is None:
                continue
            where = "" if device == "cpu" else f", {device}"
            sizes = f"{row.params / 1e6:.2f} ({row.params_without_embeddings / 1e6:.2f})"
            cells["Params (no emb.), M"] = sizes
            cells["MB, all tasks"] = _rounded(row.bytes_all / 1e6)
            cells["MFLOPs"] = _rounded(row.flops / 1e6)
            cells[f"ms at {first}{where}"] = f"{row.latency:.2f}"
            cells[f"Ex./s at {last}{where}"] = f"{many.rate:,.0f}"
        return cells

    def _gains_table(self) -> Table:
        rows = []
        for (student, words), frame in self.added().items():
            seeds = str(int(frame["seeds"].max())) if len(frame) else NONE
            cells = {task_name(task): gain_text(row, 1) for task, row in frame.iterrows()}
            rows.append({"Comparison": f"{student}: {words}", "Seeds": seeds, **cells})
        method = METHOD.partition(";")[0]
        notes = [f"Points, paired by seed, with equal updates and before fine-tuning. {method}."]
        frame, caption = pd.DataFrame(rows).fillna(NONE), "What multi-task distillation adds"
        return Table("mkd_gains", caption, frame, notes)

    def figures(self) -> dict[str, Figure]:
        """Return quality against latency, and gains of multi-task distillation."""
        names = [task_name(task) for task in [*scores.in_order(self.tasks), "average"]]
        shown = list(COMPARISONS.values())[:2]
        frames = {key: frame.rename(index=task_name) for key, frame in self.added().items()}
        frames = {key: frame for key, frame in frames.items() if key[1] in shown}
        gains = over_task_specific(frames, names)
        return {"mkd_pareto": pareto(self.latencies()), "mkd_gains": gains}

    def latencies(self) -> pd.DataFrame:
        """Return the points of `mkd_figures.pareto`.

        Systems that are fine-tuned are shown after fine-tuning alone.
        """
        rows, means = [], self.means
        shown = [system for system in self.systems() if system in means]
        for system in shown:
            if system.endswith(":mtl") and system.removesuffix(":mtl") in shown:
                continue
            model, training = self.student(system) or ("BERT size", LARGE.get(system))
            for batch in self.batches:
                cost = self.cost(system, batch)
                if cost is not None:
                    ms = cost.latency / batch
                    rows.append((self.label(system), model, training, batch, ms, means[system]))
        columns = ["label", "model", "training", "batch", "ms", "average"]
        return pd.DataFrame(rows, columns=columns)


def shape(student: str) -> str:
    """Return a student's name for tables and legends."""
    return {"lstm": "LSTM", "transformer": "Transformer"}.get(student, student)


def _rounded(value: float) -> str:
    """Return three significant figures; whole numbers with thousands separated."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _machine(machine: dict) -> str:
    """Return the machine of the measurements in words."""
    text = f"{machine.get('cpu', 'the processor')} ({machine.get('threads', 1)} thread(s))"
    return f"{text} and {machine['gpu']}" if machine.get("gpu") else text


def costs_table(costs: pd.DataFrame, machine: dict) -> Table:
    """Return all measured costs of inference: a row per shape, device and batch size."""
    rows = []
    for _, row in costs.drop_duplicates(["measured", "device", "batch"]).iterrows():
        systems = costs.loc[costs["measured"] == row.measured, "system"].unique()
        cells = {"Systems": ", ".join(systems), "Device": row.device, "Batch": count(row.batch)}
        cells |= {"Params": count(row.params), "MFLOPs": _rounded(row.flops / 1e6)}
        cells |= {"Without embeddings": count(row.params_without_embeddings)}
        cells |= {"Bytes": count(row.bytes)}
        times = f"{row.latency:.2f} ({row.latency_low:.2f} to {row.latency_high:.2f})"
        rates = f"{row.rate:,.0f} ({row.rate_low:,.0f} to {row.rate_high:,.0f})"
        rows.append(cells | {"Latency, ms": times, "Examples/s": rates})
    notes = [
        "Medians of the rounds, in brackets their range. Systems of one shape share a measurement; "
        "parameters and bytes are those of one model with a single head.",
        f"On {_machine(machine)}, in {machine.get('precision', 'fp32')}.",
    ]
    return Table("costs", "Costs of inference", pd.DataFrame(rows), notes)
