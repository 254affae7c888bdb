"""MKD's section: gains over other ways of training, sizes and speeds beside scores."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import compared

from mtkd import tasks
from mtkd.report.sections.mkd import MkdResults, costs_table
from mtkd.report.sections.mkd_figures import front
from mtkd.report.significance import Compared

MAIN = {"bert": 0, "mt-dnn:mtl": 2, "mt-dnn": 2, "mt-dnn-kd": 3, "mt-dnn-ensemble": 4}
TASKS = ["rte", "mnli", "cola"]


def scores(systems: dict[str, float], seeds: int) -> pd.DataFrame:
    """Return scores so many points above 60, and a little more with every seed."""
    rows = [
        (system, task, tasks.get(task).dev[0], tasks.get(task).metrics[0], 60 + shift, seed)
        for system, shift in systems.items()
        for task in TASKS
        for seed in ([np.nan] if system == "mt-dnn-ensemble" else range(seeds))
    ]
    frame = pd.DataFrame(rows, columns=["system", "task", "split", "metric", "value", "seed"])
    frame["value"] += 0.1 * frame["seed"].fillna(0)
    return frame


def costs(systems) -> pd.DataFrame:
    """Return costs: 4 ms for a large system, 12 for the ensemble, 2 for the LSTM, at batch 1."""
    rows = []
    for system in systems:
        shape = "lstm" if "lstm" in system else "ensemble" if "ensemble" in system else "bert"
        ms = {"bert": 4.0, "ensemble": 12.0, "lstm": 2.0}[shape]
        sizes = {"params": 1e6 * ms, "params_without_embeddings": 5e5 * ms, "bytes": 4e6 * ms}
        sizes |= {"bytes_all": 8e6 * ms, "flops": 1e6 * ms, "device": "cpu", "measured": shape}
        for batch, times in ((1, 1.0), (32, 8.0 if shape == "lstm" else 24.0)):
            latency = {"latency": ms * times, "latency_low": ms, "latency_high": 30 * ms}
            rates = {"rate": batch / ms / times * 1000, "rate_low": 1.0, "rate_high": 2e4}
            rows.append({"system": system, "batch": batch, **sizes, **latency, **rates})
    return pd.DataFrame(rows)


def section(gain: float = 2.0, seeds: int = 3, reach: float = 0.5) -> MkdResults:
    """Return results in which multi-task distillation is `gain` above task-specific distillation.

    Intervals reach `reach` points to either side.
    """
    shifts = {"lstm": -6, "mt-lstm:mtl": -5, "task-kd-lstm": -4, "mkd-lstm:mtl": -4 + gain}
    shifts["mkd-lstm:hard-0.5"] = -3
    students = MkdResults(
        rows=scores(shifts, seeds),
        results=scores(MAIN, seeds),
        tasks=TASKS,
        costs=costs([*MAIN, *shifts]),
        machine={"cpu": "x", "threads": 1},
        students=["lstm"],
        teacher="mt-dnn:mtl",
    )
    return replace(students, compared=compared(students.scored, students.pairs(), reach))


@pytest.mark.parametrize(
    ("gain", "seeds", "reach", "words"),
    [
        (2.0, 3, 0.5, "is better than task-specific distillation**"),
        (-2.0, 3, 0.5, "is not better than"),
        (1.0, 3, 2, "is not measurably better than"),
        (2.0, 1, 0.5, "is better in this run (one seed) than"),
        (1.0, 1, 2, "is not measurably better than"),
    ],
)
def test_the_finding_is_computed(gain, seeds, reach, words):
    first, saving = section(gain, seeds, reach).finding()
    assert f"**LSTM: multi-task distillation {words}" in first
    assert "over single-task hard targets" in first
    for text in ("2 times as fast at batch 1", "6 times as fast at batch 32"):
        assert text in saving
    assert "50% of the parameters" in saving


def test_without_predictions_there_is_no_interval():
    students = replace(section(), compared=Compared())
    assert "better in this run (no interval: chance is not ruled out)" in students.finding()[0]
    title = students.figures()["mkd_gains"].legends[0].get_title().get_text()
    assert title == "no predictions, so no interval"


def test_scores_stand_beside_sizes_and_speeds():
    scores, gains, costs, published = section().tables()
    labels = list(scores.frame["System"])
    assert labels[:2] == ["BERT", "MT-DNN, before fine-tuning (teacher)"]
    assert labels[-2:] == [
        "LSTM: multi-task distillation",
        "LSTM: multi-task distillation with hard targets (0.5)",
    ]
    assert scores.divide == (5,)
    assert scores.frame["Average"].iloc[-2] == "**58.1 ± 0.1**"
    last = scores.frame.iloc[-1]
    assert last[["ms at 1", "Ex./s at 32", "MB, all tasks"]].tolist() == ["2.00", "2,000", "16"]
    assert gains.frame["Average"].iloc[0] == "+2.0 (+1.5 to +2.5)"
    assert len(gains.frame) == 3
    assert costs.name == "costs"
    assert not published.frame.iloc[:, 0].str.contains("MKD").any()


def test_systems_that_were_not_measured_have_scores_alone():
    students = section()
    students = replace(students, costs=students.costs[students.costs["system"] != "bert"])
    row = students.tables()[0].frame.set_index("System").loc["BERT"]
    assert row["ms at 1"] == "–"
    assert row["Average"] == "60.1 ± 0.1"
    assert "BERT" not in set(students.latencies()["label"])


def test_a_gpu_has_columns_of_its_own():
    students = section()
    both = pd.concat([students.costs, students.costs.assign(device="cuda", latency=0.5)])
    frame = replace(students, costs=both).tables()[0].frame
    assert list(frame["ms at 1, cuda"])[:1] == ["0.50"]
    assert list(frame["ms at 1"])[:1] == ["4.00"]


def test_the_front_is_what_nothing_beats():
    points = pd.DataFrame({"ms": [1.0, 1, 2, 3, 3], "average": [5.0, 6, 5.5, 7, 7]})
    assert front(points) == [1, 3]


def test_fine_tuned_systems_are_shown_once():
    points = section().latencies()
    at_one = points[points["batch"] == 1].set_index("label")
    assert at_one.loc["MT-DNN", ["model", "training"]].tolist() == [
        "BERT size",
        "hard targets, multi-task",
    ]
    assert "MT-DNN, before fine-tuning (teacher)" not in at_one.index
    assert at_one.loc["LSTM: multi-task distillation", "ms"] == 2
    assert points[points["batch"] == 32].iloc[0]["ms"] == 3


def test_figures_have_alt_texts():
    figures = section().figures()
    pareto, gains = figures["mkd_pareto"], figures["mkd_gains"]
    assert "batch 1: LSTM: multi-task distillation (2 ms, 58.1)" in pareto.get_label()
    assert "MT-DNN-ensemble (12 ms, 64.0)" in pareto.get_label()
    assert "LSTM over task-specific distillation: MNLI +2.00" in gains.get_label()
    title = gains.legends[0].get_title().get_text()
    assert title == "bars: 95 % interval over 3 seeds and dev examples"


def test_no_scores_no_figures():
    students = section()
    empty = replace(students, rows=students.rows[:0], results=students.results[:0])
    labels = [figure.get_label() for figure in empty.figures().values()]
    assert labels == [
        "No system has both a score on every task and a measured cost.",
        "No student has scores by both ways of distillation.",
    ]


def test_costs_have_a_row_per_shape_and_batch_size():
    table = costs_table(costs([*MAIN, "lstm"]), {"cpu": "x", "threads": 2, "gpu": "y"})
    assert len(table.frame) == 6
    assert table.frame["Systems"].iloc[0] == "bert, mt-dnn:mtl, mt-dnn, mt-dnn-kd"
    assert table.frame["Latency, ms"].iloc[0] == "4.00 (4.00 to 120.00)"
    assert "On x (2 thread(s)) and y, in fp32." in table.notes
