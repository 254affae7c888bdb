"""From tidy results to scores and gains: the numbers behind tables, figures and the finding.

A task's score is the mean of its metrics over its dev splits, in percent, as GLUE does. Averages
are over the study's tasks but WNLI, which the paper's Table 3 lacks, and rankings beside a task.
"""

import math

import pandas as pd

from mtkd import tasks
from mtkd.report import published

BASE, STUDENT, ENSEMBLE = "mt-dnn", "mt-dnn-kd", "mt-dnn-ensemble"
CANDIDATE = "candidate/"  # before the name of a single MT-DNN that ensembles are chosen from
SYSTEMS = ("bert", BASE, STUDENT, ENSEMBLE)
ASIDE = ("wnli", "ax")  # shown, never averaged
NAMES = {"bert": "BERT", BASE: "MT-DNN", STUDENT: "MT-DNN_KD", ENSEMBLE: "MT-DNN-ensemble"}
NAMES["candidate"] = "candidates"


def name(system: str) -> str:
    """Return a system's name for tables, legends and sentences."""
    base, _, stage = system.partition(":")
    stage = "before fine-tuning" if stage == "mtl" else stage
    base = base.replace(CANDIDATE, "candidate ")
    return NAMES.get(base, base) + (f" ({stage})" if stage else "")


def title(task: str) -> str:
    """Return a task's name for tables and legends."""
    titles = {one.name: one.title for one in (*tasks.GLUE.values(), tasks.SNLI)}
    name = task.removesuffix(tasks.RANKED)
    named = (titles | {"average": "Average"}).get(name, name)
    return named if name == task else f"{named} as ranking"


def is_aside(task: str) -> bool:
    """Return whether a task is shown but never averaged: WNLI, AX, and rankings beside a task."""
    return task in ASIDE or task.endswith(tasks.RANKED)


def _sorted(present, known) -> list[str]:
    """Return the distinct items, those of `known` first and in its order."""
    present = dict.fromkeys(present)
    return [one for one in dict.fromkeys([*known, *present]) if one in present]


def in_order(names) -> list[str]:
    """Return tasks in the order of Table 3, then WNLI and AX, then any others."""
    return _sorted(names, [*published.TASKS, *ASIDE])


def systems(results: pd.DataFrame) -> list[str]:
    """Return systems in the paper's order, then those before fine-tuning, then any others."""
    return _sorted(results["system"], [*SYSTEMS, *(f"{system}:mtl" for system in SYSTEMS)])


def is_main(system: str) -> bool:
    """Return whether a system is shown at the end of a run: the paper's, and MKD's students."""
    return system in SYSTEMS or system.startswith("mkd-")


def is_candidate(systems: pd.Series) -> pd.Series:
    """Return which systems are candidates."""
    return systems.str.startswith(CANDIDATE)


def beside_the_paper(results: pd.DataFrame) -> bool:
    """Return whether results have a GLUE task, so that published figures compare with them."""
    return not len(results) or bool(set(results["task"]) & set(tasks.GLUE))


def dev(results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of dev splits."""
    return results[~results["split"].str.startswith(("test", "train", tasks.SELECTION))]


def by_seed(results: pd.DataFrame, system: str) -> pd.DataFrame:
    """Return a system's scores, seeds x tasks (percent); an ensemble's one row has the seed -1."""
    rows = dev(results[results["system"] == system])
    rows = rows.assign(seed=rows["seed"].fillna(-1))
    return rows.pivot_table(index="seed", columns="task", values="value")


def averaged(results: pd.DataFrame) -> list[str]:
    """Return the tasks that averages are over: all with dev scores but those aside."""
    return [task for task in in_order(dev(results)["task"]) if not is_aside(task)]


def averages(results: pd.DataFrame, among: list[str] | None = None) -> pd.DataFrame:
    """Return `average` in percent by system and seed that has all tasks `among` (`averaged`)."""
    among = averaged(results) if among is None else among
    rows = []
    for system in systems(results) if among else ():
        wide = by_seed(results, system).reindex(columns=among).dropna()
        rows += [(system, seed, value) for seed, value in wide.mean(axis=1).items()]
    return pd.DataFrame(rows, columns=["system", "seed", "average"])


def gains(results, compared=None, student=STUDENT, base=BASE, ensemble=ENSEMBLE) -> pd.DataFrame:
    """Return what distillation gains, one row per task and a last row 'average', in points.

    Columns: `seeds` (paired: those of both systems), `tasks` (averaged over: those of both), `base`
    (mean score), `gain` = student - base with `low`, `high` (95 % interval), `p` and `p_holm` from
    `compared` (`significance.Compared`), `ensemble_gain` = ensemble - base over `ensemble_tasks`
    (those that it has too), and `kept` = gain / ensemble_gain where that is above zero and
    established by `compared`. NaN where there is no such figure.
    """
    first, second, third = (by_seed(results, system) for system in (base, student, ensemble))
    third = third.mean()

    def gain(among: list[str]) -> dict:
        start, end = (wide.reindex(columns=among).dropna().mean(axis=1) for wide in (first, second))
        paired = (end - start).dropna()
        points = paired.mean() if len(paired) else end.mean() - start.mean()
        return {"seeds": len(paired), "tasks": len(among), "base": start.mean(), "gain": points}

    def ensemble_gain(among: list[str]) -> dict:
        part = gain(among)
        above = third.reindex(among).mean(skipna=False) - part["base"]
        kept = part["gain"] / above if above > 1e-9 else math.nan
        return {"ensemble_gain": above, "ensemble_tasks": len(among), "kept": kept}

    rows = {one: gain([one]) | ensemble_gain([one]) for one in in_order(dev(results)["task"])}
    if among := averaged(results):
        both = [task for task in among if task in first and task in second] or among
        rows["average"] = gain(both) | ensemble_gain([one for one in both if one in third] or both)
    columns = ["seeds", "tasks", "base", "gain", "ensemble_gain", "ensemble_tasks", "kept"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("task")
    limits = ["low", "high", "p", "p_holm"]
    if compared is None:
        return frame.assign(kept=math.nan, **dict.fromkeys(limits, math.nan))
    frame[limits] = compared.of(student, base).reindex(frame.index)[limits].astype(float)
    sure = compared.of(ensemble, base).reindex(frame.index)["p_holm"].astype(float) < 0.05
    return frame.assign(kept=frame["kept"].where(sure))


def train_sizes(sizes: pd.DataFrame | None) -> dict[str, float]:
    """Return the training examples per task by `sizes` (Table 1's frame); empty without it."""
    if sizes is None:
        return {}
    rows = sizes[(sizes["role"] == "train") & ~sizes["missing"].astype(bool)]
    return rows.groupby("task")["examples"].sum().astype(float).to_dict()


def judged(row) -> str:
    """Return whether a difference is for the better: `gain`, `low`, `high` (points), `seeds`."""
    if round(row["gain"], 2) <= 0:
        return "not better"
    if not math.isfinite(row["low"]):
        return "better in this run (no interval: chance is not ruled out)"
    if row["low"] <= 0:
        return "not measurably better"
    return "better" if row["seeds"] > 1 else "better in this run (one seed)"
