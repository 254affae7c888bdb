"""Pairs of systems on the same dev examples: difference, 95 % t-interval and two-sided p.

The variance of a difference is the sum of two parts, those of a hierarchical bootstrap:

    seeds      s^2 / n     s: standard deviation of the differences by paired seed
    examples   variance of the mean difference over `DRAWS` resamples of the dev examples, the same
               for all systems and seeds; tasks are fixed

Student's t with Satterthwaite's degrees of freedom turns it into an interval and a p that agree. s
contains a part of the examples' variance, so that the sum is a little too large where seeds hardly
differ. With one paired seed there are the examples alone: how training varies is left out. An
ensemble is one run, compared with every seed of the other: how it varies itself is left out.

Measured on 4,000 pairs of equal systems of 75 % accuracy on 1,000 examples, by
`pytest -m slow -s -k rates tests/unit/report/test_significance.py`: share of p < .05, and of
intervals that hold the truth, by the deviation of a system's true accuracy over seeds (points).

    seeds  deviation 0     1              2
    1      5.7 / 94.3 %    13.9 / 86.1 %   33.4 / 66.6 %
    2      2.1 / 98.0 %    4.0 / 96.0 %    9.3 / 90.7 %
    3      1.5 / 98.5 %    3.3 / 96.7 %    6.1 / 93.9 %
    5      1.7 / 98.3 %    2.8 / 97.2 %    4.1 / 95.9 %
"""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import optimize, stats

from mtkd.errors import UserError
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, in_order, is_aside, name
from mtkd.tasks import Task
from mtkd.training.metrics import predicted, resampled, resamples

DRAWS, SEED, LEVEL = 2000, 0, 0.05
COLUMNS = ["a", "b", "task", "difference", "low", "high", "p", "p_holm", "seeds", "examples"]
BEFORE = (f"{STUDENT}:mtl", f"{BASE}:mtl")
PAIRS = ((BASE, "bert"), (STUDENT, BASE), BEFORE, (STUDENT, ENSEMBLE), (ENSEMBLE, BASE))
METHOD = "95 % intervals and p by Student's t, from the variance over seeds and dev examples."
ONE_RUN = (
    "An ensemble is one run, compared with every seed of the other: how ensembles vary from run to "
    "run is in no interval."
)

Pair = tuple[str, str]
System = tuple[str, int]  # a system and its seed; -1 for an ensemble, which has none
Predictions = tuple[str, float, pd.DataFrame]  # system, seed or NaN, rows of predictions.parquet


@dataclass(frozen=True)
class Kept:
    """Share of the ensemble's average gain over MT-DNN that the student keeps, with its interval.

    NaN where the ensemble's gain is not established: a share of it then says nothing.
    """

    share: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0


@dataclass(frozen=True)
class Compared:
    """Comparisons of pairs of systems.

    Attributes:
        frame: one row per pair (`a`, `b`) and task and one on 'average', see `COLUMNS`: a - b in
            points, its interval, p, p by Holm's correction over the pair's tasks (on average p
            itself, which is one test), paired seeds, dev examples.
        kept: the share of the ensemble's gain that the student keeps.
    """

    frame: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    kept: Kept = Kept()

    def of(self, a: str, b: str) -> pd.DataFrame:
        """Return the rows of a pair by task; empty where it was not compared."""
        rows = self.frame[(self.frame["a"] == a) & (self.frame["b"] == b)]
        return rows.set_index("task")


@dataclass(frozen=True)
class _Split:
    """One dev split: `idx` and `labels` (n,), and every system's classes or scores (n,).

    n is the number of examples, or of their labels where an example has several.
    """

    name: str
    idx: np.ndarray
    labels: np.ndarray
    outputs: dict[System, np.ndarray]


class Resampled:
    """Every system's scores by task and seed, on the dev examples as they are and on resamples.

    Raises:
        UserError: if predictions are of different examples.
    """

    def __init__(self, tasks: Iterable[Task], parts: Iterable[Predictions]):
        known = {task.name: task for task in tasks}
        splits = _dev_splits(known, parts)
        self.examples = {
            task: sum(_size(known[task], one) for one in splits[task]) for task in splits
        }
        self.scores = {task: _resampled_scores(known[task], splits[task]) for task in splits}

    def tasks(self, a: str, b: str) -> list[str]:
        """Return the tasks on which two systems can be compared, in the order of Table 3."""
        return [one for one in in_order(self.scores) if len(self.differences(a, b, {one: 1}))]

    def differences(self, a: str, b: str, weights: dict[str, float]) -> pd.DataFrame:
        """Return a - b in points, summed by the weights of tasks: (1 + DRAWS) x paired seeds.

        The first row is of the examples as they are. Seeds are those that both systems have on all
        tasks; a system without seeds goes with every seed of the other. Empty where there is none.
        """
        scores = {task: self.scores.get(task, {}) for task in weights}
        runs = set.intersection(*map(set, scores.values())) if scores else set()
        first, second = ({seed for system, seed in runs if system == one} for one in (a, b))
        if {-1} in (first, second):
            pairs = {max(i, j): ((a, i), (b, j)) for i in sorted(first) for j in sorted(second)}
        else:
            pairs = {seed: ((a, seed), (b, seed)) for seed in sorted(first & second)}
        sums = {
            seed: sum(
                weight * (scores[task][x] - scores[task][y]) for task, weight in weights.items()
            )
            for seed, (x, y) in pairs.items()
        }
        return pd.DataFrame(sums)


def even(tasks: Collection[str]) -> dict[str, float]:
    """Return the weights of an average over tasks."""
    return {task: 1 / len(tasks) for task in tasks}


def estimate(differences: pd.DataFrame) -> dict[str, float]:
    """Return `gain`, `low`, `high` (95 % interval), `p` and `seeds` of `Resampled.differences`."""
    as_they_are, resampled = differences.iloc[0].to_numpy(), differences.iloc[1:].to_numpy()
    gain, seeds = as_they_are.mean(), len(as_they_are)
    by_seed = as_they_are.var(ddof=1) / seeds if seeds > 1 else 0.0
    variance = by_seed + resampled.mean(axis=1).var(ddof=1)
    freedom = (seeds - 1) * (variance / by_seed) ** 2 if by_seed else math.inf
    half, p = 0.0, float(gain == 0)
    if variance:
        half = stats.t.ppf(1 - LEVEL / 2, freedom) * math.sqrt(variance)
        p = 2 * stats.t.sf(abs(gain) / math.sqrt(variance), freedom)
    return {"gain": gain, "low": gain - half, "high": gain + half, "p": p, "seeds": seeds}


def holm(p: Iterable[float]) -> np.ndarray:
    """Return p values corrected for their number (Holm 1979)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def compare(resampled: Resampled, pairs: Iterable[Pair]) -> Compared:
    """Compare the pairs (a, b) that have predictions of a task in common.

    Averages are over the tasks that both systems of a pair have but WNLI, AX and rankings.
    """
    rows = [row for a, b in pairs for row in _rows(resampled, a, b)]
    return Compared(pd.DataFrame(rows, columns=COLUMNS), _share_kept(resampled))


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Return comparisons as comparisons.csv has them: small p keep their digits."""
    frame = frame.round({"difference": 4, "low": 4, "high": 4})
    return frame.assign(**{p: frame[p].map(lambda x: float(f"{x:.3g}")) for p in ("p", "p_holm")})


def _rows(resampled: Resampled, a: str, b: str) -> list[dict]:
    """Return the rows of one pair: its tasks, then the average."""

    def row(task: str, among: list[str]) -> list[dict]:
        if (values := resampled.differences(a, b, even(among))).empty:
            return []
        found, examples = estimate(values), sum(resampled.examples[one] for one in among)
        about = {"a": a, "b": b, "task": task, "difference": found["gain"], "examples": examples}
        return [found | about]

    tasks = resampled.tasks(a, b)
    rows = [one for task in tasks for one in row(task, [task])]
    average = row("average", [task for task in tasks if not is_aside(task)])
    corrected = [*holm([one["p"] for one in rows]), *(one["p"] for one in average)]
    return [one | {"p_holm": p} for one, p in zip(rows + average, corrected, strict=True)]


def _share_kept(resampled: Resampled) -> Kept:
    """Return the share kept; its interval holds the shares that the same test does not reject.

    These are all r at which zero is in the interval of student's gain - r x ensemble's gain
    (Fieller 1954); they are bounded, since the ensemble's gain is established.
    """
    both = set(resampled.tasks(STUDENT, BASE)) & set(resampled.tasks(ENSEMBLE, BASE))
    weights = even(sorted(task for task in both if not is_aside(task)))
    gain, above = (resampled.differences(one, BASE, weights) for one in (STUDENT, ENSEMBLE))
    above = above.reindex(columns=gain.columns)  # the same seeds
    if gain.empty or estimate(above)["low"] <= 0:
        return Kept()

    def outside(share: float) -> float:
        """Return how far zero is outside the interval; negative inside."""
        rest = estimate(gain - share * above)
        return max(rest["low"], -rest["high"])

    share, ends = estimate(gain)["gain"] / estimate(above)["gain"], []
    for step in (-1.0, 1.0):
        while outside(share + step) <= 0:
            step *= 2
        ends.append(optimize.brentq(outside, share, share + step))
    return Kept(share, *ends, gain.shape[1])


def _dev_splits(tasks: dict[str, Task], parts: Iterable[Predictions]) -> dict[str, list[_Split]]:
    """Return the dev splits of every task with all systems' outputs."""
    splits: dict[str, dict[str, _Split]] = {}
    for system, seed, frame in parts:
        for (task, split), rows in frame.groupby(["task", "split"], sort=False):
            if task not in tasks or split not in tasks[task].dev:
                continue
            rows = rows.sort_values("idx", kind="stable")
            idx, labels = rows["idx"].to_numpy(), rows["label"].to_numpy()
            empty = _Split(f"{task}/{split}", idx, labels, {})
            this = splits.setdefault(task, {}).setdefault(split, empty)
            if not np.array_equal(this.idx, idx):
                text = f"The predictions of {name(system)} on {tasks[task].title} ({split})"
                raise UserError(
                    f"{text} are of other examples: remove the artifacts and run again."
                )
            outputs = predicted(tasks[task], np.stack(rows["outputs"]), idx)
            this.outputs[system, -1 if math.isnan(seed) else int(seed)] = outputs
    return {task: list(of_task.values()) for task, of_task in splits.items()}


def _size(task: Task, split: _Split) -> int:
    """Return the number of examples."""
    return len(np.unique(split.idx) if task.clustered else split.idx)


def _blocks(examples: int) -> Iterator[int]:
    """Yield block sizes that sum to DRAWS and keep a block's weights small in memory."""
    step = max(1, 4_000_000 // examples)
    yield from (min(step, DRAWS - start) for start in range(0, DRAWS, step))


def _resampled_scores(task: Task, splits: list[_Split]) -> dict[System, np.ndarray]:
    """Score the systems that have all splits: (1 + DRAWS,), first on the examples as they are."""
    shared = set.intersection(*(set(split.outputs) for split in splits))
    systems, cells = [system for system in splits[0].outputs if system in shared], []
    if not systems:
        return {}
    for split in splits:
        outputs = np.stack([split.outputs[system] for system in systems], axis=1)
        size, random = _size(task, split), np.random.default_rng([SEED, crc32(split.name.encode())])
        weights = (resamples(size, count, random) for count in _blocks(size))
        blocks = [
            [resampled(task, one, block, outputs, split.labels, split.idx) for one in task.metrics]
            for block in (np.ones((1, size)), *weights)
        ]
        cells += [np.concatenate(one) for one in zip(*blocks, strict=True)]
    return dict(zip(systems, np.mean(cells, axis=0).T, strict=True))
