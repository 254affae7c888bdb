"""Pairs of systems on the same dev examples: difference, 95 % interval and p value.

An interval is a two-level bootstrap (percentiles of `DRAWS` resamples): seeds, the same of both
systems, and dev examples, the same of both systems and of all seeds; tasks are fixed.
`scipy.stats.bootstrap` resamples one level only. Coverage on simulated studies: 95 to 100 % where
examples vary more than seeds do; where seeds vary more and are few, 86 % with five seeds, 74 % with
three, 61 % with two. p is by approximate randomisation (Noreen 1989): example by example, the
outputs of the two systems are swapped or not, those of all seeds together.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pandas as pd

from mtkd.errors import UserError
from mtkd.report.scores import ASIDE, BASE, ENSEMBLE, STUDENT, in_order, name
from mtkd.tasks import Task
from mtkd.training.metrics import predicted, resamples, weighted

DRAWS, SEED = 2000, 0
COLUMNS = ["a", "b", "task", "difference", "low", "high", "p", "seeds", "examples"]
BEFORE = (f"{STUDENT}:mtl", f"{BASE}:mtl")
PAIRS = ((BASE, "bert"), (STUDENT, BASE), BEFORE, (STUDENT, ENSEMBLE), (ENSEMBLE, BASE))
METHOD = "95 % intervals: bootstrap over seeds and dev examples; p: approximate randomisation."

Pair = tuple[str, str]
System = tuple[str, int]  # a system and its seed; -1 for an ensemble, which has none
Predictions = tuple[str, float, pd.DataFrame]  # system, seed or NaN, rows of predictions.parquet


@dataclass(frozen=True)
class Kept:
    """Share of the ensemble's average gain over MT-DNN that the student keeps; NaN for none.

    `low` and `high` are NaN where the interval of the ensemble's gain includes zero: the share is
    then unbounded.
    """

    share: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Compared:
    """Comparisons of pairs of systems.

    Attributes:
        frame: one row per pair (`a`, `b`) and task and one on 'average', see `COLUMNS`: a - b in
            points, its interval, p (single tasks only), paired seeds, dev examples.
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
    """One dev split: `idx` and `labels` (n,), and every system's classes or scores (n,)."""

    name: str
    idx: np.ndarray
    labels: np.ndarray
    outputs: dict[System, np.ndarray]

    def stack(self, systems: list[System]) -> np.ndarray:
        """Return the outputs of some systems, (n, systems)."""
        return np.stack([self.outputs[system] for system in systems], axis=1)


@dataclass(frozen=True)
class _TaskData:
    """A task's dev splits, and every system's score (1 + DRAWS,): as it is, then resampled."""

    task: Task
    splits: list[_Split]
    scores: dict[System, np.ndarray]


def compare(tasks: list[Task], parts: Iterable[Predictions], pairs: Iterable[Pair]) -> Compared:
    """Compare the pairs (a, b) that have predictions of a task in common.

    Averages are over the tasks that both systems of a pair have but WNLI and AX.

    Raises:
        UserError: if predictions are of different examples.
    """
    splits = _dev_splits(tasks, parts)
    tasks = [task for task in tasks if task.name in splits]
    data, rows = [_task_data(task, splits[task.name]) for task in tasks], []
    for a, b in pairs:
        shared = {one.task.name: one for one in data if _seed_pairs([one], a, b)}
        for task in in_order(shared):
            p = _p_value(shared[task], _seed_pairs([shared[task]], a, b))
            rows.append(_row([shared[task]], a, b) | {"task": task, "p": p})
        counted = [one for task, one in shared.items() if task not in ASIDE]
        if _seed_pairs(counted, a, b):
            rows.append(_row(counted, a, b) | {"task": "average", "p": math.nan})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return Compared(frame, _share_kept(data))


def _dev_splits(tasks: list[Task], parts: Iterable[Predictions]) -> dict[str, list[_Split]]:
    """Return the dev splits of every task with all systems' outputs."""
    known, splits = {task.name: task for task in tasks}, {}
    for system, seed, frame in parts:
        for (task, split), rows in frame.groupby(["task", "split"], sort=False):
            if task not in known or split not in known[task].dev:
                continue
            rows = rows.sort_values("idx", kind="stable")
            idx, labels = rows["idx"].to_numpy(), rows["label"].to_numpy()
            empty = _Split(f"{task}/{split}", idx, labels, {})
            this = splits.setdefault(task, {}).setdefault(split, empty)
            if not np.array_equal(this.idx, idx):
                text = f"The predictions of {name(system)} on {known[task].title} ({split})"
                raise UserError(
                    f"{text} are of other examples: remove the artifacts and run again."
                )
            outputs = predicted(known[task], np.stack(rows["outputs"]))
            this.outputs[system, -1 if math.isnan(seed) else int(seed)] = outputs
    return {task: list(of_task.values()) for task, of_task in splits.items()}


def _random(*key: str) -> np.random.Generator:
    return np.random.default_rng([SEED, crc32("/".join(key).encode())])


def _blocks(examples: int) -> Iterator[int]:
    """Yield block sizes that sum to DRAWS and keep a block's weights small in memory."""
    step = max(1, 4_000_000 // examples)
    yield from (min(step, DRAWS - start) for start in range(0, DRAWS, step))


def _task_mean(cells: list[list[np.ndarray]]) -> np.ndarray:
    """Return the mean over splits and metrics; each cell comes in blocks of draws."""
    return np.mean([np.concatenate(blocks) for blocks in cells], axis=0)


def _task_data(task: Task, splits: list[_Split]) -> _TaskData:
    """Score the systems that have all splits: on the examples as they are and on every resample."""
    shared = set.intersection(*(set(split.outputs) for split in splits))
    systems, cells = [system for system in splits[0].outputs if system in shared], []
    if not systems:
        return _TaskData(task, splits, {})
    for split in splits:
        outputs, size = split.stack(systems), len(split.labels)
        random = _random("bootstrap", split.name)
        weights = (resamples(size, count, random) for count in _blocks(size))
        blocks = [
            [weighted(metric, block, outputs, split.labels) for metric in task.metrics]
            for block in (np.ones((1, size)), *weights)
        ]
        cells += zip(*blocks, strict=True)
    return _TaskData(task, splits, dict(zip(systems, _task_mean(cells).T, strict=True)))


def _seed_pairs(data: list[_TaskData], a: str, b: str) -> list[tuple[System, System]]:
    """Return the runs to compare: equal seeds; a system without seeds goes with every seed."""
    runs = set.intersection(*(set(one.scores) for one in data)) if data else set()
    first, second = ({seed for system, seed in runs if system == one} for one in (a, b))
    if first == {-1} or second == {-1}:
        return [((a, i), (b, j)) for i in sorted(first) for j in sorted(second)]
    return [((a, seed), (b, seed)) for seed in sorted(first & second)]


def _differences(data: list[_TaskData], a: str, b: str) -> np.ndarray:
    """Return the mean of a - b over tasks and seeds (1 + DRAWS,): as it is, then resampled."""
    pairs = _seed_pairs(data, a, b)
    by_pair = [np.mean([one.scores[x] - one.scores[y] for one in data], axis=0) for x, y in pairs]
    values, seeds = np.stack(by_pair, axis=1), len(pairs)
    chosen = _random("seeds", str(seeds)).integers(seeds, size=(DRAWS, seeds))
    return np.r_[values[0].mean(), np.take_along_axis(values[1:], chosen, axis=1).mean(axis=1)]


def _row(data: list[_TaskData], a: str, b: str) -> dict:
    values = _differences(data, a, b)
    low, high = np.percentile(values[1:], [2.5, 97.5])
    row = {"a": a, "b": b, "difference": values[0], "low": low, "high": high}
    examples = sum(len(split.labels) for one in data for split in one.splits)
    return row | {"seeds": len(_seed_pairs(data, a, b)), "examples": examples}


def _p_value(data: _TaskData, pairs: list[tuple[System, System]]) -> float:
    """Return how often randomly swapped outputs differ as much as the systems do (add-one).

    Swapping is weighting: with both systems' outputs in one pool, a system's score after swaps is
    that of a resample of the pool.
    """
    task, cells = data.task, []
    for split in data.splits:
        firsts, seconds = (split.stack(list(side)) for side in zip(*pairs, strict=True))
        rows, counts = np.column_stack([firsts, seconds, split.labels]), np.ones(len(firsts), int)
        if not task.regression:  # equal rows are swapped together: a binomial draw says how many
            rows, counts = np.unique(rows, axis=0, return_counts=True)
        pool = np.concatenate(np.split(rows[:, :-1], 2, axis=1))
        labels, random = np.tile(rows[:, -1], 2), _random("swaps", split.name)
        swaps = (random.binomial(counts, 0.5, size=(n, len(rows))) for n in _blocks(len(rows)))
        blocks = []
        for swapped in (np.zeros((1, len(rows)), int), *swaps):
            sides = [counts - swapped, swapped], [swapped, counts - swapped]
            first, second = (np.hstack(side) for side in sides)
            blocks.append([_gap(metric, first, second, pool, labels) for metric in task.metrics])
        cells += zip(*blocks, strict=True)
    gaps = np.abs(_task_mean(cells))
    return (1 + int((gaps[1:] >= gaps[0] - 1e-9).sum())) / (1 + DRAWS)


def _gap(metric: str, first, second, pool, labels) -> np.ndarray:
    """Return the difference of a metric under two weightings of a pool, (draws,)."""
    one, other = (weighted(metric, weights, pool, labels) for weights in (first, second))
    return (one - other).mean(axis=1)


def _share_kept(data: list[_TaskData]) -> Kept:
    """Return the share kept; its interval is over the same resamples of both gains."""
    sides = (STUDENT, BASE), (ENSEMBLE, BASE)
    counted = [one for one in data if one.task.name not in ASIDE]
    data = [one for one in counted if all(_seed_pairs([one], *side) for side in sides)]
    if not all(_seed_pairs(data, *side) for side in sides):
        return Kept()
    gain, above = (_differences(data, *side) for side in sides)
    if above[0] <= 1e-9:
        return Kept()
    if np.percentile(above[1:], 2.5) <= 0:
        return Kept(gain[0] / above[0])
    low, high = np.percentile((gain[1:] / above[1:])[above[1:] > 0], [2.5, 97.5])
    return Kept(gain[0] / above[0], low, high)
