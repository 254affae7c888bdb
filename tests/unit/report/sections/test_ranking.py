"""Ranking's section: what merging adds to classification."""

import numpy as np
import pandas as pd

from mtkd import tasks
from mtkd.report.sections.ranking import RankingResults
from mtkd.report.significance import Resampled


def section(gain: float, seeds: int = 3) -> RankingResults:
    """Return scores in which the merged predictions are `gain` above the others."""
    rows = [
        (system, "qnli", way, metric, 60 + seed + gain * (way == "merged"), seed)
        for system in ("bert", "mt-dnn", "mt-dnn-kd")
        for seed in range(seeds)
        for way in ("classification", "ranking", "merged")
        for metric in ("accuracy", "top", "mrr")
        if (way, metric) != ("ranking", "accuracy")
    ]
    frame = pd.DataFrame(rows, columns=["system", "task", "way", "metric", "value", "seed"])
    return RankingResults(
        frame.assign(n=frame["metric"].map({"top": 40}).fillna(1000)),
        Resampled([tasks.get("qnli")], map(predictions, frame[frame.metric == "accuracy"].iloc)),
    )


def predictions(row: pd.Series) -> tuple[str, int, pd.DataFrame]:
    """Return predictions that have a row's accuracy."""
    right = np.arange(1000) < 10 * row.value
    frame = pd.DataFrame({"task": "qnli", "split": "validation", "idx": np.arange(1000)})
    frame = frame.assign(label=0.0, outputs=list(np.eye(2)[1 - right]))
    return f"{row.system}/{row.way}", row.seed, frame


def test_the_finding_says_what_merging_adds():
    (sentence,) = section(2.5).finding()
    assert (
        "**QNLI: merging ranking into classification changes accuracy from 61.0 to 63.5" in sentence
    )
    assert "+2.5 (+1.7 to +3.3) points for MT-DNN_KD" in sentence
    assert "95 % intervals; seeds: 3" in sentence
    assert "+1.0 (+0.4 to +1.6) points for BERT" in section(1.0, seeds=1).finding()[0]


def test_the_table_has_a_column_per_metric_and_way():
    (table,) = section(2.5).tables()
    assert list(table.frame.columns) == [
        "task",
        "system",
        "accuracy, classification",
        "accuracy, merged",
        "mrr, classification",
        "mrr, ranking",
        "mrr, merged",
        "top, classification",
        "top, ranking",
        "top, merged",
    ]
    assert table.frame["accuracy, merged"].iloc[0] == "63.5 ± 1.0"
    assert "(QNLI: 40)" in table.notes[0]
