"""Algorithm 1's mini-batches: one task each, merged and shuffled every epoch."""

from collections.abc import Iterator

import numpy as np

Plan = list[tuple[str, np.ndarray]]


def plan_epoch(
    lengths: dict[str, np.ndarray],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    sampling: str = "proportional",
    temperature: float = 2.0,
    bucket: int = 50,
    epoch_sizes: dict[str, int] | None = None,
    groups: dict[str, np.ndarray] | None = None,
) -> Plan:
    """Lines 1 and 2 of Algorithm 1: the batches (task, rows) of one epoch, in the order they are trained on.

    `lengths` holds each task's word pieces an example. Proportional sampling shows every example once. Under `sqrt` and
    `temperature` a task gets batches in proportion to size ** (1/2) or size ** (1/temperature), as many in all; small
    tasks then come round more than once an epoch. `bucket` batches of random examples are sorted by length together, so
    that a batch's examples are alike in length while the examples are shuffled anew each epoch. A task may have more
    examples than are `epoch_sizes`: an epoch then shows as many of them, others each time. Of a task in `groups` a batch holds
    whole groups, as many as fill it on average, and an epoch shows all. The plan is a function of (seed, epoch) alone: a
    resumed run sees the same batches.
    """
    random = np.random.default_rng([seed, epoch])
    members = {task: _members(found) for task, found in (groups or {}).items()}
    lengths = lengths | {
        task: np.array([lengths[task][rows].max() for rows in found])
        for task, found in members.items()
    }
    size_of = {
        task: max(1, round(batch_size * len(found) / len(groups[task])))
        for task, found in members.items()
    }
    totals = {
        task: len(sizes) if task in members else (epoch_sizes or {}).get(task, len(sizes))
        for task, sizes in lengths.items()
    }
    counts = {task: -(-total // size_of.get(task, batch_size)) for task, total in totals.items()}
    if sampling != "proportional":
        power = 0.5 if sampling == "sqrt" else 1 / temperature
        weights = {task: total**power for task, total in totals.items()}
        share = sum(counts.values()) / sum(weights.values())
        counts = {task: max(1, round(share * weight)) for task, weight in weights.items()}
    plan: Plan = []
    for task, sizes in lengths.items():
        batches = _batches(sizes, size_of.get(task, batch_size), bucket, random)
        drawn = [next(batches) for _ in range(counts[task])]
        if task in members:
            drawn = [np.concatenate([members[task][group] for group in found]) for found in drawn]
        plan += [(task, rows) for rows in drawn]
    return [plan[place] for place in random.permutation(len(plan))]


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """The rows of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _batches(
    lengths: np.ndarray, batch_size: int, bucket: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    while True:
        yield from one_pass(lengths, batch_size, bucket, random)


def one_pass(
    lengths: np.ndarray, batch_size: int, bucket: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Every row once in batches of like length, in random order: `bucket` batches of random rows are sorted together."""
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), bucket * batch_size):
        rows = order[start : start + bucket * batch_size]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    return [batches[place] for place in random.permutation(len(batches))]


def by_length(lengths: np.ndarray, pieces: int, most: int = 512) -> Iterator[np.ndarray]:
    """Every row once, alike in length, in batches of at most `pieces` padded word pieces: for prediction."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, min(most, pieces // max(1, int(lengths[order[start]]))))
        yield order[start : start + size]
        start += size
