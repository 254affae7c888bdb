"""From tidy results to scores and gains: the numbers behind tables, figures and the finding.

A task's score is the mean of its metrics over its dev splits, in percent, as GLUE does. Averages
are over the study's tasks but WNLI, which the paper's Table 3 lacks.
"""

import math

import numpy as np
import pandas as pd
from scipy import stats

from mtkd import tasks
from mtkd.report import published

BASE, STUDENT, ENSEMBLE = "mt-dnn", "mt-dnn-kd", "mt-dnn-ensemble"
SYSTEMS = ("bert", BASE, STUDENT, ENSEMBLE)
ASIDE = ("wnli", "ax")  # shown, never averaged
NAMES = {"bert": "BERT", BASE: "MT-DNN", STUDENT: "MT-DNN_KD", ENSEMBLE: "MT-DNN-ensemble"}
NAMES["candidate"] = "candidates"
ENSEMBLE_COLUMNS = ["ensemble", "ensemble_gain", "ensemble_tasks", "kept"]
GAIN_COLUMNS = ["seeds", "tasks", "base", "student", "gain", "low", "high", "p", *ENSEMBLE_COLUMNS]


def name(system: str) -> str:
    """Return a system's name for tables and legends."""
    base, _, stage = system.partition(":")
    stages = {"": "", "mtl": ", before fine-tuning"}
    return NAMES.get(base, base) + stages.get(stage, f" ({stage})")


def title(task: str) -> str:
    """Return a task's name for tables and legends."""
    known = {**tasks.GLUE, tasks.SNLI.name: tasks.SNLI}
    return known[task].title if task in known else task


def _sorted(present, known) -> list[str]:
    """Return the distinct items, those of `known` first and in its order."""
    present = list(dict.fromkeys(present))
    return [
        *(one for one in known if one in present),
        *(one for one in present if one not in known),
    ]


def in_order(names) -> list[str]:
    """Return tasks in the order of Table 3, then WNLI and AX, then any others."""
    return _sorted(names, [*published.TASKS, *ASIDE])


def systems(results: pd.DataFrame) -> list[str]:
    """Return systems in the paper's order, then those before fine-tuning, then any others."""
    return _sorted(results["system"], [*SYSTEMS, *(f"{system}:mtl" for system in SYSTEMS)])


def is_main(system: str) -> bool:
    """Return whether a system is shown at the end of a run: the paper's, and MKD's students."""
    return system in SYSTEMS or system.startswith("mkd-")


def beside_the_paper(results: pd.DataFrame) -> bool:
    """Return whether results have a GLUE task, so that published figures compare with them."""
    return not len(results) or bool(set(results["task"]) & set(tasks.GLUE))


def dev(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of dev splits."""
    return results[~results["split"].astype(str).str.startswith(("test", "train"))]


def scores(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per system, task and seed: `score` in percent."""
    runs = dev(results).groupby(["system", "task", "seed"], dropna=False, sort=False)
    return runs["value"].mean().rename("score").reset_index()


def by_seed(results: pd.DataFrame, system: str) -> pd.DataFrame:
    """Return a system's scores, seeds x tasks (percent); an ensemble's one row has the seed -1."""
    rows = scores(results[results["system"] == system])
    rows = rows.assign(seed=rows["seed"].fillna(-1))
    return rows.pivot_table(index="seed", columns="task", values="score")


def interval(values) -> tuple[float, float]:
    """Return the 95 % t-interval of the mean of values, one per seed; NaN for fewer than two."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def averaged(results: pd.DataFrame) -> list[str]:
    """Return the tasks that averages are over: all with dev scores but WNLI and AX."""
    return [task for task in in_order(dev(results)["task"]) if task not in ASIDE]


def averages(results: pd.DataFrame, among: list[str] | None = None) -> pd.DataFrame:
    """Return one row per system and seed that has all the averaged tasks: `average` in percent.

    `among` are the tasks to average over, by default `averaged(results)`.
    """
    among = averaged(results) if among is None else among
    rows = []
    for system in systems(results) if among else ():
        wide = by_seed(results, system).reindex(columns=among).dropna()
        rows += [(system, seed, value) for seed, value in wide.mean(axis=1).items()]
    return pd.DataFrame(rows, columns=["system", "seed", "average"])


def gains(results, compared=None, student=STUDENT, base=BASE, ensemble=ENSEMBLE) -> pd.DataFrame:
    """Return what distillation gains, one row per task and a last row 'average', in points.

    Columns: `seeds` (paired: those of both systems), `tasks` (averaged over), `base` and `student`
    (mean scores), `gain` = student - base with `low`, `high` (95 % interval) and `p` from
    `compared` (`significance.Compared`), `ensemble`, `ensemble_gain` = ensemble - base over
    `ensemble_tasks`, and `kept` = gain / ensemble_gain where that is above zero. NaN where there is
    no such figure.
    """
    first, second = by_seed(results, base), by_seed(results, student)
    third = by_seed(results, ensemble).mean()
    rows = {task: _gain(first, second, third, [task]) for task in in_order(dev(results)["task"])}
    if among := averaged(results):
        rows["average"] = _average_gain(first, second, third, among)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=GAIN_COLUMNS).rename_axis("task")
    if compared is not None:
        bounds = compared.of(student, base).reindex(frame.index)[["low", "high", "p"]]
        frame[["low", "high", "p"]] = bounds.astype(float)
    return frame


def _gain(first: pd.DataFrame, second: pd.DataFrame, third: pd.Series, among: list[str]) -> dict:
    """Return gains over the mean of some tasks; `first` and `second` are seeds x tasks."""
    start = first.reindex(columns=among).dropna().mean(axis=1)
    end = second.reindex(columns=among).dropna().mean(axis=1)
    paired = (end - start).dropna()
    gain = paired.mean() if len(paired) else end.mean() - start.mean()
    row = {"seeds": len(paired), "tasks": len(among), "base": start.mean(), "student": end.mean()}
    row |= {"gain": gain, "low": math.nan, "high": math.nan, "p": math.nan}
    above = third.reindex(among).mean(skipna=False)
    above_gain = above - start.mean()
    kept = gain / above_gain if above_gain > 1e-9 else math.nan
    return row | dict(zip(ENSEMBLE_COLUMNS, [above, above_gain, len(among), kept], strict=True))


def _average_gain(first, second, third, among: list[str]) -> dict:
    """Return gains over the tasks that both systems have; the ensemble's over those it has too."""
    both = [task for task in among if task in first and task in second] or among
    row = _gain(first, second, third, both)
    shared = [task for task in both if task in third.dropna()]
    if shared and shared != both:
        part = _gain(first, second, third, shared)
        row |= {column: part[column] for column in ENSEMBLE_COLUMNS}
    return row


def train_sizes(sizes: pd.DataFrame | None) -> dict[str, float]:
    """Return the training examples per task by `sizes` (Table 1's frame); empty without it."""
    if sizes is None or not len(sizes):
        return {}
    rows = sizes[(sizes["role"] == "train") & ~sizes["missing"].astype(bool)]
    return rows.groupby("task")["examples"].sum().astype(float).to_dict()
