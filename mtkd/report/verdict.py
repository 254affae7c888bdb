"""Whether a run reproduces the reference: each system's average here and there, and what to expect.

The half-width of the expected range is sqrt(seeds^2 + dev^2): `seeds` is that of a two-sample
t-interval over the seeds' averages, `dev` that of a normal interval by the number of dev examples,
which allows for what all seeds of a run share and is all there is with one seed. Its coverage is in
docs/statistics.md.
"""

import json
import math

import numpy as np
import pandas as pd
from scipy import stats

from mtkd import paths
from mtkd.artifacts import read_csv
from mtkd.report.scores import averaged, averages, dev, is_candidate, is_main, name, systems
from mtkd.report.table import Table, number
from mtkd.report.tables import seeds_of

CORRELATIONS = ("matthews", "pearson", "spearman")
COLUMNS = ["system", "seeds", "here", "reference", "difference", "expected", "reproduced"]


def verdict(results: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Compare the results of a run with those of the reference (frames of results.csv).

    Averages are over the tasks that both have. Returns one row per system that both have but the
    candidates, see `COLUMNS`: averages and their difference in percent, `expected` the half-width
    of its range.
    """
    among = [task for task in averaged(results) if task in averaged(reference)]
    frames, rows = (results, reference), []
    both = [averages(frame, among) for frame in frames]
    for system in systems(_without_candidates(results)):
        values = [frame.loc[frame["system"] == system, "average"].to_numpy() for frame in both]
        if not all(map(len, values)):
            continue
        here, there = (part.mean() for part in values)
        expected = expected_difference(values, [dev_error(one, system, among) for one in frames])
        seeds = "/".join(seeds_of(frame, system) for frame in frames)
        row = [system, seeds, here, there, here - there, expected]
        rows.append([*row, bool(abs(here - there) <= expected + 1e-9)])
    return pd.DataFrame(rows, columns=COLUMNS)


def _without_candidates(results: pd.DataFrame) -> pd.DataFrame:
    return results[~is_candidate(results["system"])].reset_index(drop=True)


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
    rows = rows[(rows["system"] == system) & rows["task"].isin(among)]
    cells = rows.groupby(["task", "split", "metric"])[["value", "n"]].mean().reset_index()
    share, correlation = cells["value"] / 100, cells["metric"].isin(CORRELATIONS)
    spreads = np.where(correlation, 1 - share**2, np.sqrt((share * (1 - share)).clip(0)))
    cells["error"] = 100 * spreads / np.sqrt(cells["n"])
    splits = cells.groupby(["task", "split"])["error"].mean().groupby("task")
    by_task = splits.apply(lambda errors: (errors**2).sum() / len(errors) ** 2)
    return math.sqrt(by_task.sum()) / len(by_task)


def sentence(frame: pd.DataFrame, equal: bool) -> str:
    """Return the verdict in one sentence; `equal`: all results but the seconds are."""
    outside, total = frame.loc[~frame["reproduced"].astype(bool), "system"], len(frame)
    if equal:
        return "This run is equal to the reference to the digit."
    if not total:
        return "This run has no system in common with the reference."
    if not len(outside):
        return f"This run reproduces the reference: {total} of {total} systems."
    return (
        f"This run does not reproduce the reference on {', '.join(map(name, outside))} "
        f"({len(outside)} of {total} systems; one in twenty may be outside by chance)."
    )


def verdict_table(results: pd.DataFrame, reference: pd.DataFrame, notes: list[str]) -> Table:
    """Return the verdict on the main systems, and on those that are not reproduced."""
    frame = verdict(results, reference)
    results, reference = map(_without_candidates, (results, reference))
    equal = results.drop(columns="seconds").equals(reference.drop(columns="seconds"))
    shown = frame[frame["system"].map(is_main) | ~frame["reproduced"].astype(bool)]
    cells = {
        "System": shown["system"].map(name),
        "Seeds": shown["seeds"],
        "Here": shown["here"].map(lambda value: number(value, 2)),
        "Reference": shown["reference"].map(lambda value: number(value, 2)),
        "Difference": shown["difference"].map(lambda value: number(value, 2, sign=True)),
        "Expected": shown["expected"].map(lambda value: f"± {number(value, 2)}"),
        "Reproduced": shown["reproduced"].map({True: "yes", False: "**no**"}),
    }
    notes = ["Expected: 95 % range of the difference, from seeds and dev examples.", *notes]
    if others := len(frame) - len(shown):
        notes.append(f"Not shown: {others} further systems, all within their range.")
    if alone := sorted(set(results["system"]) ^ set(reference["system"])):
        notes.append(f"In one of the two only: {', '.join(map(name, alone))}.")
    return Table("verdict", sentence(frame, equal), pd.DataFrame(cells), notes)


def compare_with_reference(study_name: str) -> Table | None:
    """Compare a study's written report with its reference; None where there is no reference."""
    folders = paths.reports(study_name), paths.find(f"reports/reference/{study_name}")
    if not (folders[1] / "results.csv").is_file():
        return None
    results = (read_csv(folder / "results.csv") for folder in folders)
    here, there = (json.loads((one / "run.json").read_text("utf-8"))["study"] for one in folders)
    # A reference may be older than a field, which is empty by default.
    changed = [key for key in here | there if (here.get(key) or None) != (there.get(key) or None)]
    notes = [f"The reference has other settings in: {', '.join(changed)}."] if changed else []
    return verdict_table(*results, notes)
