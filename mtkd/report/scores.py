"""From the tidy results to scores and gains: the numbers behind the tables, the plots and the finding.

A task's score is the mean of its metrics over its dev splits, in percent, as GLUE does. Averages are over the study's
tasks but WNLI: it is shown, not averaged, as the paper's Table 3 lacks it.
"""

import math

import numpy as np
import pandas as pd
from scipy import stats

from mtkd import tasks
from mtkd.report import published

BASE, STUDENT, ENSEMBLE = "mt-dnn", "mt-dnn-kd", "mt-dnn-ensemble"
ASIDE = ("wnli", "ax")
SYSTEMS = ("bert", BASE, STUDENT, ENSEMBLE)
NAMES = {
    "bert": "BERT",
    BASE: "MT-DNN",
    STUDENT: "MT-DNN_KD",
    ENSEMBLE: "MT-DNN-ensemble",
    "candidate": "candidates",
}


def name(system: str) -> str:
    """How a system is called in a table or a legend."""
    base, _, stage = system.partition(":")
    return NAMES.get(base, base) + (
        ", before fine-tuning" if stage == "mtl" else f" ({stage})" if stage else ""
    )


def title(task: str) -> str:
    known = {**tasks.GLUE, tasks.SNLI.name: tasks.SNLI}
    return known[task].title if task in known else task


def in_order(names) -> list[str]:
    """Tasks in the order of Table 3, then WNLI and AX, then any others."""
    known = [*published.TASKS, *ASIDE]
    present = list(dict.fromkeys(names))
    return [task for task in known if task in present] + [
        task for task in present if task not in known
    ]


def beside_the_paper(results: pd.DataFrame) -> bool:
    """Whether published figures have a place beside these results: not where all tasks are a study's own."""
    return not len(results) or bool(set(results["task"]) & set(tasks.GLUE))


def systems(results: pd.DataFrame) -> list[str]:
    """Systems in the paper's order, then those before fine-tuning, then any others."""
    known = [*SYSTEMS, *(f"{system}:mtl" for system in SYSTEMS)]
    present = list(dict.fromkeys(results["system"]))
    return [system for system in known if system in present] + [
        system for system in present if system not in known
    ]


def dev(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of dev splits."""
    split = results["split"].astype(str)
    return results[~split.str.startswith(("test", "train"))]


def scores(results: pd.DataFrame) -> pd.DataFrame:
    """A row a system, task and seed: `score` (percent); `complete`: it has all splits and metrics that others have."""
    rows = dev(results).dropna(subset=["value"])
    cells = rows.assign(cell=rows["split"] + "/" + rows["metric"])
    wanted = cells.groupby("task")["cell"].nunique()
    by = cells.groupby(["system", "task", "seed"], dropna=False, sort=False)
    frame = by.agg(score=("value", "mean"), cells=("cell", "nunique")).reset_index()
    frame["complete"] = (
        frame["cells"].to_numpy() == frame["task"].map(wanted).to_numpy() if len(frame) else True
    )
    return frame.drop(columns="cells")


def by_seed(results: pd.DataFrame, system: str) -> pd.DataFrame:
    """Complete scores of one system: seeds x tasks (percent); an ensemble's one row has the seed -1."""
    rows = scores(results)
    rows = rows[(rows["system"] == system) & rows["complete"].astype(bool)]
    return rows.assign(seed=rows["seed"].fillna(-1)).pivot_table(
        index="seed", columns="task", values="score"
    )


def interval(values) -> tuple[float, float]:
    """The 95 % t-interval (low, high) of the mean of values, one a seed; NaN under two seeds."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return (math.nan,) * 2
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - reach, values.mean() + reach


def averages(results: pd.DataFrame, among: list[str] | None = None) -> pd.DataFrame:
    """One row a system and seed: `average` over the tasks that count (percent), where the seed has all of them."""
    counted = averaged(results) if among is None else among
    rows = []
    for system in systems(results):
        wide = by_seed(results, system).reindex(columns=counted).dropna()
        rows += [(system, seed, value) for seed, value in wide.mean(axis=1).items() if counted]
    return pd.DataFrame(rows, columns=["system", "seed", "average"])


def averaged(results: pd.DataFrame) -> list[str]:
    """Tasks that an average is taken over: all that these results have on a dev split but WNLI and AX."""
    return [task for task in in_order(dev(results)["task"]) if task not in ASIDE]


def gains(
    results: pd.DataFrame,
    compared=None,
    student: str = STUDENT,
    base: str = BASE,
    ensemble: str = ENSEMBLE,
) -> pd.DataFrame:
    """What distillation gains, by task and, in the last row, on 'average' (points of percent).

    Columns: `seeds` (paired: the same seed of both systems), `tasks` (averaged over), `base`, `student` (mean scores),
    `gain` = student - base with `low`, `high` (95 % interval) and `p`, as `compared` (a `comparisons.Compared`) has them,
    `ensemble`, `ensemble_gain` = ensemble - base (mean over its seeds), `kept` = gain / ensemble_gain where that is above
    zero. A figure that cannot be had is NaN. On average, the ensemble's columns are over the `ensemble_tasks` that it has too.
    """
    first, second = by_seed(results, base), by_seed(results, student)
    third = by_seed(results, ensemble).mean()
    rows = {task: _gain(first, second, third, [task]) for task in in_order(dev(results)["task"])}
    if counted := averaged(results):
        rows["average"] = _average_gain(first, second, third, counted)
    columns = ["seeds", "tasks", "base", "student", "gain", "low", "high", "p"]
    columns += ["ensemble", "ensemble_gain", "ensemble_tasks", "kept"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("task")
    if compared is not None:
        found[["low", "high", "p"]] = (
            compared.of(student, base).reindex(found.index)[["low", "high", "p"]].astype(float)
        )
    return found


def _gain(first, second, third, among) -> dict:
    """Gains over the mean of some tasks; `first`, `second`: seeds x tasks, `third`: by task."""
    start = first.reindex(columns=among).dropna().mean(axis=1)
    end = second.reindex(columns=among).dropna().mean(axis=1)
    paired = (end - start).dropna()
    gain = paired.mean() if len(paired) else end.mean() - start.mean()
    above = third.reindex(among).mean(skipna=False)
    above_gain = above - start.mean()
    kept = gain / above_gain if above_gain > 1e-9 else math.nan
    row = dict(
        seeds=len(paired), tasks=len(among), base=start.mean(), student=end.mean(), gain=gain
    )
    row |= dict(low=math.nan, high=math.nan, p=math.nan)
    return row | dict(
        ensemble=above, ensemble_gain=above_gain, ensemble_tasks=len(among), kept=kept
    )


def _average_gain(first, second, third, counted) -> dict:
    """The last row of `gains`: over the tasks both systems have; the ensemble's columns over those it has as well."""
    both = [task for task in counted if task in first and task in second]
    row = _gain(first, second, third, both or counted)
    shared = [task for task in both if task in third.dropna()]
    if shared and shared != both:
        part = _gain(first, second, third, shared)
        row |= {key: part[key] for key in ("ensemble", "ensemble_gain", "ensemble_tasks", "kept")}
    return row


def train_sizes(sizes: pd.DataFrame | None) -> dict[str, float]:
    """Train examples a task, from the data themselves; empty where `sizes` is not given."""
    if sizes is None or not len(sizes):
        return {}
    rows = sizes[(sizes["role"] == "train") & ~sizes["missing"].astype(bool)]
    return rows.groupby("task")["examples"].sum().astype(float).to_dict()
