"""Comparisons against scikit-learn and scipy on explicit resamples, and on simulated studies whose truth is known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.report import significance as comparisons
from mtkd.report.significance import Compared, compare
from mtkd.tasks import Task
from mtkd.training import metrics

NAMES = ("rte", "cola", "mrpc", "stsb", "mnli")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 400)


def rows(
    task: Task, right: float, seed: int, examples: int = 120, truth: int = 0, spread: float = 0.0
) -> pd.DataFrame:
    """Predictions of a system that is right (or, of a regression, sure) in a share of the examples; labels are drawn by `truth`.

    Half of what decides is the example's own, the same for all systems of a `truth`: systems err alike. `spread`: of the share by seed.
    """
    parts = []
    for place, split in enumerate(task.dev):
        known, own = (
            np.random.default_rng([truth, place, 1]),
            np.random.default_rng([seed, place, round(1e6 * right), truth, 2]),
        )
        labels = (
            known.uniform(0, 5, examples)
            if task.regression
            else known.integers(0, task.num_outputs, examples)
        )
        hard, share = known.normal(size=examples), right + spread * own.normal()
        if task.regression:
            outputs = (labels + (1 - share) * 4 * (hard + own.normal(size=examples)))[:, None]
        else:
            passed = (hard + own.normal(size=examples)) / math.sqrt(2) < stats.norm.ppf(
                np.clip(share, 0.001, 0.999)
            )
            said = np.where(
                passed,
                labels,
                (labels + own.integers(1, task.num_outputs, examples)) % task.num_outputs,
            )
            outputs = np.eye(task.num_outputs)[said]
        parts.append(
            pd.DataFrame(
                dict(
                    task=task.name,
                    split=split,
                    idx=np.arange(examples),
                    label=labels.astype("float32"),
                    outputs=list(outputs.astype("float32")),
                )
            )
        )
    return pd.concat(parts, ignore_index=True)


def parts(
    rights: dict[str, float], seeds: int = 3, names=("rte",), **settings
) -> list[tuple[str, float, pd.DataFrame]]:
    """Predictions of systems by the share they get right; an ensemble has one run without a seed."""
    found = []
    for system, right in rights.items():
        for seed in [math.nan] if system.endswith("ensemble") else range(seeds):
            key = 99 if math.isnan(seed) else seed
            found.append(
                (
                    system,
                    seed,
                    pd.concat(
                        [rows(tasks.get(name), right, key, **settings) for name in names],
                        ignore_index=True,
                    ),
                )
            )
    return found


def compared(given, pairs=(("a", "b"),), names=("rte",)) -> Compared:
    return compare([tasks.get(name) for name in names], given, pairs)


@pytest.mark.parametrize("size", [2, 9, 80])
@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews", "pearson", "spearman"])
def test_weighted_metrics_are_those_of_the_resamples(name, size):
    random = np.random.default_rng(size)
    if name in ("pearson", "spearman"):
        labels = random.integers(0, 6, size).astype(float)
        predictions = np.round(labels[:, None] + 2 * random.normal(size=(size, 5)), 1)  # with ties
        predictions[0, 4] = np.nan
    else:
        classes = 3 if name == "matthews" else 2
        labels = random.integers(0, classes, size)
        predictions = random.integers(0, classes, (size, 5))
        predictions[:, 4] = labels
    predictions[:, 3] = 1  # constant: put at 0 where a correlation has no value
    weights = np.vstack([np.ones(size, int), metrics.resamples(size, 20, random)])
    assert (weights.sum(axis=1) == size).all()
    found = metrics.weighted(name, weights, predictions, labels)
    for place, often in enumerate(weights):
        chosen = np.repeat(np.arange(size), often)
        for system in range(5):
            if (
                np.isnan(predictions[:, system]).any()
                and not np.isnan(predictions[chosen, system]).any()
            ):
                continue  # a system with an output that is no number has no score, whether or not the resample holds it
            wanted = metrics.load(name).compute(
                predictions=predictions[chosen, system], references=labels[chosen]
            )[name]
            assert found[place, system] == pytest.approx(wanted, abs=1e-6), (place, system)


def test_intervals_of_one_model_are_those_of_explicit_resamples():
    task, found, random = (
        tasks.get("stsb"),
        rows(tasks.get("stsb"), 0.7, 0),
        np.random.default_rng(5),
    )
    outputs, labels = np.stack(found.outputs), found.label.to_numpy()
    chosen = random.integers(120, size=(500, 120))
    for name, statistic in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        values = [100 * statistic(outputs[rows, 0], labels[rows]).statistic for rows in chosen]
        low, high = metrics.intervals(task, outputs, labels)[name]
        assert (low, high) == pytest.approx(
            tuple(np.percentile(values, [2.5, 97.5])), abs=0.3 * float(np.std(values))
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_difference_is_that_of_the_scores(name, few):
    task, given = tasks.get(name), parts({"a": 0.8, "b": 0.6}, names=(name,))
    frame = compared(given, names=(name,)).of("a", "b")
    means = {}
    for system, _, said in given:
        cells = [
            metrics.score(task, np.stack(part.outputs), part.label.to_numpy())[0]
            for _, part in said.groupby("split")
        ]
        means.setdefault(system, []).append(np.mean([list(cell.values()) for cell in cells]))
    row = frame.loc[name]
    assert row.difference == pytest.approx(np.mean(means["a"]) - np.mean(means["b"]), abs=1e-4)
    assert (
        row.seeds == 3
        and row.examples == 120 * len(task.dev)
        and row.low < row.difference < row.high
    )
    assert list(frame.index) == [name, "average"] and frame.loc[
        "average", "difference"
    ] == pytest.approx(row.difference)
    assert math.isnan(frame.loc["average", "p"])


def test_the_bootstrap_is_that_of_explicit_resamples(monkeypatch):
    """Both ends of the interval against a plain loop over seeds and examples, scored by scikit-learn."""
    monkeypatch.setattr(comparisons, "DRAWS", 4000)
    given = parts({"a": 0.75, "b": 0.65}, names=("mrpc",), spread=0.03)
    row = compared(given, names=("mrpc",)).of("a", "b").loc["mrpc"]
    said = {
        (system, seed): (np.stack(frame.outputs).argmax(1), frame.label.to_numpy())
        for system, seed, frame in given
    }
    random, found = np.random.default_rng(5), []
    for _ in range(300):
        chosen = random.integers(120, size=120)
        scores = {
            key: np.mean(
                [
                    100 * metrics.load(name)._value(says[chosen], labels[chosen])
                    for name in ("accuracy", "f1")
                ]
            )
            for key, (says, labels) in said.items()
        }
        found.append(
            np.mean([scores["a", seed] - scores["b", seed] for seed in random.integers(3, size=3)])
        )
    spread = np.std(found)
    assert np.percentile(found, [2.5, 97.5]) == pytest.approx([row.low, row.high], abs=0.3 * spread)


def test_the_chance_is_that_of_all_swaps(monkeypatch):
    """Against every one of the 2^9 ways to swap nine examples."""
    monkeypatch.setattr(comparisons, "DRAWS", 20_000)
    given = parts({"a": 0.9, "b": 0.5}, names=("cola",), seeds=2, examples=9)
    labels = given[0][2].label.to_numpy()
    said = {(system, seed): np.stack(frame.outputs).argmax(1) for system, seed, frame in given}
    gaps = []
    for swap in itertools.product([False, True], repeat=9):
        first, second = (
            [
                matthews_corrcoef(labels, np.where(swap, said[other, seed], said[one, seed]))
                for seed in (0, 1)
            ]
            for one, other in (("a", "b"), ("b", "a"))
        )
        gaps.append(abs(np.mean(first) - np.mean(second)))
    wanted = np.mean(np.array(gaps) >= gaps[0] - 1e-9)
    assert 0.01 < wanted < 0.9
    assert compared(given, names=("cola",)).of("a", "b").loc["cola", "p"] == pytest.approx(
        wanted, abs=0.015
    )


@pytest.mark.parametrize("name", ["rte", "stsb"])
def test_alike_systems_differ_by_chance_and_unlike_ones_do_not(name, few):
    given = parts({"a": 0.9, "b": 0.5}, names=(name,), examples=200)
    given += [("c", seed, said) for system, seed, said in given if system == "a"]
    found = compared(given, [("a", "c"), ("a", "b"), ("b", "a")], (name,))
    same, better, worse = (
        found.of(*pair).loc[name] for pair in (("a", "c"), ("a", "b"), ("b", "a"))
    )
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert better.p == pytest.approx(1 / 401) and better.low > 0
    assert [-worse.difference, -worse.high, -worse.low, worse.p] == pytest.approx(
        [better.difference, better.low, better.high, better.p]
    )


def test_the_same_predictions_give_the_same_figures_in_any_company(few):
    given = parts({"a": 0.8, "b": 0.6}, names=("rte", "mrpc"))
    first, again = (
        compared(given, names=("rte", "mrpc")),
        compared(given[::-1], names=("mrpc", "rte")),
    )
    pd.testing.assert_frame_equal(first.frame, again.frame)
    more = compared(
        [*given, *parts({"c": 0.7}, names=("rte",))], [("c", "b"), ("a", "b")], ("rte", "mrpc")
    )
    pd.testing.assert_frame_equal(
        first.frame, more.frame[more.frame.a == "a"].reset_index(drop=True)
    )


def covered(seeds: int, spread: float, pair=("a", "b")) -> float:
    """Share of simulated studies whose interval holds the difference that very many examples and seeds have."""
    rights = {"a": 0.75, "b": 0.65, "a-ensemble": 0.75}
    task = tasks.get("rte")
    many = {
        system: [rows(task, rights[system], seed, 4000, 1000 + seed, spread) for seed in range(40)]
        for system in pair
    }
    means = {
        system: np.mean([(np.stack(said.outputs).argmax(1) == said.label).mean() for said in part])
        for system, part in many.items()
    }
    truth, held = 100 * (means[pair[0]] - means[pair[1]]), 0
    for study in range(100):
        given = parts(
            {system: rights[system] for system in pair}, seeds, truth=study, spread=spread
        )
        row = compared(given, [pair]).of(*pair).loc["rte"]
        held += row.low <= truth <= row.high
    return held / 100


@pytest.mark.parametrize(
    ("seeds", "spread", "pair"),
    [(1, 0, ("a", "b")), (3, 0, ("a", "b")), (5, 0.02, ("a", "b")), (3, 0, ("a-ensemble", "b"))],
)
def test_the_intervals_hold_the_truth(seeds, spread, pair, monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 300)
    monkeypatch.setattr(comparisons, "_chance", lambda *_: 1.0)
    assert covered(seeds, spread, pair) >= 0.88


def test_chance_alone_is_seldom_below_a_twentieth(monkeypatch):
    monkeypatch.setattr(comparisons, "DRAWS", 300)
    found = [
        compared(parts({"a": 0.7, "b": 0.7000011}, truth=study)).of("a", "b").loc["rte", "p"]
        for study in range(100)
    ]
    assert np.mean(np.array(found) < 0.05) <= 0.12 and 0.3 < np.mean(found) < 0.7


def test_an_ensemble_goes_with_every_seed(few):
    given = parts({"mt-dnn-ensemble": 0.9, "mt-dnn": 0.6}, seeds=4)
    row = (
        compared(given, [("mt-dnn-ensemble", "mt-dnn")]).of("mt-dnn-ensemble", "mt-dnn").loc["rte"]
    )
    scores = [100 * (np.stack(said.outputs).argmax(1) == said.label).mean() for _, _, said in given]
    assert row.difference == pytest.approx(scores[0] - np.mean(scores[1:])) and row.seeds == 4
    assert row.low < row.difference < row.high and row.p < 0.05


def test_only_seeds_of_both_and_whole_tasks_count(few):
    given = [
        *parts({"a": 0.8}, seeds=3, names=("rte", "mnli")),
        *parts({"b": 0.6}, seeds=2, names=("rte", "mnli")),
    ]
    given[1] = (
        *given[1][:2],
        given[1][2][given[1][2].split != "validation_mismatched"],
    )  # seed 1 of a lacks half of MNLI
    frame = compared(given, names=("mnli", "rte", "qqp")).of("a", "b")
    assert dict(frame.seeds) == {"mnli": 1, "rte": 2, "average": 1}
    assert compared(given, [("a", "c")], ("rte",)).of("a", "c").empty


def test_wnli_is_compared_and_not_averaged(few):
    given = parts({"a": 0.8, "b": 0.6}, names=("rte", "wnli"))
    frame = compared(given, names=("rte", "wnli")).of("a", "b")
    assert list(frame.index) == ["rte", "wnli", "average"]
    assert (
        frame.loc["average", "difference"] == frame.loc["rte", "difference"]
        and frame.loc["average", "examples"] == 120
    )


def test_predictions_of_other_examples_are_refused():
    given = parts({"a": 0.8, "b": 0.6})
    given[-1][2]["idx"] += 1
    with pytest.raises(
        UserError, match=r"The predictions of b on RTE \(validation\) are of other examples"
    ):
        compared(given)


SYSTEMS = {"mt-dnn": 0.5, "mt-dnn-kd": 0.7, "mt-dnn-ensemble": 0.9}


def test_the_share_of_the_ensembles_gain(few):
    found = compared(
        parts(SYSTEMS, names=("rte", "mrpc"), examples=400), comparisons.PAIRS, ("rte", "mrpc")
    )
    gain, above = (
        found.of(system, "mt-dnn").loc["average", "difference"]
        for system in ("mt-dnn-kd", "mt-dnn-ensemble")
    )
    assert found.kept.share == pytest.approx(gain / above)
    assert 0.2 < found.kept.low < found.kept.share < found.kept.high < 0.9
    assert "The student keeps" in comparisons.kept_sentence(found)
    last = comparisons.table(found).frame.iloc[-1]
    assert last["Average difference"].endswith(" %") and " to " in last["95 % interval"]


def test_a_share_of_nothing_is_none(few):
    worse = compared(parts(SYSTEMS | {"mt-dnn-ensemble": 0.3}), comparisons.PAIRS)
    assert math.isnan(worse.kept.share) and "no gain to keep" in comparisons.kept_sentence(worse)
    unsure = compared(parts(SYSTEMS | {"mt-dnn-ensemble": 0.52}), comparisons.PAIRS)
    assert unsure.of("mt-dnn-ensemble", "mt-dnn").loc["average", "low"] < 0
    assert math.isnan(unsure.kept.low) and (
        "no bounds" in comparisons.kept_sentence(unsure)
    ) == math.isfinite(unsure.kept.share)
    kept = compared(parts({"a": 0.8, "b": 0.6})).kept
    assert all(
        math.isnan(value) for value in (kept.share, kept.low, kept.high)
    )  # there is no ensemble


def test_the_table_says_it_in_plain_words(few):
    given = parts(SYSTEMS | {"bert": 0.5}, names=("rte", "mrpc"), examples=300)
    shown = comparisons.table(compared(given, comparisons.PAIRS, ("rte", "mrpc"))).frame.set_index(
        "Comparison"
    )
    row = shown.loc["MT-DNN_KD against MT-DNN"]
    assert row["In words"] == "MT-DNN_KD is better than MT-DNN." and row[
        "Tasks better, p < .05"
    ].startswith("2: RTE +")
    assert row["Tasks worse, p < .05"] == "0" and row["Average difference"].startswith("+")
    assert (
        shown.loc["MT-DNN_KD against MT-DNN-ensemble", "In words"]
        == "MT-DNN_KD is worse than MT-DNN-ensemble."
    )
    assert (
        shown.loc["MT-DNN against BERT", "In words"]
        == "No difference between MT-DNN and BERT is established."
    )
    assert (
        "MT-DNN_KD (before fine-tuning) against MT-DNN (before fine-tuning)" not in shown.index
    )  # only what is present


def test_the_method_and_what_is_missing_stand_below_the_table(few):
    notes = {
        seeds: comparisons.table(compared(parts(SYSTEMS, seeds), comparisons.PAIRS)).notes
        for seeds in (1, 3, 5)
    }
    assert all(
        said[0].startswith("95 % intervals: bootstrap over seeds and dev examples; p: approximate")
        for said in notes.values()
    )
    assert notes[1][-1] == "There is one seed: how training varies is in no interval."
    assert (
        notes[3][-1] == "With 3 seeds, how training varies is understated." and len(notes[5]) == 2
    )
    lacking = comparisons.table(Compared(lacking=("mt-dnn",)))
    assert (
        lacking.notes[-1].startswith("No predictions of MT-DNN are at hand")
        and lacking.html()
        and lacking.markdown()
    )
