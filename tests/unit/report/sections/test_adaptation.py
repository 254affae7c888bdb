"""Adaptation's section: gains are paired by seed, the finding follows the intervals."""

import numpy as np
import pandas as pd
import pytest

from mtkd.report.sections.adaptation import AdaptationResults
from mtkd.report.significance import Resampled
from mtkd.tasks import SNLI


def adapted_systems(frame: pd.DataFrame) -> AdaptationResults:
    """Return the section of these rows, with predictions that have their accuracies."""
    parts = []
    for row in frame.itertuples():
        right = np.arange(row.n) < round(row.n * row.value / 100)
        predictions = {"task": "snli", "split": "validation", "idx": np.arange(row.n), "label": 0.0}
        predictions = pd.DataFrame(predictions | {"outputs": list(np.eye(3)[1 - right])})
        parts.append((f"{row.system}/{row.examples}", row.seed, predictions))
    return AdaptationResults(frame, Resampled([SNLI], parts))


def section(gain: float, seeds: int = 3, spread: float = 0.0, systems=()) -> AdaptationResults:
    """Return scores with MT-DNN `gain` points above BERT below 100 %, `spread` apart by seed."""
    rows = []
    for system in systems or ("bert", "mt-dnn", "mt-dnn-kd"):
        for share, size in ((0.01, 10), (0.1, 100), (1, 1000)):
            for seed in range(seeds):
                more = gain + spread * (seed - 1) if system == "mt-dnn" and share < 1 else 0
                rows.append((system, share, size, 40 + 10 * share + seed + more, seed))
    frame = pd.DataFrame(rows, columns=["system", "share", "examples", "value", "seed"])
    return adapted_systems(frame.assign(task="snli", updates=50, n=1000))


@pytest.mark.parametrize(
    ("gain", "seeds", "spread", "words"),
    [
        (2.0, 3, 0.1, "better than BERT**: in points (95 % interval) +2.0 (+1."),
        (1.0, 3, 2.0, "not measurably better than BERT**: in points (95 % interval) +1.0 (−3."),
        (-2.0, 3, 0.1, "not better than BERT**: in points (95 % interval) −2.0 (−2."),
        (2.0, 1, 0.0, "better in this run (one seed) than BERT**"),
    ],
)
def test_the_finding_is_computed(gain, seeds, spread, words):
    first, second = section(gain, seeds, spread).finding()
    assert f"**With few labels MT-DNN is {words}" in first
    assert "on average over shares below the whole" in first
    assert "**With few labels MT-DNN_KD is not better than BERT**" in second


def test_gains_are_paired_by_seed():
    adapted = section(2.0, spread=1.0)
    gains = adapted.gains("mt-dnn")
    assert list(gains.index) == [10, 100, 1000, "mean"]
    assert gains["gain"].tolist() == pytest.approx([2, 2, 0, 2])
    part = gains.loc[10]
    assert part["low"] < 2 - 1.96 / 3**0.5, "wider than the seeds, of standard deviation 1, alone"
    assert part["p"] > 0.05 > part["low"] and part["seeds"] == 3
    alone = adapted.rows[(adapted.rows["seed"] == 0) & (adapted.rows["system"] == "mt-dnn")]
    more = adapted_systems(pd.concat([adapted.rows, alone.assign(seed=9, value=99)]))
    assert more.gains("mt-dnn").loc[10, "gain"] == pytest.approx(2)


def test_systems_without_bert_do_not_compare():
    adapted = section(2.0, systems=("mt-dnn",))
    assert not len(adapted.gains("mt-dnn"))
    assert adapted.finding() == []
    assert adapted.tables()[0].frame["System"].tolist()[0] == "MT-DNN"


def test_the_table_has_scores_then_differences():
    (table,) = section(2.0, spread=0.1).tables()
    assert list(table.frame.columns) == ["System", "1 % (10)", "10 % (100)", "100 % (1,000)"]
    systems = ["BERT", "MT-DNN", "MT-DNN_KD", "MT-DNN − BERT", "MT-DNN_KD − BERT"]
    assert table.frame["System"].tolist() == systems
    assert table.divide == 3
    column = table.frame["1 % (10)"].tolist()
    assert column[:2] == ["41.1 ± 1.0", "43.1 ± 1.1"]
    assert column[3].startswith("+2.0 (+")


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_curve_has_an_alt_text(seeds):
    label = section(2.0, seeds).figures["adaptation"].get_label()
    assert "MT-DNN 4" in label and "with 1,000" in label
