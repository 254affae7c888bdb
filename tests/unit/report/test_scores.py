"""Scores, averages and gains against numbers worked out by hand."""

import helpers
import numpy as np
import pytest

from mtkd.report import scores


def test_order_and_names():
    assert scores.in_order(["own", "wnli", "cola", "mnli", "cola"]) == [
        *("mnli", "cola", "wnli", "own")
    ]
    assert [scores.title(one) for one in ("qnli_ranked", "own_ranked", "own", "average")] == [
        *("QNLI as ranking", "own as ranking", "own", "Average")
    ]
    assert scores.name("mt-dnn-kd:mtl") == "MT-DNN_KD (before fine-tuning)"
    assert scores.name("mt-dnn-ensemble:keep-2") == "MT-DNN-ensemble (keep-2)"
    assert scores.name("candidate/a-0-s1:mtl") == "candidate a-0-s1 (before fine-tuning)"


def test_averages_leave_wnli_and_rankings_out_and_need_every_task(rows):
    results = rows(
        ("mt-dnn", "rte", "validation", "accuracy", (60.0, 70.0)),
        ("mt-dnn", "mrpc", "validation", "accuracy", (80.0,)),
        ("mt-dnn", "mrpc", "validation", "f1", (90.0,)),
        ("mt-dnn", "wnli", "validation", "accuracy", (0.0, 0.0)),
        ("mt-dnn", "qnli_ranked", "validation", "top", (0.0, 0.0)),
        ("mt-dnn", "rte", "selection", "accuracy", (0.0, 0.0)),  # no dev scores
        ("mt-dnn", "cola", "selection", "matthews", (0.0, 0.0)),
    )
    frame = scores.averages(results)
    assert frame.values.tolist() == [["mt-dnn", 0, pytest.approx((60 + 85) / 2)]]


def test_gains_by_hand(rows):
    results = rows(
        ("mt-dnn", "rte", "validation", "accuracy", (60.0, 61.0, 62.0)),
        ("mt-dnn-kd", "rte", "validation", "accuracy", (61.0, 63.0, 65.0)),
        ("mt-dnn-ensemble", "rte", "validation", "accuracy", (65.0,)),
    )
    pairs = [("mt-dnn-kd", "mt-dnn"), ("mt-dnn-ensemble", "mt-dnn")]
    row = scores.gains(results, helpers.compared(results, pairs, reach=0.5)).loc["rte"]
    assert row["gain"] == pytest.approx(2)
    assert tuple(row[["low", "high", "p"]]) == pytest.approx((1.5, 2.5, 0.0001))
    assert row["ensemble_gain"] == pytest.approx(4) and row["kept"] == pytest.approx(0.5)
    unknown = ["low", "high", "p", "p_holm", "kept"]
    assert scores.gains(results)[unknown].isna().all(axis=None)  # none without pairs
    unsure = scores.gains(results, helpers.compared(results, pairs, reach=5))
    assert np.isnan(unsure.loc["rte", "kept"]) and unsure.loc["rte", "ensemble_gain"] == 4
    ensemble = results["system"] == "mt-dnn-ensemble"
    worse = results.assign(value=results["value"].mask(ensemble, 50.0))
    compared = helpers.compared(worse, pairs, reach=0.5)
    assert np.isnan(scores.gains(worse, compared).loc["rte", "kept"])


def test_the_average_gain_of_an_ensemble_is_over_its_own_tasks(rows):
    systems = {"mt-dnn": (60.0, 50.0), "mt-dnn-kd": (61.0, 55.0), "mt-dnn-ensemble": (64.0,)}
    lines = [
        (system, task, "validation", "accuracy", (value,))
        for system, values in systems.items()
        for task, value in zip(("rte", "sst2"), values, strict=False)
    ]
    results, pair = rows(*lines), ("mt-dnn-ensemble", "mt-dnn")
    row = scores.gains(results, helpers.compared(results, [pair], 0.5)).loc["average"]
    assert row["gain"] == pytest.approx(3) and row["tasks"] == 2
    assert row["ensemble_gain"] == pytest.approx(4) and row["ensemble_tasks"] == 1
    assert row["kept"] == pytest.approx(0.25)  # of RTE alone


def row(gain: float, low: float = np.nan, high: float = np.nan, seeds: int = 3) -> dict:
    """Return a difference."""
    return {"gain": gain, "low": low, "high": high, "seeds": seeds}


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (row(2, 1, 3), "better"),
        (row(2, 1, 3, seeds=1), "better in this run (one seed)"),
        (row(2), "better in this run (no interval: chance is not ruled out)"),
        (row(1, -1, 3), "not measurably better"),
        (row(-2, -3, -1), "not better"),
        (row(0.001, 0.0005, 0.002), "not better"),
    ],
)
def test_a_difference_is_claimed_as_far_as_its_interval_goes(difference, words):
    assert scores.judged(difference) == words
