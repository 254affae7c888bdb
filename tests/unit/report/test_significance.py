"""Comparisons against explicit resamples, and on simulated studies whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.report import significance
from mtkd.report.significance import PAIRS, Compared, Resampled, compare, estimate, holm
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
    return compare(Resampled(map(tasks.get, names), parts), pairs)


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
    assert list(frame.index) == [name, "average"] and row.p == row.p_holm
    columns = ["difference", "low", "high", "p", "p_holm"]
    assert frame.loc["average", columns].tolist() == pytest.approx(row[columns].tolist())


def differences(by_seed: list[float], spread: float = 0.0) -> pd.DataFrame:
    """Return differences by seed and 1,000 resamples of standard deviation `spread` about them."""
    noise = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    noise *= spread / noise.std(ddof=1)
    return pd.DataFrame(np.vstack([by_seed, np.add.outer(noise, by_seed)]))


def test_the_estimate_by_hand():
    seeds = estimate(differences([1.0, 2.0, 3.0]))
    half = 4.302653 / 3**0.5  # t with two degrees of freedom, standard deviation 1
    assert [seeds[key] for key in ("gain", "low", "high")] == pytest.approx(
        [2, 2 - half, 2 + half], abs=1e-5
    )
    assert seeds["p"] == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)
    for values in ([2.0], [2.0, 2.0, 2.0]):  # the examples alone: the normal distribution
        one = estimate(differences(values, spread=1.0))
        assert (one["low"], one["high"]) == pytest.approx((2 - 1.959964, 2 + 1.959964))
        assert one["p"] == pytest.approx(0.0455003) and one["seeds"] == len(values)
    # Variance 1/3 of the seeds, 2/3 of the examples: 2 * (1 / (1/3)) ** 2 = 18 degrees of freedom.
    both = estimate(differences([1.0, 2.0, 3.0], spread=(2 / 3) ** 0.5))
    assert both["high"] - 2 == pytest.approx(2.100922) and both["low"] < 0 < both["p"] - 0.05


@pytest.mark.parametrize("seeds", [1, 3])
def test_interval_and_p_agree(seeds):
    by_seed = np.array([0.3, 0.5, 1.1])[:seeds]
    start = estimate(differences(by_seed, 0.7))
    edge = estimate(differences(by_seed - start["low"], 0.7))  # moved until it ends at zero
    assert edge["low"] == pytest.approx(0, abs=1e-12) and edge["p"] == pytest.approx(0.05)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(holm([0.6, 0.7])) == [1, 1] and list(holm([0.02])) == [0.02] and not len(holm([]))


def test_p_is_corrected_over_the_tasks_of_a_pair(few):
    names = ("rte", "mrpc", "wnli")
    parts = systems({"a": 0.75, "b": 0.65, "c": 0.7}, names=names)
    frame = compared(parts, [("a", "b"), ("c", "b")], names).of("a", "b")
    assert frame["p_holm"][:-1].tolist() == pytest.approx(holm(frame["p"][:-1]))
    assert frame.loc["average", "p_holm"] == frame.loc["average", "p"]


def test_the_examples_part_is_that_of_explicit_resamples(monkeypatch):
    """Against a plain loop over resamples, with the seeds' part added."""
    monkeypatch.setattr(significance, "DRAWS", 2000)
    parts = systems({"a": 0.75, "b": 0.65}, seeds=1, names=("mrpc",))
    row = compared(parts, names=("mrpc",)).of("a", "b").loc["mrpc"]
    labels = parts[0][2].label.to_numpy()
    first, second = (classes(frame) for _, _, frame in parts)
    random, gaps = np.random.default_rng(5), []
    for _ in range(200):
        rows = random.integers(120, size=120)
        gap = [
            metric(labels[rows], first[rows]) - metric(labels[rows], second[rows])
            for metric in METRICS
        ]
        gaps.append(50 * sum(gap))
    assert row.high - row.difference == pytest.approx(1.96 * np.std(gaps), rel=0.15)


@pytest.mark.parametrize("name", ["rte", "stsb"])
def test_equal_systems_do_not_differ_and_others_do(name, few):
    parts = systems({"a": 0.9, "b": 0.5}, names=(name,), examples=200)
    parts += [("c", seed, frame) for system, seed, frame in parts if system == "a"]
    pairs = [("a", "c"), ("a", "b"), ("b", "a")]
    found = compared(parts, pairs, (name,))
    same, better, worse = (found.of(*pair).loc[name] for pair in pairs)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert better.p < 0.001 and better.low > 0
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


WEIGHTS = metrics.resamples(1000, 200, np.random.default_rng(0))


def simulate(seeds: int, deviation: float, gap: float = 0.0, name: str = "rte", studies: int = 300):
    """Return the share of simulated studies with p < .05, and of intervals that hold the truth.

    Two systems of 75 % accuracy (the first `gap` points above) see the same 1,000 examples. Half
    of the variance is the example's, an eighth what it is to one system, the rest chance. By seed,
    a system's true accuracy varies by `deviation` points.
    """
    task, labels = tasks.get(name), np.arange(1000) % 2
    random, found = np.random.default_rng([1, seeds, round(deviation), round(gap)]), []
    for _ in range(studies):
        hard, outputs = math.sqrt(0.5) * random.normal(size=1000), {}
        for system, mean in (("a", 0.75 + gap / 100), ("b", 0.75)):
            own = hard + math.sqrt(0.125) * random.normal(size=1000)
            for seed in range(seeds):
                accuracy = np.clip(mean + deviation / 100 * random.normal(), 0.01, 0.99)
                drawn = own + math.sqrt(0.375) * random.normal(size=1000)
                outputs[system, seed] = labels ^ (drawn > stats.norm.ppf(accuracy))
        split, resampled = significance._Split(name, labels, labels, outputs), Resampled([], [])
        resampled.scores = {name: significance._resampled_scores(task, [split])}
        found.append(estimate(resampled.differences("a", "b", {name: 1.0})))
    frame = pd.DataFrame(found)
    held = (frame["low"] <= gap) & (gap <= frame["high"])
    return (frame["p"] < 0.05).mean(), held.mean()


@pytest.fixture
def same_resamples(monkeypatch):
    """All simulated studies share the resamples; their examples are independent."""
    monkeypatch.setattr(significance, "DRAWS", len(WEIGHTS))
    monkeypatch.setattr(significance, "resamples", lambda size, draws, random: WEIGHTS[:draws])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("deviation", [0, 1, 2])
def test_equal_systems_seldom_differ_and_intervals_hold_the_truth(seeds, deviation, same_resamples):
    false, held = simulate(seeds, deviation)
    assert false <= 0.07 and held >= 0.93


def test_three_points_are_found_most_of_the_time(same_resamples):
    found, held = simulate(5, 1, gap=3)
    assert found > 0.5 and held >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0, 1, 2])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_rates_of_many_studies(seeds, deviation, same_resamples):
    false, held = simulate(seeds, deviation, studies=4000)
    found, _ = simulate(seeds, deviation, gap=3, studies=1000)
    print(f"\n{seeds} seeds, deviation {deviation}: {false:.3f} {held:.3f} {found:.2f}")
    assert seeds < 3 or (false <= 0.07 and held >= 0.93)


@pytest.mark.slow
def test_rates_of_matthews_correlation(same_resamples):
    false, held = simulate(5, 1, name="cola", studies=2000)
    assert false <= 0.07 and held >= 0.93


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
    assert found.kept.share == pytest.approx(gain / above) and found.kept.seeds == 3
    assert 0.2 < found.kept.low < found.kept.share < found.kept.high < 0.9


def test_the_interval_of_the_share_has_the_shares_that_are_not_rejected(few):
    resampled = Resampled([tasks.get("rte")], systems(RIGHTS, examples=400))
    kept = compare(resampled, PAIRS).kept
    gain, above = (
        resampled.differences(one, "mt-dnn", {"rte": 1.0})
        for one in ("mt-dnn-kd", "mt-dnn-ensemble")
    )
    for end in (kept.low, kept.high):
        assert estimate(gain - end * above)["p"] == pytest.approx(0.05)


@pytest.mark.parametrize("right", [0.3, 0.52])
def test_no_share_of_a_gain_that_is_not_established(right, few):
    found = compared(systems(RIGHTS | {"mt-dnn-ensemble": right}), PAIRS)
    assert found.of("mt-dnn-ensemble", "mt-dnn").loc["average", "low"] < 0
    assert math.isnan(found.kept.share) and math.isnan(found.kept.low)
    kept = compared(systems({"a": 0.8, "b": 0.6})).kept  # there is no ensemble
    assert math.isnan(kept.share) and math.isnan(kept.low)
