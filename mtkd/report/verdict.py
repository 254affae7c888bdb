"""Whether a run reproduces the reference: each system's average here and there, and what to expect.

The expected difference of two averages combines two ranges of 95 %:

    seeds          t(0.975, k1 + k2 - 2) * s * sqrt(1/k1 + 1/k2): s is the standard deviation over
                   the k1 and k2 seeds, pooled
    dev examples   1.96 * sqrt(e1^2 + e2^2): e is the standard error of an average by the number n
                   of dev examples, from sqrt(p (1 - p) / n) for accuracy and F1 and (1 - r^2) /
                   sqrt(n) for correlations; metrics of a split count as one, splits and tasks as
                   independent
    expected       sqrt(seeds^2 + dev examples^2)

The second allows for what all seeds of a run share: the pre-trained encoder and the teachers. It is
all there is with one seed in each run, and for an ensemble.

Coverage on simulated pairs of runs of the same truth: 95 to 100 % with two seeds or more. With one
seed 95 % if only examples vary, but 89 % if training moves a model's quality by 0.7 points (its
standard deviation) and 75 % by 1.4 points.
"""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from mtkd import paths
from mtkd.report.scores import averaged, averages, dev, is_main, name, systems
from mtkd.report.table import Table, number
from mtkd.report.tables import seeds_of

CORRELATIONS = ("matthews", "pearson", "spearman")
COLUMNS = ["system", "seeds", "here", "reference", "difference", "expected", "reproduced"]


@dataclass(frozen=True)
class Verdict:
    """A run beside the reference.

    Attributes:
        frame: one row per system that both have, see `COLUMNS`; averages and their difference in
            percent, `expected` the half-width of its range.
        equal: whether all results but the seconds are equal to the digit.
        notes: what does not compare: other settings, systems that one of the two lacks.
    """

    frame: pd.DataFrame
    equal: bool
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        outside = [name(row.system) for row in self.frame.itertuples() if not row.reproduced]
        total = len(self.frame)
        if self.equal:
            return "This run is equal to the reference to the digit."
        if not total:
            return "This run has no system in common with the reference."
        if not outside:
            return f"This run reproduces the reference: {total} of {total} systems."
        return (
            f"This run does not reproduce the reference on {', '.join(outside)} ({len(outside)} of "
            f"{total} systems; one in twenty may be outside by chance)."
        )

    def table(self) -> Table:
        """Return the main systems, and those that are not reproduced, as a table."""
        rows = []
        shown = self.frame["system"].map(is_main) | ~self.frame["reproduced"].astype(bool)
        for row in self.frame[shown].itertuples():
            cells = {"System": name(row.system), "Seeds": row.seeds, "Here": number(row.here, 2)}
            cells["Reference"] = number(row.reference, 2)
            cells["Difference"] = number(row.difference, 2, sign=True)
            cells["Expected"] = f"± {number(row.expected, 2)}"
            cells["Reproduced"] = "yes" if row.reproduced else "**no**"
            rows.append(cells)
        notes = [
            "Expected: 95 % range of the difference, from seeds and dev examples.",
            *self.notes,
        ]
        if others := int((~shown).sum()):
            notes.insert(1, f"Not shown: {others} further systems, all within their range.")
        return Table("verdict", self.sentence(), pd.DataFrame(rows), notes)

    def _repr_html_(self) -> str:
        return self.table().html()

    def text(self) -> str:
        """Return the verdict for a terminal, at most 100 columns wide."""
        return self.table().text()


def verdict(results: pd.DataFrame, reference: pd.DataFrame) -> Verdict:
    """Compare the results of a run with those of the reference (frames of results.csv).

    Averages are over the tasks that both have.
    """
    among = [task for task in averaged(results) if task in averaged(reference)]
    both, rows = [averages(frame, among) for frame in (results, reference)], []
    for system in systems(results):
        values = [frame.loc[frame["system"] == system, "average"].to_numpy() for frame in both]
        if not all(map(len, values)):
            continue
        here, there = (part.mean() for part in values)
        errors = [dev_error(frame, system, among) for frame in (results, reference)]
        expected = expected_difference(values, errors)
        seeds = "/".join(seeds_of(frame, system) for frame in (results, reference))
        row = [system, seeds, here, there, here - there, expected]
        rows.append([*row, bool(abs(here - there) <= expected + 1e-9)])
    equal = results.drop(columns="seconds").equals(reference.drop(columns="seconds"))
    alone = sorted(set(results["system"]) ^ set(reference["system"]))
    notes = [f"In one of the two only: {', '.join(map(name, alone))}."] if alone else []
    return Verdict(pd.DataFrame(rows, columns=COLUMNS), equal, tuple(notes))


def expected_difference(values: list[np.ndarray], errors: list[float]) -> float:
    """Return the half-width of the range of a difference of means (see the module).

    `values` are the averages by seed of the two runs, `errors` their standard errors by dev
    examples.
    """
    dev_examples = 1.96 * math.hypot(*errors)
    freedom = sum(map(len, values)) - 2
    if freedom < 1:
        return dev_examples
    squares = sum(((part - part.mean()) ** 2).sum() for part in values)
    error = math.sqrt(squares / freedom * sum(1 / len(part) for part in values))
    return math.hypot(stats.t.ppf(0.975, freedom) * error, dev_examples)


def dev_error(results: pd.DataFrame, system: str, among: list[str]) -> float:
    """Return the standard error (points) of a system's average by the number of dev examples."""
    rows = dev(results)
    rows = rows[(rows["system"] == system) & rows["task"].isin(among)].dropna(subset=["value"])
    cells = rows.groupby(["task", "split", "metric"])[["value", "n"]].mean().reset_index()
    share = cells["value"] / 100
    correlation = cells["metric"].isin(CORRELATIONS)
    spreads = np.where(correlation, 1 - share**2, np.sqrt((share * (1 - share)).clip(0)))
    cells["error"] = 100 * spreads / np.sqrt(cells["n"])
    splits = cells.groupby(["task", "split"])["error"].mean().groupby("task")
    by_task = splits.apply(lambda errors: (errors**2).sum() / len(errors) ** 2)
    return math.sqrt(by_task.sum()) / len(by_task)


def compare_with_reference(study_name: str) -> Verdict | None:
    """Compare a study's written report with its reference; None where there is no reference."""
    folders = paths.reports(study_name), paths.reference(study_name)
    if not (folders[1] / "results.csv").is_file():
        return None
    compared = verdict(*(pd.read_csv(folder / "results.csv") for folder in folders))
    runs = [json.loads((folder / "run.json").read_text("utf-8")) for folder in folders]
    here, there = (run["study"] for run in runs)
    changed = [key for key in here | there if here.get(key) != there.get(key)]
    notes = [f"The reference has other settings in: {', '.join(changed)}."] if changed else []
    return replace(compared, notes=(*notes, *compared.notes))
