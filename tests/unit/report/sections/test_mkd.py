"""MKD's section: gains over other ways of training, sizes and speeds beside scores."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import compared

from mtkd import tasks
from mtkd.report.sections.mkd import MkdResults, costs_table
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
        machine={"cpu": "x", "threads": 1, "precision": "fp32"},
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
    (first,) = section(gain, seeds, reach).finding()
    assert f"**lstm: multi-task distillation {words}" in first
    assert "over single-task hard targets" in first


def test_without_predictions_there_is_no_interval():
    students = replace(section(), compared=Compared())
    assert "better in this run (no interval: chance is not ruled out)" in students.finding()[0]
    assert "no predictions, so no interval" in students.figures["mkd_gains"].axes[0].get_xlabel()


def test_scores_are_beside_sizes_and_speeds():
    scores, costs, published = section().tables()
    labels = list(scores.frame["System"])
    assert labels[3:6] == ["MT-DNN-ensemble", "MT-DNN (before fine-tuning)", "lstm"]
    assert labels[-2:] == ["mkd-lstm (before fine-tuning)", "mkd-lstm (hard-0.5)"]
    assert scores.divide == 5
    assert scores.frame["Average"].iloc[-2] == "**58.1 ± 0.1**"
    last = scores.frame.iloc[-1]
    assert last[["ms at 1", "Ex./s at 32", "MB, all tasks"]].tolist() == ["2.00", "2,000", "16"]
    assert costs.name == "costs"
    assert not published.frame.iloc[:, 0].str.contains("MKD").any()


def test_layerwise_baselines_have_their_papers_and_comparisons():
    shifts = {"lstm": -6, "mt-lstm:mtl": -5, "task-kd-lstm": -4, "mkd-lstm:mtl": -2}
    shifts |= {"minilm-lstm:mtl": -3, "minilm-lstm": -3}
    students = replace(section(), rows=scores(shifts, 3), costs=costs([*MAIN, *shifts]))
    students = replace(students, compared=compared(students.scored, students.pairs(), 0.5))
    note = students.tables()[0].notes[-1]
    assert "mkd- has the loss on logits of MKD (Liu et al. 2020" in note
    assert "minilm- the same and the self-attention relations of MiniLMv2" in note
    assert "pkd-" not in note and "arXiv" not in "".join(section().tables()[0].notes)
    assert "over MiniLM +1.00" in students.finding()[0] and "PKD" not in students.finding()[0]
    points = students.latencies().set_index("system")
    assert set(points.loc["minilm-lstm", "training"]) == {"MiniLM, multi-task"}
    assert set(points.loc["minilm-lstm", "shape"]) == {"lstm"}


def test_an_assisted_student_is_compared_with_the_same_student_without():
    shifts = {"lstm": -6, "task-kd-lstm": -4, "mkd-lstm:mtl": -3, "mkd-big:mtl": -1}
    shifts |= {"task-kd-by_lstm": -4, "mkd-by_lstm:mtl": -1.5, "mkd-by_lstm": -1}
    students = replace(
        section(),
        rows=scores(shifts, 3),
        costs=costs([*MAIN, *shifts]),
        students=["lstm", "by_lstm", "big"],
        assistants={"by_lstm": ["big", "large"], "other": ["big"]},
        direct={"by_lstm": "lstm"},
    )
    assert students.pairs()[-1] == ("mkd-by_lstm:mtl", "mkd-lstm:mtl")
    students = replace(students, compared=compared(students.scored, students.pairs(), 0.5))
    assert students.finding()[-1] == (
        "**by_lstm: distillation by its assistant big is better than by the teacher**; in points "
        "(95 % interval) over lstm +1.50 (+1.00 to +2.00)."
    )
    first, second, *_ = students.tables()
    assert "by_lstm from big, other from big (TAKD, Mirzadeh" in first.notes[-1]
    (row,) = second.frame.to_dict("records")
    assert second.name == "mkd_assistants" and list(row)[:4] == (
        ["Student", "Learns from", "Over", "Average"]
    )
    assert row["Learns from"] == "big ← large ← MT-DNN (before fine-tuning)"
    assert row["Average"] == row["RTE"] == "+1.50 (+1.00 to +2.00)"
    points = students.latencies().set_index("system")
    assert set(points.loc["mkd-by_lstm", "shape"]) == {"by_lstm"}
    unfinished = replace(students, rows=students.rows[students.rows.system != "mkd-by_lstm:mtl"])
    assert set(unfinished.tables()[1].frame.iloc[0, 3:]) == {"–"}
    assert len(unfinished.finding()) == 1
    assert [table.name for table in section().tables()] == ["mkd", "costs", "published_small"]


def test_systems_that_were_not_measured_have_scores_alone():
    students = section()
    students = replace(students, costs=students.costs[students.costs["system"] != "bert"])
    row = students.tables()[0].frame.set_index("System").loc["BERT"]
    assert row["ms at 1"] == "–"
    assert row["Average"] == "60.1 ± 0.1"
    assert "bert" not in set(students.latencies()["system"])


def test_fine_tuned_systems_are_shown_once():
    points = section().latencies()
    at_one = points[points["batch"] == 1].set_index("system")
    assert at_one.loc["mt-dnn", ["shape", "training"]].tolist() == [
        "BERT",
        "hard targets, multi-task",
    ]
    assert at_one.loc["mkd-lstm:mtl", ["shape", "training"]].tolist() == [
        "lstm",
        "multi-task distillation",
    ]
    assert "mt-dnn:mtl" not in at_one.index
    assert at_one.loc["mkd-lstm:mtl", "ms"] == 2
    assert points[points["batch"] == 32].iloc[0]["ms"] == 3


def test_figures_have_alt_texts():
    pareto, gains = section().figures.values()
    assert "mkd-lstm (before fine-tuning) at batch 1: 2 ms, 58.1" in pareto.get_label()
    assert "lstm: MNLI +2.00" in gains.get_label()
    assert "95 % interval over 3 seeds and dev examples" in gains.axes[0].get_xlabel()


def test_no_scores_no_figures():
    students = section()
    empty = replace(students, rows=students.rows[:0], results=students.results[:0])
    pareto, gains = empty.figures.values()
    assert pareto.get_label().startswith("No system has both a score")
    assert "nothing to compare" in gains.get_label()


def test_costs_have_a_row_per_shape_and_batch_size():
    table = costs_table(
        costs([*MAIN, "lstm"]), {"cpu": "x", "threads": 2, "gpu": "y", "precision": "fp32"}
    )
    assert len(table.frame) == 6
    assert table.frame["systems"].iloc[0] == "bert, mt-dnn:mtl, mt-dnn, mt-dnn-kd"
    assert table.frame.loc[0, ["latency", "latency_low", "latency_high"]].tolist() == [4, 4, 120]
    assert "On x (2 thread(s)) and y, in fp32." in table.notes


def test_scores_do_not_wait_for_the_costs():
    students = replace(section(), costs=None, machine=None)
    (table,) = [one for one in students.tables() if one.name == "mkd"]
    assert "Ex./s" not in table.markdown() and "mkd-lstm" in table.markdown()
    assert "costs" not in [one.name for one in students.tables()]
    assert list(students.figures) == ["mkd_gains"] and students.finding()
