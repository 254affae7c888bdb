"""Table 1's tasks, and GLUE's metrics against scikit-learn, scipy and cases worked by hand."""

import os
import subprocess
import sys

import evaluate
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.training import metrics

NAMES = ("matthews", "accuracy", "f1", "pearson", "spearman")

# name: kind, columns, labels in the hub's order, metrics
TABLE_1 = {
    "cola": ("single", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
    "sst2": ("single", ("sentence",), ("negative", "positive"), ("accuracy",)),
    "mnli": (
        "pair",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
    ),
    "rte": ("pair", ("sentence1", "sentence2"), ("entailment", "not_entailment"), ("accuracy",)),
    "wnli": ("pair", ("sentence1", "sentence2"), ("not_entailment", "entailment"), ("accuracy",)),
    "qqp": ("pair", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "mrpc": (
        "pair",
        ("sentence1", "sentence2"),
        ("not_equivalent", "equivalent"),
        ("accuracy", "f1"),
    ),
    "stsb": ("similarity", ("sentence1", "sentence2"), (), ("pearson", "spearman")),
    "qnli": ("ranking", ("question", "sentence"), ("entailment", "not_entailment"), ("accuracy",)),
    "ax": (
        "pair",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("matthews",),
    ),
}
MATCHED = {
    "dev": ("validation_matched", "validation_mismatched"),
    "test": ("test_matched", "test_mismatched"),
}


@pytest.mark.parametrize("name", TABLE_1)
def test_a_task_is_that_of_table_1(name):
    task = tasks.get(name)
    assert (task.kind, task.columns, task.labels, task.metrics) == TABLE_1[name]
    assert task.regression == (name == "stsb")
    assert task.num_outputs == {"mnli": 3, "ax": 3, "stsb": 1}.get(name, 2)


def test_there_are_nine_tasks_and_ax():
    assert set(tasks.GLUE) == set(TABLE_1)
    assert [name for name, task in tasks.GLUE.items() if not task.train] == ["ax"]


@pytest.mark.parametrize("name", TABLE_1)
def test_splits_have_the_hub_s_names(name):
    task = tasks.get(name)
    expected = (
        MATCHED
        if name == "mnli"
        else {"dev": () if name == "ax" else ("validation",), "test": ("test",)}
    )
    assert {"dev": task.dev, "test": task.test} == expected
    assert task.train == (None if name == "ax" else "train")


def test_ax_is_scored_by_the_head_of_mnli_whose_labels_it_has():
    assert tasks.get("ax").predicted_by == "mnli"
    assert tasks.get("ax").labels == tasks.get("mnli").labels
    assert {task.predicted_by for task in tasks.GLUE.values() if task.train} == {None}


def test_sizes_are_the_published_ones():
    published = {name: task.published for name, task in tasks.GLUE.items() if task.train}
    assert published == {
        "cola": ("8.5k", "1k", "1k"),
        "sst2": ("67k", "872", "1.8k"),
        "mnli": ("393k", "20k", "20k"),
        "rte": ("2.5k", "276", "3k"),
        "wnli": ("634", "71", "146"),
        "qqp": ("364k", "40k", "391k"),
        "mrpc": ("3.7k", "408", "1.7k"),
        "stsb": ("7k", "1.5k", "1.4k"),
        "qnli": ("108k", "5.7k", "5.7k"),
    }


def test_an_unknown_task_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"Unknown task 'snli'.*cola.*mnli.*ax"):
        tasks.get("snli")


def percent(name: str, predictions, references) -> dict:
    return metrics.load(name).compute(predictions=predictions, references=references)


THEIRS = {
    "matthews": lambda predictions, labels: sk.matthews_corrcoef(labels, predictions),
    "accuracy": lambda predictions, labels: sk.accuracy_score(labels, predictions),
    "f1": lambda predictions, labels: sk.f1_score(labels, predictions),
    "pearson": lambda predictions, labels: stats.pearsonr(predictions, labels)[0],
    "spearman": lambda predictions, labels: stats.spearmanr(predictions, labels)[0],
}


def drawn(name: str, seed: int, count: int = 200):
    random = np.random.default_rng(seed)
    if name in ("pearson", "spearman"):
        labels = random.uniform(0, 5, count).round(1)
        return (labels + random.normal(0, 1, count)).astype("float32"), labels
    labels = random.integers(0, 2, count)
    return np.where(random.random(count) < 0.7, labels, 1 - labels), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_an_evaluate_metric_and_equals_the_reference(name, seed):
    assert isinstance(metrics.load(name), evaluate.Metric)
    predictions, labels = drawn(name, seed)
    result = percent(name, predictions, labels)
    assert set(result) == {name}
    assert result[name] == pytest.approx(100 * THEIRS[name](predictions, labels), abs=1e-4)
    assert 5 < result[name] < 99


def test_accuracy_and_matthews_of_three_classes():
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0])
    predictions = np.array([0, 2, 2, 0, 1, 1, 1, 0])
    assert percent("accuracy", predictions, labels)["accuracy"] == 62.5
    # Gorodkin's R_K by hand: counts of predictions 3, 3, 2 and of labels 4, 2, 2; c = 5 of s = 8 are right;
    # (5 * 8 - (12 + 6 + 4)) / sqrt((64 - 22) (64 - 24)) = 18 / 40.9878
    assert percent("matthews", predictions, labels)["matthews"] == pytest.approx(43.9155, abs=1e-3)


def test_f1_and_matthews_by_hand():
    predictions, labels = (
        [1, 1, 1, 0, 0, 0, 0, 1],
        [1, 1, 0, 1, 0, 0, 0, 0],
    )  # 2 hits, 2 false alarms, 1 miss, 3 rejections
    assert percent("f1", predictions, labels)["f1"] == pytest.approx(100 * 4 / 7)
    assert percent("matthews", predictions, labels)["matthews"] == pytest.approx(
        100 * (2 * 3 - 2 * 1) / np.sqrt(4 * 3 * 5 * 4)
    )


def test_the_documented_examples_of_scikit_learn_and_scipy():
    assert percent("matthews", [1, 0, 1, 1], [1, 1, 1, 0])["matthews"] == pytest.approx(-100 / 3)
    assert percent("pearson", [1, 2, 3, 4, 5], [10, 9, 2.5, 6, 4])["pearson"] == pytest.approx(
        -74.26106572
    )
    assert percent("spearman", [1, 2, 3, 4, 5], [5, 6, 7, 8, 7])["spearman"] == pytest.approx(
        82.07826817
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_prediction_has_100_and_no_note(name):
    _, labels = drawn(name, 0)
    assert percent(name, labels, labels) == {name: pytest.approx(100)}


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_a_constant_prediction_has_0_and_a_note(name):
    _, labels = drawn(name, 0)
    result = percent(name, np.ones(len(labels)), labels)
    assert result[name] == 0.0
    assert result["note"] == f"{name} is reported as 0: all 200 predictions are the same"


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_correlation_with_constant_labels_has_0_and_another_note(name):
    result = percent(name, [1.0, 2.0, 4.0], [3.0, 3.0, 3.0])
    assert result[name] == 0.0
    assert "all 3 labels are the same" in result["note"]


def test_matthews_of_labels_of_one_class_is_0():
    assert percent("matthews", [0, 1, 1, 0], [1, 1, 1, 1])["matthews"] == 0.0


def test_f1_without_positives_is_0():
    assert percent("f1", [0, 0, 0], [1, 0, 1]) == {"f1": 0.0}
    assert percent("f1", [1, 1, 0], [0, 0, 0]) == {"f1": 0.0}
    assert percent("f1", [0, 0], [0, 0]) == {"f1": 0.0}


def test_f1_is_that_of_class_1():
    assert percent("f1", [1, 0, 0, 0], [1, 1, 0, 0])["f1"] == pytest.approx(100 * 2 / 3)
    assert percent("f1", [0, 1, 1, 1], [0, 0, 1, 1])["f1"] == pytest.approx(80)


def test_a_metric_keeps_nothing_of_the_last_call():
    for _ in range(2):
        assert percent("accuracy", [0, 1], [0, 1]) == {"accuracy": 100.0}
        assert percent("accuracy", [0] * 3000, [1] * 3000) == {"accuracy": 0.0}


def test_scores_of_a_task_are_of_the_likeliest_class():
    outputs = np.array([[2.0, -1.0], [0.2, 0.3], [0.1, 0.9], [0.6, 0.4]])
    values, notes = metrics.score(tasks.get("mrpc"), outputs, np.array([0, 1, 0, 1]))
    assert values == {"accuracy": 50.0, "f1": pytest.approx(50)}
    assert notes == []
    assert (
        metrics.score(tasks.get("mrpc"), outputs, np.array([0, 1, 0, 1], dtype="float32"))[0]
        == values
    )


def test_scores_of_a_regression_are_correlations_of_its_one_column():
    labels = np.array([0.0, 1.0, 2.5, 5.0])
    values, notes = metrics.score(tasks.get("stsb"), (labels**3)[:, None], labels)
    assert values["spearman"] == pytest.approx(100)
    assert values["pearson"] == pytest.approx(100 * stats.pearsonr(labels**3, labels)[0])
    assert notes == []


def test_notes_name_the_task():
    _, notes = metrics.score(
        tasks.get("cola"), np.tile([0.1, 0.9], (6, 1)), np.array([0, 1, 0, 1, 1, 1])
    )
    assert notes == ["CoLA: matthews is reported as 0: all 6 predictions are the same"]


def test_every_metric_works_without_a_network():
    code = """
import socket
def refuse(*_, **__): raise AssertionError("a metric asked for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mtkd.training import metrics
print([round(metrics.load(name).compute(predictions=[0, 1, 1, 1], references=[0, 1, 0, 1])[name], 2)
       for name in ("matthews", "accuracy", "f1", "pearson", "spearman")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[57.74, 75.0, 80.0, 57.74, 57.74]"
