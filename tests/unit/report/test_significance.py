"""Comparisons against explicit resamples, and on simulated studies whose truth is known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.report import significance
from mtkd.report.significance import PAIRS, Compared, compare
from mtkd.tasks import Task
from mtkd.training import metrics

METRICS = (accuracy_score, f1_score)


@pytest.fixture
def few(monkeypatch):
    """Fewer draws."""
    monkeypatch.setattr(significance, "DRAWS", 400)


def predictions(
    task: Task, right: float, seed: int, examples: int = 120, truth: int = 0, spread: float = 0.0
) -> pd.DataFrame:
    """Predictions of a system that gets a share of the examples right.

    Half of what decides is the example's, the same for all systems of a `truth`, so that systems
    err alike. `spread` is the deviation of the share over seeds.
    """
    parts = []
    for place, split in enumerate(task.dev):
        shared = np.random.default_rng([truth, place, 1])
        own = np.random.default_rng([seed, place, round(1e6 * right), truth, 2])
        hard, share = shared.normal(size=examples), right + spread * own.normal()
        mixed = hard + own.normal(size=examples)
        if task.regression:
            labels = shared.uniform(0, 5, examples)
            outputs = (labels + (1 - share) * 4 * mixed)[:, None]
        else:
            labels = shared.integers(0, task.num_outputs, examples)
            passed = mixed / math.sqrt(2) < stats.norm.ppf(np.clip(share, 0.001, 0.999))
            wrong = (labels + own.integers(1, task.num_outputs, examples)) % task.num_outputs
            outputs = np.eye(task.num_outputs)[np.where(passed, labels, wrong)]
        frame = {"task": task.name, "split": split, "idx": np.arange(examples), "label": labels}
        parts.append(pd.DataFrame(frame | {"outputs": list(outputs.astype("float32"))}))
    return pd.concat(parts, ignore_index=True)


def systems(rights: dict[str, float], seeds: int = 3, names=("rte",), **options) -> list[tuple]:
    """(system, seed, predictions) by the share that systems get right; an ensemble has no seed."""
    parts = []
    for system, right in rights.items():
        for seed in [math.nan] if system.endswith("ensemble") else range(seeds):
            key = 99 if math.isnan(seed) else seed
            frames = [predictions(tasks.get(name), right, key, **options) for name in names]
            parts.append((system, seed, pd.concat(frames, ignore_index=True)))
    return parts


def compared(parts, pairs=(("a", "b"),), names=("rte",)) -> Compared:
    return compare([tasks.get(name) for name in names], parts, pairs)


def classes(frame: pd.DataFrame) -> np.ndarray:
    return np.stack(frame["outputs"]).argmax(axis=1)


@pytest.mark.parametrize("name", ["rte", "cola", "mrpc", "stsb", "mnli"])
def test_the_difference_is_that_of_the_scores(name, few):
    task, parts = tasks.get(name), systems({"a": 0.8, "b": 0.6}, names=(name,))
    frame, means = compared(parts, names=(name,)).of("a", "b"), {"a": [], "b": []}
    for system, _, rows in parts:
        cells = [
            list(metrics.score(task, np.stack(part.outputs), part.label.to_numpy())[0].values())
            for _, part in rows.groupby("split")
        ]
        means[system].append(np.mean(cells))
    row = frame.loc[name]
    assert row.difference == pytest.approx(np.mean(means["a"]) - np.mean(means["b"]), abs=1e-4)
    assert (row.seeds, row.examples) == (3, 120 * len(task.dev))
    assert row.low < row.difference < row.high
    assert list(frame.index) == [name, "average"] and math.isnan(frame.loc["average", "p"])
    assert frame.loc["average", "difference"] == pytest.approx(row.difference)


@pytest.mark.slow
def test_the_bootstrap_is_that_of_explicit_resamples(monkeypatch):
    """Both ends of the interval against a plain loop over seeds and examples."""
    monkeypatch.setattr(significance, "DRAWS", 4000)
    parts = systems({"a": 0.75, "b": 0.65}, names=("mrpc",), spread=0.03)
    row = compared(parts, names=("mrpc",)).of("a", "b").loc["mrpc"]
    labels = parts[0][2].label.to_numpy()
    outputs = {(system, seed): classes(frame) for system, seed, frame in parts}
    random, gaps = np.random.default_rng(5), []
    for _ in range(300):
        chosen = random.integers(120, size=120)
        scores = {
            key: 50 * sum(metric(labels[chosen], said[chosen]) for metric in METRICS)
            for key, said in outputs.items()
        }
        drawn = random.integers(3, size=3)
        gaps.append(np.mean([scores["a", seed] - scores["b", seed] for seed in drawn]))
    ends = np.percentile(gaps, [2.5, 97.5])
    assert ends == pytest.approx([row.low, row.high], abs=0.3 * np.std(gaps))


@pytest.mark.slow
def test_p_is_that_of_all_swaps(monkeypatch):
    """Against every one of the 2^9 ways to swap nine examples."""
    monkeypatch.setattr(significance, "DRAWS", 20_000)
    parts = systems({"a": 0.9, "b": 0.5}, names=("cola",), seeds=2, examples=9)
    labels = parts[0][2].label.to_numpy()
    outputs = {(system, seed): classes(frame) for system, seed, frame in parts}
    gaps = []
    for swap in itertools.product([False, True], repeat=9):
        gap = 0.0
        for seed in (0, 1):
            first = np.where(swap, outputs["b", seed], outputs["a", seed])
            second = np.where(swap, outputs["a", seed], outputs["b", seed])
            gap += matthews_corrcoef(labels, first) - matthews_corrcoef(labels, second)
        gaps.append(abs(gap))
    wanted = np.mean(np.array(gaps) >= gaps[0] - 1e-9)
    p = compared(parts, names=("cola",)).of("a", "b").loc["cola", "p"]
    assert 0.01 < wanted < 0.9 and p == pytest.approx(wanted, abs=0.015)


@pytest.mark.parametrize("name", ["rte", "stsb"])
def test_equal_systems_do_not_differ_and_others_do(name, few):
    parts = systems({"a": 0.9, "b": 0.5}, names=(name,), examples=200)
    parts += [("c", seed, frame) for system, seed, frame in parts if system == "a"]
    pairs = [("a", "c"), ("a", "b"), ("b", "a")]
    found = compared(parts, pairs, (name,))
    same, better, worse = (found.of(*pair).loc[name] for pair in pairs)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert better.p == pytest.approx(1 / 401) and better.low > 0
    turned = [-worse.difference, -worse.high, -worse.low, worse.p]
    assert turned == pytest.approx([better.difference, better.low, better.high, better.p])


def test_a_comparison_does_not_depend_on_others(few):
    names = ("rte", "mrpc")
    parts = systems({"a": 0.8, "b": 0.6}, names=names)
    first = compared(parts, names=names).frame
    pd.testing.assert_frame_equal(first, compared(parts[::-1], names=names[::-1]).frame)
    more = [*parts, *systems({"c": 0.7})]
    more = compared(more, [("c", "b"), ("a", "b")], names).frame
    pd.testing.assert_frame_equal(first, more[more.a == "a"].reset_index(drop=True))


def coverage(seeds: int, spread: float, pair: tuple[str, str]) -> float:
    """Share of simulated studies whose interval holds the difference over very many examples."""
    rights, task = {"a": 0.75, "b": 0.65, "a-ensemble": 0.75}, tasks.get("rte")
    means = []
    for system in pair:
        many = [predictions(task, rights[system], i, 4000, 1000 + i, spread) for i in range(40)]
        means.append(np.mean([(classes(frame) == frame.label).mean() for frame in many]))
    difference, held = 100 * (means[0] - means[1]), 0
    for study in range(100):
        chosen = {system: rights[system] for system in pair}
        parts = systems(chosen, seeds, truth=study, spread=spread)
        row = compared(parts, [pair]).of(*pair).loc["rte"]
        held += row.low <= difference <= row.high
    return held / 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "spread", "pair"),
    [(1, 0, ("a", "b")), (3, 0, ("a", "b")), (5, 0.02, ("a", "b")), (3, 0, ("a-ensemble", "b"))],
)
def test_intervals_hold_the_truth(seeds, spread, pair, monkeypatch):
    monkeypatch.setattr(significance, "DRAWS", 300)
    monkeypatch.setattr(significance, "_p_value", lambda *_: 1.0)
    assert coverage(seeds, spread, pair) >= 0.88


@pytest.mark.slow
def test_chance_is_seldom_significant(monkeypatch):
    monkeypatch.setattr(significance, "DRAWS", 300)
    p = [
        compared(systems({"a": 0.7, "b": 0.7000011}, truth=study)).of("a", "b").loc["rte", "p"]
        for study in range(100)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.12 and 0.3 < np.mean(p) < 0.7


def test_an_ensemble_goes_with_every_seed(few):
    parts, pair = systems({"x-ensemble": 0.9, "b": 0.6}, seeds=4), ("x-ensemble", "b")
    row = compared(parts, [pair]).of(*pair).loc["rte"]
    scores = [100 * (classes(frame) == frame.label).mean() for _, _, frame in parts]
    assert row.difference == pytest.approx(scores[0] - np.mean(scores[1:])) and row.seeds == 4
    assert row.low < row.difference < row.high and row.p < 0.05


def test_seeds_of_both_systems_and_whole_tasks_count(few):
    names = ("rte", "mnli")
    parts = [*systems({"a": 0.8}, 3, names), *systems({"b": 0.6}, 2, names)]
    system, seed, frame = parts[1]
    parts[1] = (system, seed, frame[frame.split != "validation_mismatched"])
    frame = compared(parts, names=("mnli", "rte", "qqp")).of("a", "b")
    assert dict(frame.seeds) == {"mnli": 1, "rte": 2, "average": 1}
    assert compared(parts, [("a", "c")]).of("a", "c").empty


def test_wnli_is_compared_but_not_averaged(few):
    names = ("rte", "wnli")
    frame = compared(systems({"a": 0.8, "b": 0.6}, names=names), names=names).of("a", "b")
    assert list(frame.index) == ["rte", "wnli", "average"]
    assert frame.loc["average", "difference"] == frame.loc["rte", "difference"]
    assert frame.loc["average", "examples"] == 120


def test_predictions_of_other_examples_are_an_error():
    parts = systems({"a": 0.8, "b": 0.6})
    parts[-1][2]["idx"] += 1
    with pytest.raises(UserError, match=r"predictions of b on RTE \(validation\) are of other ex"):
        compared(parts)


RIGHTS = {"mt-dnn": 0.5, "mt-dnn-kd": 0.7, "mt-dnn-ensemble": 0.9}


def test_the_share_kept(few):
    names = ("rte", "mrpc")
    found = compared(systems(RIGHTS, names=names, examples=400), PAIRS, names)
    gain, above = (
        found.of(system, "mt-dnn").loc["average", "difference"]
        for system in ("mt-dnn-kd", "mt-dnn-ensemble")
    )
    assert found.kept.share == pytest.approx(gain / above)
    assert 0.2 < found.kept.low < found.kept.share < found.kept.high < 0.9


def test_no_share_of_no_gain(few):
    assert math.isnan(compared(systems(RIGHTS | {"mt-dnn-ensemble": 0.3}), PAIRS).kept.share)
    unsure = compared(systems(RIGHTS | {"mt-dnn-ensemble": 0.52}), PAIRS)
    assert unsure.of("mt-dnn-ensemble", "mt-dnn").loc["average", "low"] < 0
    assert math.isnan(unsure.kept.low)
    kept = compared(systems({"a": 0.8, "b": 0.6})).kept  # there is no ensemble
    assert math.isnan(kept.share) and math.isnan(kept.low)
