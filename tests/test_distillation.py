"""Teachers: Eq. 3, the choice of the candidates, and soft targets that belong to their examples alone."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import examples

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.stages import common as stages
from mtkd.training import soft_targets as distillation
from mtkd.training.predict import probabilities
from mtkd.training.soft_targets import SoftTargets, certainty, ensemble, read_soft_targets, select

RTE, MNLI, STSB = tasks.get("rte"), tasks.get("mnli"), tasks.get("stsb")


def test_eq_3_by_hand():
    members = [
        np.array([[0.9, 0.1], [0.5, 0.5]]),
        np.array([[0.6, 0.4], [0.25, 0.75]]),
        np.array([[0.3, 0.7], [0.0, 1.0]]),
    ]
    found = ensemble(members)
    assert found == pytest.approx(np.array([[0.6, 0.4], [0.25, 0.75]]))
    assert found.dtype == np.float32
    assert found.sum(axis=1) == pytest.approx([1, 1])


def test_eq_3_averages_probabilities_and_not_logits():
    logits = [np.array([[4.0, 0.0]], "float32"), np.array([[0.0, 0.0]], "float32")]
    found = ensemble([probabilities(RTE, member) for member in logits])
    assert found[0, 0] == pytest.approx((1 / (1 + np.exp(-4)) + 0.5) / 2)
    assert found[0, 0] != pytest.approx(1 / (1 + np.exp(-2)), abs=0.05)


def test_scores_of_a_regression_are_averaged_as_they_are():
    members = [np.array([[1.0], [4.5]], "float32"), np.array([[2.0], [5.5]], "float32")]
    assert ensemble([probabilities(STSB, member) for member in members]).tolist() == [[1.5], [5.0]]


def scores(*found: tuple) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["candidate", "task", "split", "metric", "value"])


def test_the_best_by_the_mean_of_mnli_and_rte_are_kept():
    table = scores(
        *[
            row
            for name, mnli, rte in [("a", 80, 60), ("b", 82, 70), ("c", 84, 64), ("d", 70, 79)]
            for row in [
                (name, "mnli", "validation_matched", "accuracy", mnli),
                (name, "rte", "validation", "accuracy", rte),
                (name, "cola", "validation", "matthews", 99 if name == "a" else 0),
            ]
        ]
    )
    chosen = select(table, ["mnli", "rte"], 3)
    assert chosen.candidate.tolist() == ["b", "d", "c", "a"]
    assert chosen["mean"].tolist() == [76, 74.5, 74, 70]
    assert chosen.kept.tolist() == [True, True, True, False]
    assert list(chosen.columns) == ["candidate", "mnli", "rte", "mean", "kept"]


def test_a_task_counts_once_whatever_its_metrics_and_splits():
    found = [("a", 80, 90, 60), ("b", 84, 84, 62)]
    table = scores(
        *[
            (name, task, split, "accuracy", value)
            for name, matched, mismatched, rte in found
            for task, split, value in (
                ("mnli", "m", matched),
                ("mnli", "mm", mismatched),
                ("rte", "v", rte),
            )
        ]
    )
    chosen = select(table, ["mnli", "rte"], 1).set_index("candidate")
    assert chosen["mnli"].to_dict() == {"a": 85, "b": 84}
    assert chosen["mean"].to_dict() == {
        "a": 72.5,
        "b": 73,
    }  # rows counted one by one would put a before b: 76.67
    assert chosen.kept.to_dict() == {"a": False, "b": True}
    both = scores(
        *[
            (name, "qqp", "v", metric, value)
            for name, metric, value in [
                ("a", "accuracy", 80),
                ("a", "f1", 60),
                ("b", "accuracy", 75),
                ("b", "f1", 64),
            ]
        ]
    )
    assert select(both, ["qqp"], 1)["mean"].tolist() == [70, 69.5]


@pytest.mark.parametrize("turned", [False, True])
def test_ties_keep_the_order_of_the_candidates(turned):
    order = sorted([f"c{number:02}" for number in range(40)], reverse=turned)
    best = order[7::9]
    table = scores(
        *[
            (name, task, "v", "accuracy", value + (name in best))
            for name in order
            for task, value in [("mnli", 8), ("rte", 6)]
        ]
    )
    chosen = select(table, ["mnli", "rte"], 2)
    assert chosen.candidate.tolist() == [*best, *(name for name in order if name not in best)]
    assert chosen.candidate[chosen.kept].tolist() == best[:2]


def targets(
    task=RTE, count: int = 4, fingerprint: str = "made", idx=None, seed: int = 0
) -> SoftTargets:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(3, count, task.num_outputs)).astype("float32")
    members = np.stack([probabilities(task, member) for member in logits])
    return SoftTargets(
        task,
        np.arange(count) if idx is None else np.array(idx),
        ensemble(list(members)),
        members,
        logits.mean(axis=0),
        ["uncased-0.1", "cased-0.2", "cased-0.3"],
        fingerprint,
    )


@pytest.mark.parametrize("task", [RTE, MNLI, STSB], ids=lambda task: task.name)
def test_written_and_read_is_the_same(task, tmp_path):
    written = targets(task, count=7, idx=[9, 4, 5, 1, 0, 30, 2])
    written.write(tmp_path / "soft.parquet")
    found = read_soft_targets(tmp_path / "soft.parquet", task, members=True)
    for name in ("idx", "soft", "members", "logits"):
        assert np.array_equal(getattr(found, name), getattr(written, name)), name
        assert getattr(found, name).shape == getattr(written, name).shape
    assert (found.names, found.fingerprint, found.task) == (written.names, "made", task)


def test_parts_written_one_after_another_are_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "SLAB", 3)
    whole, parts = targets(count=7), distillation.slabs(7)
    assert [list(part) for part in parts] == [[0, 1, 2], [3, 4, 5], [6]] and distillation.slabs(
        3
    ) == [range(3)]
    cut = (
        dataclasses.replace(
            whole,
            idx=whole.idx[part],
            soft=whole.soft[part],
            members=whole.members[:, part],
            logits=whole.logits[part],
        )
        for part in map(list, parts)
    )
    distillation.write_soft_targets(tmp_path / "soft.parquet", iter(cut))
    found = read_soft_targets(tmp_path / "soft.parquet", RTE, members=True)
    for name in ("idx", "soft", "members", "logits"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    assert read_soft_targets(tmp_path / "soft.parquet", RTE).members.shape == (0, 7, 2), (
        "not read unless asked for"
    )


def test_certainty_is_told_of_examples_spread_evenly_over_the_parts():
    whole, sure = targets(count=7), []
    rows = [slice(0, 3), slice(3, 6), slice(6, 7)]
    parts = [
        (
            dataclasses.replace(whole, soft=whole.soft[part], members=whole.members[:, part]),
            np.zeros(7)[part],
            7,
        )
        for part in rows
    ]
    assert len(list(stages._told(iter(parts), sure, most=4))) == 3
    teacher = pd.concat(
        [part for part in sure if part.source.iloc[:1].eq("teacher").all() and len(part)]
    )
    assert np.allclose(teacher.confidence, whole.soft[[0, 2, 4, 6]].max(axis=1))


def test_a_file_of_soft_targets_has_a_row_an_example_that_others_can_read(tmp_path):
    written = targets(count=5)
    written.write(tmp_path / "soft.parquet")
    frame = pd.read_parquet(tmp_path / "soft.parquet")
    assert list(frame.columns) == [
        "idx",
        "soft",
        "logits",
        "member:uncased-0.1",
        "member:cased-0.2",
        "member:cased-0.3",
    ]
    assert len(frame) == 5
    assert np.stack(frame["member:cased-0.2"]) == pytest.approx(written.members[1])


def of(idx: list[int], fingerprint: str = "made"):
    return examples(RTE, [[2, 5, 3]] * len(idx), [0] * len(idx), idx=idx, fingerprint=fingerprint)


def test_soft_targets_follow_the_order_of_the_examples():
    given = targets(idx=[10, 20, 30, 40])
    assert np.array_equal(given.for_examples(of([10, 20, 30, 40])), given.soft)
    assert np.array_equal(given.for_examples(of([40, 10, 30, 20])), given.soft[[3, 0, 2, 1]])


def test_soft_targets_of_other_examples_are_refused():
    with pytest.raises(
        UserError,
        match=r"RTE: the soft targets belong to other examples \(fingerprint made, 4 examples\) than these "
        r"\(other, 4\).*teachers stage",
    ):
        targets().for_examples(of([0, 1, 2, 3], fingerprint="other"))
    with pytest.raises(
        UserError, match=r"belong to other examples .*4 examples\) than these \(made, 3\)"
    ):
        targets().for_examples(of([0, 1, 2]))
    with pytest.raises(UserError, match="no soft target for the example with idx 77"):
        targets().for_examples(of([0, 1, 77, 3]))


def test_soft_targets_of_another_task_are_refused(tmp_path):
    targets().write(tmp_path / "soft.parquet")
    with pytest.raises(UserError, match="holds soft targets of 'rte', not of 'qnli'"):
        read_soft_targets(tmp_path / "soft.parquet", tasks.get("qnli"))


def test_another_order_of_the_labels_is_refused(tmp_path):
    turned = dataclasses.replace(RTE, labels=RTE.labels[::-1])
    targets(turned).write(tmp_path / "soft.parquet")
    with pytest.raises(
        UserError,
        match=r"labels are \['not_entailment', 'entailment'\], this task's are \['entailment',",
    ):
        read_soft_targets(tmp_path / "soft.parquet", RTE)
    assert read_soft_targets(tmp_path / "soft.parquet", turned).task == turned


@pytest.mark.parametrize("keep", [0, 6, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "soft.parquet"
    targets(count=50).write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(
        UserError, match=r"is not a readable file of soft targets .*run the teachers stage again"
    ):
        read_soft_targets(path, RTE)


def test_a_file_that_is_no_soft_targets_is_refused(tmp_path):
    pq.write_table(
        pa.table({"idx": [1, 2], "soft": [[0.5, 0.5], [0.1, 0.9]]}), tmp_path / "other.parquet"
    )
    for name in ("other.parquet", "none.parquet"):
        with pytest.raises(UserError, match="is not a readable file of soft targets"):
            read_soft_targets(tmp_path / name, RTE)


@pytest.mark.parametrize("row", [[0.5, 0.6], [0.2, 0.2], [1.5, -0.5], [np.nan, 0.5], [np.inf, 0.0]])
def test_rows_that_are_no_distribution_are_refused(tmp_path, row):
    good = targets()
    soft = good.soft.copy()
    soft[2] = row
    dataclasses.replace(good, soft=soft).write(tmp_path / "soft.parquet")
    with pytest.raises(
        UserError, match=r"a row of the soft targets is no probability distribution"
    ):
        read_soft_targets(tmp_path / "soft.parquet", RTE)


def test_scores_of_a_regression_need_not_sum_to_one(tmp_path):
    given = targets(STSB)
    dataclasses.replace(given, soft=np.array([[4.0], [0.5], [-0.1], [5.2]], "float32")).write(
        tmp_path / "soft.parquet"
    )
    assert read_soft_targets(tmp_path / "soft.parquet", STSB).soft[0, 0] == 4.0


def test_certainty_by_hand():
    found = certainty(
        RTE, "train", "teacher", np.array([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]]), np.array([0, 1, 1])
    )
    assert found.entropy.tolist() == pytest.approx([np.log(2), 0.0, 0.5004024], abs=1e-6)
    assert found.confidence.tolist() == [0.5, 1.0, 0.8]
    assert found.correct.tolist() == [True, False, True]
    assert (
        (found.task == "rte").all()
        and (found.split == "train").all()
        and (found.source == "teacher").all()
    )
