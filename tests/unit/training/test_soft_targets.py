"""Teachers: Eq. 3, the choice of candidates, and soft targets bound to their examples."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_training import random_examples

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.training import soft_targets
from mtkd.training.predict import probabilities
from mtkd.training.soft_targets import (
    CONFIDENCE_COLUMNS,
    Fold,
    SoftTargets,
    average_members,
    chunks,
    confidence_table,
    one_hot,
    read_soft_targets,
    select_candidates,
    write_soft_targets,
)

RTE, MNLI, STSB = tasks.get("rte"), tasks.get("mnli"), tasks.get("stsb")
NAMES = ["uncased-0.1", "cased-0.2", "cased-0.3"]


def test_eq_3_by_hand():
    members = [
        np.array([[0.9, 0.1], [0.5, 0.5]]),
        np.array([[0.6, 0.4], [0.25, 0.75]]),
        np.array([[0.3, 0.7], [0.0, 1.0]]),
    ]
    found = average_members(members)
    assert found == pytest.approx(np.array([[0.6, 0.4], [0.25, 0.75]]))
    assert found.dtype == np.float32


def dev_scores(**candidates: list[tuple]) -> pd.DataFrame:
    """Rows of (task, split, metric, value) for each candidate."""
    rows = [(name, *row) for name, scores in candidates.items() for row in scores]
    return pd.DataFrame(rows, columns=["candidate", "task", "split", "metric", "value"])


def test_the_best_by_the_mean_of_mnli_and_rte_are_kept():
    values = {"a": (80, 60), "b": (82, 70), "c": (84, 64), "d": (70, 79)}
    scores = dev_scores(
        **{
            name: [
                ("mnli", "matched", "accuracy", mnli),
                ("rte", "validation", "accuracy", rte),
                ("cola", "validation", "matthews", 99 if name == "a" else 0),
            ]
            for name, (mnli, rte) in values.items()
        }
    )
    table = select_candidates(scores, ["mnli", "rte"], 3)
    assert table.candidate.tolist() == ["b", "d", "c", "a"]
    assert table["mean"].tolist() == [76, 74.5, 74, 70]
    assert table.kept.tolist() == [True, True, True, False]
    assert list(table.columns) == ["candidate", "mnli", "rte", "mean", "kept"]


def test_a_task_counts_once_whatever_its_metrics_and_splits():
    values = {"a": (80, 90, 60, 62), "b": (84, 84, 60, 64)}
    scores = dev_scores(
        **{
            name: [
                ("mnli", "matched", "accuracy", matched),
                ("mnli", "mismatched", "accuracy", mismatched),
                ("qqp", "validation", "accuracy", accuracy),
                ("qqp", "validation", "f1", f1),
            ]
            for name, (matched, mismatched, accuracy, f1) in values.items()
        }
    )
    table = select_candidates(scores, ["mnli", "qqp"], 1).set_index("candidate")
    assert table["mnli"].to_dict() == {"a": 85, "b": 84}
    assert table["mean"].to_dict() == {"a": 73, "b": 73} and table.kept.tolist() == [True, False]


@pytest.mark.parametrize("reverse", [False, True])
def test_ties_keep_the_order_of_the_candidates(reverse):
    order = sorted([f"c{number:02}" for number in range(40)], reverse=reverse)
    best = order[7::9]
    scores = {name: [("rte", "v", "accuracy", 6 + (name in best))] for name in order}
    table = select_candidates(dev_scores(**scores), ["rte"], 2)
    assert table.candidate.tolist() == [*best, *(name for name in order if name not in best)]
    assert table.candidate[table.kept].tolist() == best[:2]


def test_labels_as_soft_targets():
    assert one_hot(RTE, np.array([1, 0])).tolist() == [[0, 1], [1, 0]]
    assert one_hot(RTE, np.array([1])).dtype == np.float32
    assert one_hot(tasks.get("stsb"), np.array([2.5, 4.0])).tolist() == [[2.5], [4.0]]


def targets(task=RTE, count: int = 4, idx=None) -> SoftTargets:
    logits = np.random.default_rng(0).normal(size=(3, count, task.num_outputs)).astype("float32")
    return SoftTargets(task, np.arange(count) if idx is None else np.array(idx), logits, NAMES, "f")


def of(idx: list[int], fingerprint: str = "f", task=RTE):
    return random_examples(task, len(idx), idx, fingerprint)


@pytest.mark.parametrize("task", [RTE, MNLI, STSB], ids=lambda task: task.name)
def test_probabilities_and_logits_follow_from_the_members_logits(task):
    found = targets(task)
    each = [probabilities(task, logits) for logits in found.member_logits]
    assert np.array_equal(found.member_probabilities, np.stack(each))
    mean = np.mean(each, axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(found.probabilities, mean)
    assert np.array_equal(found.logits, np.mean(list(found.member_logits), axis=0))
    assert found.probabilities.dtype == found.logits.dtype == np.float32
    if not task.regression:
        assert found.probabilities != pytest.approx(probabilities(task, found.logits), abs=1e-3)


def test_the_ensemble_of_the_best_members():
    best = targets().first(2)
    assert best.names == NAMES[:2]
    assert np.array_equal(best.logits, targets().member_logits[:2].mean(axis=0))
    with pytest.raises(UserError, match=r"RTE: soft targets of 4 members are needed, .* are 3"):
        targets().first(4)


@pytest.mark.parametrize("task", [RTE, MNLI, STSB], ids=lambda task: task.name)
def test_parts_written_one_after_another_are_read_as_one(task, tmp_path, monkeypatch):
    monkeypatch.setattr(soft_targets, "CHUNK", 3)
    assert [list(rows) for rows in chunks(7)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert chunks(3) == [range(3)]
    whole, path = targets(task, count=7, idx=[9, 4, 5, 1, 0, 30, 2]), tmp_path / "soft.parquet"
    parts = (
        replace(whole, idx=whole.idx[rows], member_logits=whole.member_logits[:, rows])
        for rows in map(list, chunks(7))
    )
    write_soft_targets(path, parts)
    found = read_soft_targets(path, task)
    assert np.array_equal(found.idx, whole.idx)
    assert np.array_equal(found.member_logits, whole.member_logits)
    assert (found.names, found.fingerprint, found.task) == (NAMES, "f", task)
    frame = pd.read_parquet(path)  # as others can read it
    assert list(frame.columns) == ["idx", *(f"member:{name}" for name in NAMES)]
    assert np.array_equal(np.stack(frame["member:cased-0.2"]), whole.member_logits[1])


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_soft_targets_follow_the_order_of_the_examples(kind):
    given = targets(idx=[10, 20, 30, 40])
    values = getattr(given, kind)
    assert np.array_equal(given.aligned(of([10, 20, 30, 40]), kind), values)
    assert np.array_equal(given.aligned(of([40, 10, 30, 20]), kind), values[[3, 0, 2, 1]])


@pytest.mark.parametrize(
    "other",
    [
        of([0, 1, 2, 3], fingerprint="g"),
        of([0, 1, 2]),
        of([0, 1, 77, 3]),
        of([0, 1, 2, 3], task=tasks.get("wnli")),
    ],
)
def test_soft_targets_of_other_examples_are_refused(other):
    message = r"The soft targets are not of these examples .*\('rte', 'f', 4\)"
    with pytest.raises(UserError, match=message):
        targets().aligned(other)


def test_another_task_and_another_order_of_the_labels_are_refused(tmp_path):
    path, reordered = tmp_path / "soft.parquet", replace(RTE, labels=RTE.labels[::-1])
    write_soft_targets(path, [targets(reordered)])
    for task in (RTE, tasks.get("qnli"), MNLI):
        message = rf"of 'rte' with labels \['not_entailment', .*not of '{task.name}'"
        with pytest.raises(UserError, match=message):
            read_soft_targets(path, task)
    assert read_soft_targets(path, reordered).task == reordered


@pytest.mark.parametrize("size", [0, 6, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, size):
    path = tmp_path / "soft.parquet"
    write_soft_targets(path, [targets(count=50)])
    data = path.read_bytes()
    path.write_bytes(data[: size if isinstance(size, int) else int(size * len(data))])
    with pytest.raises(UserError, match=r"is not a readable file of soft targets .*stage again"):
        read_soft_targets(path, RTE)


def test_another_file_is_refused(tmp_path):
    pq.write_table(pa.table({"idx": [1, 2], "soft": [[0.5], [0.1]]}), tmp_path / "other.parquet")
    write_soft_targets(tmp_path / "none.parquet", [replace(targets(), member_logits=[], names=[])])
    for name in ("other.parquet", "none.parquet", "missing.parquet"):
        with pytest.raises(UserError, match="is not a readable file of soft targets"):
            read_soft_targets(tmp_path / name, RTE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(tmp_path, value):
    given = targets()
    given.member_logits[1, 2, 0] = value
    write_soft_targets(tmp_path / "soft.parquet", [given])
    with pytest.raises(UserError, match=r"the logits are not 2 finite numbers per example"):
        read_soft_targets(tmp_path / "soft.parquet", RTE)


def test_folds_cover_a_train_set_once():
    split = of(list(range(10)))
    folds = [Fold(number, 3, ("rte",), seed=1).inside(split) for number in range(3)]
    assert (np.sum(folds, axis=0) == 1).all()
    assert sorted(fold.sum() for fold in folds) == [3, 3, 4]
    assert not Fold(0, 3, ("mnli",), seed=1).inside(split).any()


def test_confidence_by_hand():
    outputs = np.array([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]])
    table = confidence_table(RTE, "train", "teacher", outputs, np.array([0, 1, 1]))
    assert list(table.columns) == CONFIDENCE_COLUMNS
    assert table.entropy.tolist() == pytest.approx([np.log(2), 0.0, 0.5004024], abs=1e-6)
    assert table.confidence.tolist() == [0.5, 1.0, 0.8]
    assert table.correct.tolist() == [True, False, True]
    assert table[["task", "split", "source"]].drop_duplicates().values.tolist() == [
        ["rte", "train", "teacher"]
    ]


RANKED = tasks.as_ranking(tasks.get("qnli"))


def test_a_ranking_s_soft_targets_are_the_mean_of_softmaxes_over_candidates(tmp_path):
    found = targets(RANKED, 5, idx=[8, 8, 3, 3, 3])
    expected = np.zeros((5, 1))
    for logits in found.member_logits.astype(float):
        for rows in ([0, 1], [2, 3, 4]):
            expected[rows] += np.exp(logits[rows]) / np.exp(logits[rows]).sum() / 3
    assert found.probabilities == pytest.approx(expected, abs=1e-6)
    write_soft_targets(tmp_path / "soft.parquet", [found])
    read = read_soft_targets(tmp_path / "soft.parquet", RANKED)
    other = of([3, 3, 3, 8, 8], task=RANKED)  # another order of the questions
    assert np.array_equal(read.aligned(other), found.probabilities[[2, 3, 4, 0, 1]])
    with pytest.raises(UserError, match="not of these examples"):
        read.aligned(of([3, 3, 8, 8, 8], task=RANKED))


def test_a_fold_has_whole_groups():
    split, groups = of(range(40)), np.random.default_rng(0).integers(0, 9, 40) * 7
    folds = [Fold(number, 3, ("rte",), seed=1).inside(split, groups) for number in range(3)]
    assert np.sum(folds, axis=0).tolist() == [1] * 40
    assert all(
        len({tuple(np.array(folds)[:, row]) for row in np.flatnonzero(groups == one)}) == 1
        for one in groups
    )
    assert all(1 <= len(np.unique(groups[fold])) <= 3 for fold in folds)
    alone = Fold(1, 3, ("rte",), seed=1)
    assert np.array_equal(alone.inside(split, np.arange(40)), alone.inside(split))
