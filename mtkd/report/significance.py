"""Pairs of systems on the same dev examples: difference, 95 % interval, chance, and a plain sentence.

An interval is a bootstrap on two levels (percentiles of `DRAWS` resamples): seeds, the same of both systems, and dev examples,
the same of both systems and of all seeds; tasks are fixed. `scipy.stats.bootstrap` resamples one level, so the resampling is
here. It errs to the wide side where examples vary more than seeds do (95 to 100 % of simulated studies lie within), and to the
narrow side where seeds vary more and are few (86 % with five seeds, 74 % with three, 61 % with two). p is of approximate
randomisation (Noreen 1989): example by example, the outputs of the two systems are swapped or not, of all seeds together.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pandas as pd

from mtkd.errors import UserError
from mtkd.report import scores as figures
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, name
from mtkd.report.table import NONE, Table, number, percent
from mtkd.tasks import Task
from mtkd.training.metrics import predicted, resamples, weighted

DRAWS, SEED = 2000, 0
COLUMNS = ["a", "b", "task", "difference", "low", "high", "p", "seeds", "examples"]
PAIRS = (
    (BASE, "bert"),
    (STUDENT, BASE),
    (f"{STUDENT}:mtl", f"{BASE}:mtl"),
    (STUDENT, ENSEMBLE),
    (ENSEMBLE, BASE),
)
METHOD = "95 % intervals: bootstrap over seeds and dev examples; p: approximate randomisation."

System = tuple[str, int]  # a system and its seed, -1 for an ensemble, which has none


@dataclass(frozen=True)
class Kept:
    """Share of the ensemble's gain over MT-DNN that the student keeps, on average over tasks; NaN where there is none.

    `low` and `high` are NaN where the ensemble's own gain may be nothing: then the share has no bounds.
    """

    share: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Compared:
    """`frame`: a row a pair (a, b) and task, and one on 'average': a - b in points, its interval, p (of single tasks), paired
    seeds, dev examples. `lacking`: systems whose predictions are not at hand.
    """

    frame: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    kept: Kept = Kept()
    lacking: tuple[str, ...] = ()

    def of(self, a: str, b: str) -> pd.DataFrame:
        """The rows of a pair, by task; empty where it was not compared."""
        rows = self.frame[(self.frame["a"] == a) & (self.frame["b"] == b)]
        return rows.set_index("task")


@dataclass(frozen=True)
class _Split:
    """What systems say of a dev split: labels (n,), and classes or scores (n,) by system."""

    name: str
    idx: np.ndarray
    labels: np.ndarray
    said: dict[System, np.ndarray]

    def of(self, systems: list[System]) -> np.ndarray:
        return np.stack([self.said[system] for system in systems], axis=1)


def compare(
    tasks: list[Task],
    parts: Iterable[tuple[str, float, pd.DataFrame]],
    pairs: Iterable[tuple[str, str]],
    lacking: Iterable[str] = (),
) -> Compared:
    """Compares the pairs that have predictions of a task in common.

    `parts` are (system, seed or NaN, rows of a predictions.parquet). Averages are over the tasks that both have but WNLI and AX.
    """
    splits = _splits(tasks, parts)
    tasks = [task for task in tasks if task.name in splits]
    drawn = {task.name: _drawn(task, splits[task.name]) for task in tasks}
    rows = []
    for a, b in pairs:
        both = {task.name: task for task in tasks if _paired(drawn, [task.name], a, b)}
        for one in figures.in_order(both):
            chance = _chance(both[one], splits[one], _paired(drawn, [one], a, b))
            rows.append(_row(drawn, splits, [one], a, b) | dict(task=one, p=chance))
        counted = [one for one in both if one not in figures.ASIDE]
        if _paired(drawn, counted, a, b):
            rows.append(_row(drawn, splits, counted, a, b) | dict(task="average", p=math.nan))
    return Compared(
        pd.DataFrame(rows, columns=COLUMNS), _kept(drawn), tuple(dict.fromkeys(lacking))
    )


def _splits(
    tasks: list[Task], parts: Iterable[tuple[str, float, pd.DataFrame]]
) -> dict[str, list[_Split]]:
    """The dev splits of every task, with what all systems say of their examples."""
    known, found = {task.name: task for task in tasks}, {}
    for system, seed, frame in parts:
        for (of, split), rows in frame.groupby(["task", "split"], sort=False):
            if of not in known or split not in known[of].dev:
                continue
            rows = rows.sort_values("idx", kind="stable")
            labels, idx = rows["label"].to_numpy(), rows["idx"].to_numpy()
            here = found.setdefault(of, {}).setdefault(
                split, _Split(f"{of}/{split}", idx, labels, {})
            )
            if not np.array_equal(here.idx, idx):
                raise UserError(
                    f"The predictions of {name(system)} on {known[of].title} ({split}) are of other examples than those of the "
                    "other systems: remove the study's artifacts and run it again."
                )
            here.said[system, -1 if math.isnan(seed) else int(seed)] = predicted(
                known[of], np.stack(rows["outputs"])
            )
    return {of: list(of_task.values()) for of, of_task in found.items()}


def _blocks(draws: int, examples: int) -> Iterator[int]:
    """Parts of so many draws that their weights take little memory."""
    step = max(1, 4_000_000 // examples)
    yield from (min(step, draws - start) for start in range(0, draws, step))


def _random(*key: str) -> np.random.Generator:
    return np.random.default_rng([SEED, crc32("/".join(key).encode())])


def _drawn(task: Task, splits: list[_Split]) -> dict[System, np.ndarray]:
    """Scores (1 + DRAWS,) of the systems that have all splits: of the examples as they are, then of every resample."""
    systems, cells = (
        [system for system in splits[0].said if all(system in split.said for split in splits)],
        [],
    )
    if not systems:
        return {}
    for split in splits:
        said, size, random, blocks = (
            split.of(systems),
            len(split.labels),
            _random("bootstrap", split.name),
            [],
        )
        for place, count in enumerate([1, *_blocks(DRAWS, size)]):
            weights = (
                resamples(size, count, random) if place else np.ones((1, size))
            )  # the first as it is
            blocks.append(
                [weighted(metric, weights, said, split.labels) for metric in task.metrics]
            )
        cells += [np.concatenate(values) for values in zip(*blocks, strict=True)]
    return dict(zip(systems, np.mean(cells, axis=0).T, strict=True))


def _paired(
    drawn: dict[str, dict[System, np.ndarray]], among: list[str], a: str, b: str
) -> list[tuple[System, System]]:
    """The runs to compare on these tasks: the same seed of both systems; what has no seeds goes with every seed of the other."""
    common = [set(drawn[task]) for task in among]
    every = set.intersection(*common) if common else set()
    first, second = ({seed for system, seed in every if system == one} for one in (a, b))
    if {-1} in (first, second):
        return [((a, seed), (b, other)) for seed in sorted(first) for other in sorted(second)]
    return [((a, seed), (b, seed)) for seed in sorted(first & second)]


def _differences(
    drawn: dict[str, dict[System, np.ndarray]], among: list[str], a: str, b: str
) -> np.ndarray:
    """Mean of a - b over tasks and seeds (1 + DRAWS,): as it is, then in every resample of examples and seeds."""
    pairs = _paired(drawn, among, a, b)
    values = np.stack(
        [
            np.mean([drawn[task][one] - drawn[task][other] for task in among], axis=0)
            for one, other in pairs
        ],
        axis=1,
    )
    seeds = len(pairs)
    chosen = _random("seeds", str(seeds)).integers(seeds, size=(DRAWS, seeds))
    return np.r_[values[0].mean(), np.take_along_axis(values[1:], chosen, axis=1).mean(axis=1)]


def _row(drawn: dict, splits: dict[str, list[_Split]], among: list[str], a: str, b: str) -> dict:
    values = _differences(drawn, among, a, b)
    low, high = np.percentile(values[1:], [2.5, 97.5])
    examples = sum(len(split.labels) for task in among for split in splits[task])
    return dict(
        a=a,
        b=b,
        difference=values[0],
        low=low,
        high=high,
        seeds=len(_paired(drawn, among, a, b)),
        examples=examples,
    )


def _chance(task: Task, splits: list[_Split], pairs: list[tuple[System, System]]) -> float:
    """How often outputs swapped at random differ as much as the two systems do (add-one estimate).

    Swapping is weighting: with both systems' outputs in one pool, a system's score after swaps is that of a resample of the pool.
    """
    cells = []
    for split in splits:
        rows = np.column_stack(
            [
                split.of([one for one, _ in pairs]),
                split.of([other for _, other in pairs]),
                split.labels,
            ]
        )
        # Alike examples are swapped together: how many of them are is a binomial draw.
        rows, counts = (
            (rows, np.ones(len(rows), int))
            if task.regression
            else np.unique(rows, axis=0, return_counts=True)
        )
        pool, labels = np.concatenate(np.split(rows[:, :-1], 2, axis=1)), np.tile(rows[:, -1], 2)
        random, blocks = _random("swaps", split.name), []
        for place, count in enumerate([1, *_blocks(DRAWS, len(rows))]):
            swapped = random.binomial(
                counts, 0.5 if place else 0.0, size=(count, len(rows))
            )  # the first as it is
            first, second = (
                np.hstack([counts - swapped, swapped]),
                np.hstack([swapped, counts - swapped]),
            )
            blocks.append(
                [
                    (
                        weighted(metric, first, pool, labels)
                        - weighted(metric, second, pool, labels)
                    ).mean(axis=1)
                    for metric in task.metrics
                ]
            )
        cells += [np.concatenate(values) for values in zip(*blocks, strict=True)]
    found = np.abs(np.mean(cells, axis=0))
    return (1 + int((found[1:] >= found[0] - 1e-9).sum())) / (1 + DRAWS)


def _kept(drawn: dict[str, dict[System, np.ndarray]]) -> Kept:
    """Its interval is over the resamples of the student's and the ensemble's gains alike; bounded where the ensemble's is above 0."""
    among = [
        task
        for task in drawn
        if task not in figures.ASIDE
        and _paired(drawn, [task], STUDENT, BASE)
        and _paired(drawn, [task], ENSEMBLE, BASE)
    ]
    if not _paired(drawn, among, STUDENT, BASE) or not _paired(drawn, among, ENSEMBLE, BASE):
        return Kept()
    gain, above = (
        _differences(drawn, among, STUDENT, BASE),
        _differences(drawn, among, ENSEMBLE, BASE),
    )
    if above[0] <= 1e-9:
        return Kept()
    if np.percentile(above[1:], 2.5) <= 0:
        return Kept(gain[0] / above[0])
    low, high = np.percentile((gain[1:] / above[1:])[above[1:] > 0], [2.5, 97.5])
    return Kept(gain[0] / above[0], low, high)


def span(row, digits: int = 2) -> str:
    """A row's interval in words; nothing where it has none."""
    if not math.isfinite(row["low"]):
        return ""
    return f"{number(row['low'], digits, sign=True)} to {number(row['high'], digits, sign=True)}"


def reach(row) -> list[list[float]] | None:
    """Error bar of a gain: its distances to the ends of its interval."""
    return (
        [[row["gain"] - row["low"]], [row["high"] - row["gain"]]]
        if math.isfinite(row["low"])
        else None
    )


def bars(frame: pd.DataFrame) -> str:
    """What the error bars of these gains are."""
    if not np.isfinite(frame["low"].to_numpy(dtype=float)).any():
        return "no predictions, so no interval"
    seeds = int(frame["seeds"].max())
    return (
        f"bars: 95 % interval over {seeds} seeds and dev examples"
        if seeds > 1
        else "bars: 95 % interval over dev examples; one seed"
    )


def called(system: str, label: Callable[[str], str] = name) -> str:
    """A system's name without commas, to stand in a sentence."""
    before, _, after = label(system).partition(", ")
    return f"{before} ({after})" if after else before


def sentence(row, label: Callable[[str], str] = called) -> str:
    """What a row on average says, in plain words."""
    a, b = label(row["a"]), label(row["b"])
    if row["low"] <= 0 <= row["high"]:
        return f"No difference between {a} and {b} is established."
    return f"{a} is {'better' if row['difference'] > 0 else 'worse'} than {b}."


def kept_sentence(found: Compared) -> str:
    """How much of the ensemble's gain the student keeps, in plain words; nothing where there is no such gain to tell of."""
    rows, kept = found.of(ENSEMBLE, BASE), found.kept
    if "average" not in rows.index:
        return ""
    if not math.isfinite(kept.share):
        return "The ensembles do not beat MT-DNN on average, so there is no gain to keep."
    if not math.isfinite(kept.low):
        return "The ensembles' own gain may be nothing (its interval includes zero), so the share has no bounds."
    return f"The student keeps {share(kept.share)} of the ensembles' gain, between {percent(kept.low)} and {percent(kept.high)}."


def share(kept: float) -> str:
    """A share of the ensemble's gain in words."""
    return percent(kept) if kept > 0 else "none"


def table(found: Compared, label: Callable[[str], str] = called) -> Table:
    """Every comparison on average over tasks, and on how many single tasks chance is ruled out; the levers' have a table of their own."""
    rows = []
    for a, b in dict.fromkeys(zip(found.frame["a"], found.frame["b"], strict=True)):
        if (b, a) in PAIRS or (a.startswith(f"{STUDENT}:") and a != f"{STUDENT}:mtl"):
            continue
        part = found.of(a, b)
        single = part[~part.index.isin(("average", *figures.ASIDE))]
        row = part.loc["average"] if "average" in part.index else None
        rows.append(
            {
                "Comparison": f"{label(a)} against {label(b)}",
                "Average difference": NONE
                if row is None
                else number(row["difference"], 2, sign=True),
                "95 % interval": NONE if row is None else span(row),
                "Tasks better, p < .05": _sure(single[single["difference"] > 0]),
                "Tasks worse, p < .05": _sure(single[single["difference"] < 0]),
                "In words": NONE if row is None else sentence(row, label),
            }
        )
    if words := kept_sentence(found):
        kept = found.kept
        cells = {
            "Comparison": "Share of the ensembles' gain that the student keeps",
            "In words": words,
        }
        cells |= {"Average difference": share(kept.share)} if math.isfinite(kept.share) else {}
        cells |= (
            {"95 % interval": f"{percent(kept.low)} to {percent(kept.high)}"}
            if math.isfinite(kept.low)
            else {}
        )
        rows.append(dict.fromkeys(rows[0], NONE) | cells)
    notes = [
        f"{METHOD} {DRAWS:,} draws; one task in twenty is below p = .05 by chance alone.",
        "Points on dev, averaged over the tasks that both have but WNLI; the tasks are taken as given. An ensemble has no seeds: it "
        "is compared with every seed of the other.",
    ]
    seeds = int(found.frame["seeds"].max()) if rows else 0
    notes += ["There is one seed: how training varies is in no interval."] * (seeds == 1)
    notes += [f"With {seeds} seeds, how training varies is understated."] * (1 < seeds < 5)
    return Table(
        "comparisons",
        "Every comparison",
        pd.DataFrame(rows),
        [*notes, *without(found, label)],
        words=True,
    )


def _sure(part: pd.DataFrame) -> str:
    part = part[part["p"] < 0.05]
    names = [
        f"{figures.title(task)} {number(row['difference'], 1, sign=True)}"
        for task, row in part.iterrows()
    ]
    return f"{len(part)}: {', '.join(names)}" if names else "0"


def without(found: Compared, label: Callable[[str], str] = called) -> list[str]:
    """Says which systems have scores but no predictions, and so no interval."""
    if not found.lacking:
        return []
    return [
        f"No predictions of {', '.join(map(label, found.lacking))} are at hand, so there is no interval: run those stages again."
    ]
