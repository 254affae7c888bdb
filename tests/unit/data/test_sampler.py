"""The plan of an epoch: what every one keeps, and shares of the batches by hand."""

from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd import tasks
from mtkd.config.training import Train
from mtkd.data.sampler import count_losses, length_batches, plan_epoch, share

SIZES = st.dictionaries(
    st.sampled_from(list(tasks.GLUE)), st.integers(1, 120), min_size=1, max_size=5
)
SEEDS = st.integers(0, 2**31 - 1)
BATCHES, BUCKETS = st.integers(1, 40), st.integers(1, 60)
SAMPLING = st.sampled_from(["proportional", "sqrt", "temperature"])
many = settings(max_examples=50, deadline=None)


def train_sets(sizes: dict[str, int], seed: int = 0) -> dict:
    """What a plan needs to know of training sets of these sizes."""
    random = np.random.default_rng(seed)
    return {
        task: SimpleNamespace(lengths=random.integers(3, 61, size), epoch_size=size, group_ids=None)
        for task, size in sizes.items()
    }


def plan_of(sizes, seed=0, epoch=0, **train) -> list:
    sets = train_sets(sizes) if isinstance(next(iter(sizes.values())), int) else sizes
    return plan_epoch(sets, Train(**train), seed=seed, epoch=epoch)


def rows_of(plan) -> dict[str, list[int]]:
    """Rows of each task in the order in which they are trained on."""
    rows: dict[str, list[int]] = {}
    for task, batch in plan:
        rows.setdefault(task, []).extend(batch.tolist())
    return rows


@many
@given(SIZES, BATCHES, BUCKETS, SEEDS, st.integers(0, 9))
def test_every_example_once_an_epoch_in_batches_of_one_task(sizes, batch_size, bucket, seed, epoch):
    plan = plan_of(sizes, seed, epoch, batch_size=batch_size, length_bucket=bucket)
    assert {task: sorted(rows) for task, rows in rows_of(plan).items()} == {
        task: list(range(size)) for task, size in sizes.items()
    }
    for task, size in sizes.items():
        counts = sorted((len(batch) for name, batch in plan if name == task), reverse=True)
        full, rest = divmod(size, batch_size)
        assert counts == [batch_size] * full + [rest] * bool(rest)


@many
@given(SIZES, BATCHES, BUCKETS, SEEDS, SAMPLING)
def test_no_batch_is_empty_or_too_large_and_no_example_is_favoured(
    sizes, batch_size, bucket, seed, sampling
):
    train = {"batch_size": batch_size, "length_bucket": bucket, "sampling": sampling}
    plan = plan_of(sizes, seed, **train, sampling_temperature=3.0)
    assert {task for task, _ in plan} == set(sizes)
    for task, batch in plan:
        assert 1 <= len(batch) <= batch_size and len(set(batch.tolist())) == len(batch)
        assert batch.min() >= 0 and batch.max() < sizes[task]
    for task, rows in rows_of(plan).items():
        times = Counter(rows)
        often = [times[row] for row in range(sizes[task])]
        assert max(often) - min(often) <= 1, "an example comes again before all the others came"


@many
@given(SIZES, BATCHES, SEEDS, st.integers(0, 9), SAMPLING)
def test_seed_and_epoch_alone_make_the_plan(sizes, batch_size, seed, epoch, sampling):
    one, two = (
        plan_of(sizes, seed, epoch, batch_size=batch_size, sampling=sampling) for _ in range(2)
    )
    assert repr(one) == repr(two)


@many
@given(SIZES, BATCHES, SEEDS)
def test_sampling_keeps_the_number_of_batches_about(sizes, batch_size, seed):
    counts = [
        len(plan_of(sizes, seed, batch_size=batch_size, sampling=sampling))
        for sampling in ("proportional", "sqrt", "temperature")
    ]
    assert max(abs(count - counts[0]) for count in counts) <= len(sizes)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_shuffles_batches_and_samples_anew(other):
    sets = train_sets({"rte": 800, "mnli": 1600})
    first, second = (plan_of(sets, batch_size=8, **changes) for changes in ({}, other))
    assert [task for task, _ in first] != [task for task, _ in second]
    one, two = (
        {(task, *sorted(batch.tolist())) for task, batch in plan} for plan in (first, second)
    )
    assert len(one & two) < 3, "the same examples are together in both epochs"


def test_tasks_are_merged_and_not_one_after_the_other():
    order = [task for task, _ in plan_of({"rte": 300, "mnli": 300}, batch_size=8)]
    assert sum(one != two for one, two in pairwise(order)) > len(order) / 4


@pytest.mark.parametrize(
    ("sampling", "temperature", "expected"),
    [
        ("proportional", 2.0, {"mnli": 40, "rte": 10}),
        ("sqrt", 9.0, {"mnli": 33, "rte": 17}),  # sqrt(400) : sqrt(100) = 2 : 1 of 50
        ("temperature", 2.0, {"mnli": 33, "rte": 17}),
        ("temperature", 4.0, {"mnli": 29, "rte": 21}),  # 4.4721 : 3.1623 of 50 = 29.29 : 20.71
        ("temperature", 1.0, {"mnli": 40, "rte": 10}),
    ],
)
def test_shares_of_the_batches_by_hand(sampling, temperature, expected):
    train = {"batch_size": 10, "sampling": sampling, "sampling_temperature": temperature}
    plan = plan_of({"mnli": 400, "rte": 100}, **train)
    assert Counter(task for task, _ in plan) == expected


def test_an_epoch_has_as_many_examples_as_its_size_and_others_each_time():
    sets = train_sets({"rte": 50, "mrpc": 20})
    sets["rte"].epoch_size = 20
    plans = [plan_of(sets, epoch=epoch, batch_size=5) for epoch in (0, 1)]
    one, two = (rows_of(plan)["rte"] for plan in plans)
    assert len(one) == len(set(one)) == len(two) == len(set(two)) == 20
    assert set(one) != set(two) and [len(plan) for plan in plans] == [8, 8]


def test_batches_of_a_ranking_hold_whole_groups_and_an_epoch_all():
    sets = train_sets({"qnli": 60, "rte": 20})
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(15), 4))
    sets["qnli"].group_ids = groups
    plan = plan_of(sets, batch_size=8)
    assert sorted(rows_of(plan)["qnli"]) == list(range(60))
    batches = [batch for task, batch in plan if task == "qnli"]
    assert sorted(len(batch) for batch in batches) == [4] + [8] * 7, "two groups of four fill one"
    for batch in batches:
        assert all(np.isin(np.flatnonzero(groups == group), batch).all() for group in groups[batch])


@pytest.mark.parametrize("seed", range(4))
def test_bucketed_batches_are_padded_far_less_than_random_ones(seed):
    sets = train_sets({"mnli": 1500, "rte": 300}, seed=seed)

    def padding(bucket: int) -> int:
        plan = plan_of(sets, seed, batch_size=16, length_bucket=bucket)
        batches = [sets[task].lengths[batch] for task, batch in plan]
        return sum(int(lengths.max() * len(lengths) - lengths.sum()) for lengths in batches)

    assert padding(50) < 0.25 * padding(1)


def test_batches_do_not_come_by_length():
    sets = train_sets({"mnli": 2000})
    plan = plan_of(sets, batch_size=10, length_bucket=50)
    means = [sets["mnli"].lengths[batch].mean() for _, batch in plan]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25


@many
@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 1000), st.integers(1, 30))
def test_length_batches_have_every_row_once_within_the_bounds(lengths, pieces, most):
    lengths = np.array(lengths, dtype=np.int64)
    batches = list(length_batches(lengths, pieces=pieces, most=most))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= pieces


def test_length_batches_pad_little():
    lengths = train_sets({"mnli": 1000})["mnli"].lengths
    padded = sum(int(lengths[rows].max()) * len(rows) for rows in length_batches(lengths, 512))
    assert padded < 1.1 * lengths.sum()


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]])
def test_processes_share_a_batch_by_whole_groups(groups):
    groups = groups and np.array(groups)
    examples = SimpleNamespace(group_ids=groups)
    rows = np.array([7, 8, 9, 3, 4, 0, 1, 2]) if groups is not None else np.arange(5)
    parts = [share(examples, rows, number, 2) for number in (0, 1)]
    assert sorted(np.concatenate(parts)) == sorted(rows)
    counts = [count_losses(examples, part) for part in parts]
    assert sum(counts) == count_losses(examples, rows) == (5 if groups is None else 3)
    assert counts == ([3, 2] if groups is None else [2, 1])
    if groups is not None:
        assert not {*groups[parts[0]]} & {*groups[parts[1]]}
        assert share(examples, rows, 0, 1).tolist() == rows.tolist()
