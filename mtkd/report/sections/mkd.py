"""MKD (Liu et al. 2020, arXiv:1911.03588): scores, size and speed of students of other shapes."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mtkd.config.study import Study
from mtkd.report import published, scores
from mtkd.report.figures import Series, bars, forest
from mtkd.report.scores import ENSEMBLE, STUDENT, judged, name, title
from mtkd.report.sections import Artifacts, SystemsSection, rows_of
from mtkd.report.significance import METHOD
from mtkd.report.style import empty_figure, styled
from mtkd.report.table import NONE, Table, count, gain_text, number

COMPARISONS = {
    "task-kd-{}": "over task-specific distillation",
    "mt-{}:mtl": "over multi-task hard targets",
    "{}": "over single-task hard targets",
    "pkd-{}:mtl": "over PKD",
    "minilm-{}:mtl": "over MiniLM",
}
LAYERWISE = {  # what baselines add to the loss of mkd-, by how their systems' names begin
    "pkd-": "the patient loss of PKD-Skip (Sun et al. 2019, arXiv:1908.09355)",
    "minilm-": "the self-attention relations of MiniLMv2 (Wang et al. 2020, arXiv:2012.15828)",
}
WAYS = {  # of training, by how a system's name begins
    ENSEMBLE: "ensemble",
    STUDENT: "multi-task distillation",
    "mkd-": "multi-task distillation",
    "task-kd-": "task-specific distillation",
    "pkd-": "PKD, multi-task",
    "minilm-": "MiniLM, multi-task",
    "mt-": "hard targets, multi-task",
    "": "hard targets, single-task",
}


@dataclass(frozen=True)
class MkdResults(SystemsSection):
    """Students of other shapes, distilled from one multi-task teacher's logits.

    Attributes:
        costs: frame of `mtkd.training.cost.measure_costs`; None: not measured yet.
        machine: what the costs were measured on: cpu, gpu, threads, precision; None without costs.
        students: their names in the study.
        teacher: the system that gave the logits.
        assistants: of the students with an assistant, the one in the teacher's place, that one's
            assistant and so on.
        direct: the same students without an assistant, by the name of those with one.
    """

    title: ClassVar[str] = "MKD: small students of another shape"
    about: ClassVar[str] = (
        "One multi-task teacher's logits are distilled into students of any shape (Liu et al. "
        "2020, arXiv:1911.03588). A student is trained on hard targets, one model per task or one "
        "for all (mt-), and on the logits, one model per task (task-kd-) or one for all (mkd-), "
        "with the same updates, batch size and initial weights. Shapes and settings are this "
        "project's; no figure here is MKD's."
    )
    costs: pd.DataFrame | None
    machine: dict | None
    students: list[str]
    teacher: str
    assistants: dict[str, list[str]] = field(default_factory=dict)
    direct: dict[str, str] = field(default_factory=dict)

    def cost(self, system: str, batch: int) -> pd.Series | None:
        """Return a system's costs on the processor; None where they were not measured."""
        key = ["system", "batch", "device"]
        if self.costs is None:
            return None
        rows = self.costs[(self.costs[key] == [system, batch, "cpu"]).all(axis=1)]
        return rows.iloc[0] if len(rows) else None

    def pairs(self) -> list[tuple[str, str]]:
        """Return multi-task distillation of every student against its other ways of training.

        After these, against multi-task distillation without the student's assistant.
        """
        names = [(student, base) for student in self.students for base in COMPARISONS]
        pairs = [(f"mkd-{student}:mtl", base.format(student)) for student, base in names]
        return pairs + [(f"mkd-{a}:mtl", f"mkd-{b}:mtl") for a, b in self.direct.items()]

    def finding(self) -> list[str]:
        """Return what multi-task distillation adds, and what assistants do."""
        sentences = []
        for student in self.students:
            rows = {
                words: self.gain(f"mkd-{student}:mtl", base.format(student))
                for base, words in COMPARISONS.items()
            }
            first = rows["over task-specific distillation"]
            if pd.notna(first["gain"]):
                shared = {words: row for words, row in rows.items() if pd.notna(row["gain"])}
                texts = [f"{words} {gain_text(row)}" for words, row in shared.items()]
                sentences.append(
                    f"**{student}: multi-task distillation is {judged(first)} than task-specific "
                    f"distillation**; in points (95 % interval) {', '.join(texts)}."
                )
        for student, direct in self.direct.items():
            row = self.gain(f"mkd-{student}:mtl", f"mkd-{direct}:mtl")
            if pd.notna(row["gain"]):
                sentences.append(
                    f"**{student}: distillation by its assistant {self.assistants[student][0]} is "
                    f"{judged(row)} than by the teacher**; in points (95 % interval) over {direct} "
                    f"{gain_text(row)}."
                )
        return sentences

    def tables(self) -> list[Table]:
        """Return scores with sizes and speeds, assistants, costs, and published small models."""
        tables = [self._scores_table()]
        tables += [self._assistants_table()] if self.direct else []
        tables += [costs_table(self.costs, self.machine)] if self.costs is not None else []
        if scores.beside_the_paper(self.results):
            frame = published.read("small_models").replace("-", NONE).reset_index()
            note = "For scale only: other data, splits and teachers, and none of them is MKD's."
            caption = "Published small models, percent"
            tables.append(Table("published_small", caption, frame, [note]))
        return tables

    def _scores_table(self) -> Table:
        systems = scores.systems(self.scored)
        students = [system for system in systems if system not in set(self.results["system"])]
        best = self.means.reindex(students).round(1)
        batches, rows = [None] if self.costs is None else sorted(self.costs["batch"].unique()), []
        for system in systems:
            cells = {"System": name(system), **self.cells(system)}
            if best.get(system) == best.max():
                cells["Average"] = f"**{cells['Average']}**"
            one, many = (self.cost(system, batch) for batch in (batches[0], batches[-1]))
            if one is not None and many is not None:
                parts = one[["params", "params_without_embeddings", "bytes_all", "flops"]] / 1e6
                cells["Params (no emb.), M"] = "{:.2f} ({:.2f})".format(*parts[:2])
                cells["MB, all tasks"], cells["MFLOPs"] = map(_three_digits, parts[2:])
                cells[f"ms at {batches[0]}"] = number(one["latency"], 2)
                cells[f"Ex./s at {batches[-1]}"] = count(many["rate"])
            rows.append(cells)
        notes = [
            f"Percent on dev, mean ± standard deviation over seeds; {self.averaged}; bold: the "
            "best student. Fine-tuned students have had more updates than the others. The teacher "
            f"is {name(self.teacher)}."
        ]
        if self.costs is not None:
            notes.append(
                "Parameters and operations (matrix products) are those an example passes through, "
                "for the ensemble of all its members. MB: weights on disk for all "
                f"{len(self.tasks)} tasks. Times from word pieces to logits on "
                f"{_machine(self.machine)}."
            )
        added = [
            f"{prefix} the same and {loss}"
            for prefix, loss in LAYERWISE.items()
            if any(system.startswith(prefix) for system in students)
        ]
        if added:
            ours = "mkd- has the loss on logits of MKD (Liu et al. 2020, arXiv:1911.03588)"
            notes.append(f"{'; '.join([ours, *added])}. No figure is one of these papers'.")
        if self.assistants:
            texts = [f"{one} from {others[0]}" for one, others in self.assistants.items()]
            learn = f"These learn from the logits of another student's mkd-: {', '.join(texts)}"
            notes.append(f"{learn} (TAKD, Mirzadeh et al. 2020, arXiv:1902.03393).")
        caption = "MKD: dev scores" + (", size and speed" if self.costs is not None else "")
        frame = pd.DataFrame(rows).fillna(NONE)
        return Table("mkd", caption, frame, notes, divide=len(systems) - len(students))

    def _assistants_table(self) -> Table:
        """Return a row per student with an assistant: its gains over the same without."""
        rows = []
        for student, direct in self.direct.items():
            gains = self.gains(f"mkd-{student}:mtl", f"mkd-{direct}:mtl").iterrows()
            texts = {task: gain_text(row) for task, row in gains}
            chain = " ← ".join([*self.assistants[student], name(self.teacher)])
            cells = {"Student": f"mkd-{student}", "Learns from": chain, "Over": f"mkd-{direct}"}
            order = ["average", *scores.in_order(self.tasks)]
            rows.append(cells | {title(task): texts.get(task, NONE) for task in order})
        notes = [
            "Points on dev over the same student that learns from the teacher, with the same "
            f"updates, batches and initial weights, both before fine-tuning; {self.averaged}. "
            f"Paired by seed. {METHOD} An assistant has its own training, whose updates are not "
            "counted here.",
        ]
        caption = "MKD: students that learn from an assistant (TAKD)"
        return Table("mkd_assistants", caption, pd.DataFrame(rows), notes)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Quality against latency, and gains over task-specific distillation by task."""
        rows, series = [title(task) for task in [*scores.in_order(self.tasks), "average"]], []
        for index, student in enumerate(self.students):
            frame = self.gains(f"mkd-{student}:mtl", f"task-kd-{student}").rename(index=title)
            series.append(Series(student, frame, f"C{index}", "osD^v"[index % 5]))
        axis = f"points\n{bars(pd.concat([one.rows for one in series]))}"
        gains = forest(rows, series, "Multi-task over task-specific distillation", axis)
        drawn = {} if self.costs is None else {"mkd_pareto": pareto(self.latencies())}
        return drawn | {"mkd_gains": gains}

    def latencies(self) -> pd.DataFrame:
        """Return the points of `pareto`: systems that are fine-tuned, after fine-tuning alone."""
        known = set(self.means.index)
        hidden = {f"{system}:mtl" for system in known}
        rows = self.costs[self.costs["device"] == "cpu"]
        rows = rows[rows["system"].isin(known - hidden)]

        def training(system: str) -> str:
            return next(way for prefix, way in WAYS.items() if system.startswith(prefix))

        def shape(system: str) -> str:
            base = system.partition(":")[0]
            ends = [one for one in self.students if base.endswith(one)]
            return max(ends, key=len, default="BERT")

        return rows.assign(
            training=rows["system"].map(training),
            shape=rows["system"].map(shape),
            ms=rows["latency"] / rows["batch"],
            average=rows["system"].map(self.means),
        )


@styled
def pareto(points: pd.DataFrame) -> Figure:
    """Draw average dev score against latency on the processor, a panel per batch size.

    `points` has the columns system, shape, training, batch, ms (per example), average (percent).
    """
    if not len(points):
        return empty_figure("No system has both a score on every task and a measured cost.")
    look = {"hue": "training", "style": "shape", "s": 90, "palette": "colorblind"}
    layout = {"col": "batch", "height": 4, "facet_kws": {"sharex": False}}
    grid = sns.relplot(points, x="ms", y="average", **look, **layout)
    for axes in grid.axes.flat:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    grid.set_axis_labels("ms per example", "average dev score, percent")
    texts = [
        f"{name(row.system)} at batch {row.batch}: {row.ms:.2g} ms, {number(row.average)}"
        for row in points.itertuples()
    ]
    grid.figure.set_label(f"Average dev score against latency. {'; '.join(texts)}.")
    return grid.figure


def _machine(machine: dict) -> str:
    """Return the machine of the measurements in words."""
    text = f"{machine['cpu']} ({machine['threads']} thread(s))"
    return f"{text} and {machine['gpu']}" if machine.get("gpu") else text


def costs_table(costs: pd.DataFrame, machine: dict) -> Table:
    """Return all measured costs of inference: a row per shape, device and batch size."""
    columns = ["device", "batch", "params", "bytes", "flops", "latency", "latency_low"]
    columns += ["latency_high", "rate"]
    frame = costs.drop_duplicates(["measured", "device", "batch"])
    shown = frame[columns].round(3).convert_dtypes()
    systems = costs.groupby("measured")["system"].unique().map(", ".join)
    shown.insert(0, "systems", frame["measured"].map(systems))
    notes = [
        "Latency: median of the rounds in ms, with its range; rate: examples per second. Systems "
        "of one shape share a measurement; parameters and bytes are those of one model with a "
        "single head.",
        f"On {_machine(machine)}, in {machine['precision']}.",
    ]
    return Table("costs", "Costs of inference", shown, notes)


def _three_digits(value: float) -> str:
    """Return a number with three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def section(study: Study, results: pd.DataFrame, artifacts: Artifacts) -> MkdResults | None:
    """Return the section where the study has students of MKD."""
    if not study.mkd:
        return None
    cost, students = next(iter(artifacts("10_serving").values()), None), list(study.mkd.students)
    return MkdResults(
        rows=rows_of(study.name, artifacts("09_mkd").values(), "scores.csv"),
        results=results,
        tasks=study.mkd.tasks,
        costs=cost and cost.frame("costs.csv"),
        machine=cost and cost.json("machine.json"),
        students=students,
        teacher="mt-dnn:mtl" if study.mkd.teacher == "mt-dnn" else ENSEMBLE,
        assistants={one: chain for one in students if (chain := study.mkd.assistants(one))},
        direct={one: direct for one in students if (direct := study.mkd.direct(one))},
    )
