"""The mini-batches of an epoch: one task each, merged and shuffled (MT-DNN_KD, Algorithm 1)."""

from collections.abc import Iterator

import numpy as np

from mtkd.config.training import Train
from mtkd.data.dataset import Examples


def plan_epoch(
    train_sets: dict[str, Examples], settings: Train, *, seed: int, epoch: int
) -> list[tuple[str, np.ndarray]]:
    """Return the batches of an epoch in order, as (task, rows) (Algorithm 1, lines 1 and 2).

    With `settings.sampling: proportional`, every example appears once. With `sqrt` and
    `temperature`, a task has batches in proportion to size ** (1/2) or size ** (1/temperature),
    and all tasks together as many as before: small tasks then repeat examples within an epoch.
    Of a task with more examples than its `epoch_size`, an epoch has others each time. Of a task
    with `group_ids`, batches hold whole groups, as many as fill one on average, and an epoch has
    all groups. The plan depends on the arguments alone: a resumed run sees the same batches.
    """
    random = np.random.default_rng([seed, epoch])
    units, totals, sizes, groups = {}, {}, {}, {}
    for task, examples in train_sets.items():
        units[task], totals[task] = examples.lengths, examples.epoch_size
        sizes[task] = settings.batch_size
        if examples.group_ids is not None:
            groups[task] = _rows_of_groups(examples.group_ids)
            units[task] = np.array([examples.lengths[rows].max() for rows in groups[task]])
            totals[task] = len(groups[task])
            sizes[task] = max(1, round(sizes[task] * totals[task] / len(examples.lengths)))
    counts = {task: -(-total // sizes[task]) for task, total in totals.items()}
    if settings.sampling != "proportional":
        power = 0.5 if settings.sampling == "sqrt" else 1 / settings.sampling_temperature
        weights = {task: total**power for task, total in totals.items()}
        share = sum(counts.values()) / sum(weights.values())
        counts = {task: max(1, round(share * weight)) for task, weight in weights.items()}
    plan = []
    for task, lengths in units.items():
        batches = _endless(lengths, sizes[task], settings.length_bucket, random)
        for batch in [next(batches) for _ in range(counts[task])]:
            if task in groups:
                batch = np.concatenate([groups[task][group] for group in batch])
            plan.append((task, batch))
    return [plan[position] for position in random.permutation(len(plan))]


def share(examples: Examples, rows: np.ndarray, number: int, of: int) -> np.ndarray:
    """Return what process `number` of several computes of a mini-batch: rows, or whole groups."""
    if examples.group_ids is None:
        return rows[number::of]
    groups = examples.group_ids[rows]
    return rows[np.isin(groups, np.unique(groups)[number::of])]


def count_losses(examples: Examples, rows: np.ndarray) -> int:
    """Return over how many the loss of these rows is a mean: over the rows, or their groups."""
    return len(rows) if examples.group_ids is None else len(np.unique(examples.group_ids[rows]))


def _rows_of_groups(group_ids: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group."""
    order = np.argsort(group_ids, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group_ids[order])) + 1)


def _endless(
    lengths: np.ndarray, batch_size: int, bucket: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    while True:
        yield from one_pass(lengths, batch_size, bucket, random)


def one_pass(
    lengths: np.ndarray, batch_size: int, bucket: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Return every row once, in batches of similar lengths and in random order.

    Rows are shuffled, and every `bucket` batches of them are sorted by length together.
    """
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), bucket * batch_size):
        rows = order[start : start + bucket * batch_size]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    return [batches[position] for position in random.permutation(len(batches))]


def length_batches(lengths: np.ndarray, pieces: int, most: int = 512) -> Iterator[np.ndarray]:
    """Yield every row once, longest first, in batches of at most `pieces` padded word pieces."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, min(most, pieces // max(1, int(lengths[order[start]]))))
        yield order[start : start + size]
        start += size
