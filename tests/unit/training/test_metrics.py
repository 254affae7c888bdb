"""GLUE's metrics against scikit-learn, scipy and cases worked by hand; many resamples at once."""

import os
import re
import subprocess
import sys

import evaluate
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from mtkd import tasks
from mtkd.training import metrics
from mtkd.training.metrics import score

NAMES = ("matthews", "accuracy", "f1", "pearson", "spearman")
REFERENCES = {
    "matthews": lambda predictions, labels: sk.matthews_corrcoef(labels, predictions),
    "accuracy": lambda predictions, labels: sk.accuracy_score(labels, predictions),
    "f1": lambda predictions, labels: sk.f1_score(labels, predictions),
    "pearson": lambda predictions, labels: stats.pearsonr(predictions, labels)[0],
    "spearman": lambda predictions, labels: stats.spearmanr(predictions, labels)[0],
}


def percent(name: str, predictions, labels) -> float:
    result = metrics.load(name).compute(predictions=predictions, references=labels)
    assert list(result) == [name]
    return result[name]


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
    value = percent(name, predictions, labels)
    assert value == pytest.approx(100 * REFERENCES[name](predictions, labels), abs=1e-4)
    assert 5 < value < 99 and percent(name, labels, labels) == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "predictions", "labels", "expected"),
    [
        ("accuracy", [0, 2, 2, 0, 1, 1, 1, 0], [0, 1, 2, 0, 1, 2, 0, 0], 62.5),
        # Gorodkin's R_K: predictions 3, 3, 2 and labels 4, 2, 2 of each class; 5 of 8 are correct;
        # (5 * 8 - (12 + 6 + 4)) / sqrt((64 - 22) (64 - 24)) = 18 / 40.9878
        ("matthews", [0, 2, 2, 0, 1, 1, 1, 0], [0, 1, 2, 0, 1, 2, 0, 0], 43.9155),
        # 2 hits, 2 false alarms, 1 miss, 3 rejections
        ("f1", [1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 1, 0, 0, 0, 0], 100 * 4 / 7),
        ("matthews", [1, 1, 1, 0, 0, 0, 0, 1], [1, 1, 0, 1, 0, 0, 0, 0], 400 / np.sqrt(240)),
        ("f1", [1, 0, 0, 0], [1, 1, 0, 0], 100 * 2 / 3),  # of class 1
        ("f1", [0, 0, 0], [1, 0, 1], 0),
        ("f1", [0, 0], [0, 0], 0),
        ("matthews", [0, 1, 1, 0], [1, 1, 1, 1], 0),
        # the examples in the documentation of scikit-learn and scipy
        ("matthews", [1, 0, 1, 1], [1, 1, 1, 0], -100 / 3),
        ("pearson", [1, 2, 3, 4, 5], [10, 9, 2.5, 6, 4], -74.26106572),
        ("spearman", [1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 82.07826817),
    ],
)
def test_by_hand(name, predictions, labels, expected):
    for _ in range(2):  # nothing is kept of the last call
        assert percent(name, predictions, labels) == pytest.approx(expected, abs=1e-4)


def test_scores_of_a_task_are_of_the_likeliest_class():
    outputs = np.array([[2.0, -1.0], [0.2, 0.3], [0.1, 0.9], [0.6, 0.4]])
    for dtype in ("int64", "float32"):
        values, notes = score(tasks.get("mrpc"), outputs, np.array([0, 1, 0, 1], dtype=dtype))
        assert values == {"accuracy": 50.0, "f1": pytest.approx(50)} and notes == []


def test_scores_of_a_regression_are_correlations_of_its_one_column():
    labels = np.array([0.0, 1.0, 2.5, 5.0])
    values, notes = score(tasks.get("stsb"), (labels**3)[:, None], labels)
    pearson = 100 * stats.pearsonr(labels**3, labels)[0]
    assert values == {"spearman": pytest.approx(100), "pearson": pytest.approx(pearson)}
    assert notes == []


@pytest.mark.parametrize(
    ("task", "outputs", "labels", "note"),
    [
        ("cola", [[0.1, 0.9]] * 4, [0, 1, 1, 1], "CoLA: matthews is reported as 0: all 4 predict"),
        ("stsb", [[1.0], [1.0]], [2.0, 3.0], "STS-B: pearson is reported as 0: all 2 predictions"),
        ("stsb", [[1.0], [2.0]], [3.0, 3.0], "STS-B: pearson is reported as 0: all 2 labels"),
        ("stsb", [[1.0], [np.nan]], [2.0, 3.0], "STS-B: pearson .* a prediction is not a number"),
    ],
)
def test_a_correlation_without_a_value_is_0_with_a_note(task, outputs, labels, note):
    values, notes = score(tasks.get(task), np.array(outputs), np.array(labels))
    assert set(values.values()) == {0.0} and len(notes) == len(values)
    assert re.match(note, notes[0])


@pytest.mark.parametrize("size", [2, 9, 80])
@pytest.mark.parametrize("name", NAMES)
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
    for draw, counts in enumerate(weights):
        chosen = np.repeat(np.arange(size), counts)
        for system in range(5):
            column = predictions[:, system]
            undefined = np.isnan(column).any()  # in whichever resample
            wanted = 0 if undefined else percent(name, column[chosen], labels[chosen])
            assert found[draw, system] == pytest.approx(wanted, abs=1e-6), (draw, system)


def test_intervals_are_those_of_explicit_resamples():
    random = np.random.default_rng(5)
    labels = random.uniform(0, 5, 120)
    outputs = (labels + random.normal(0, 1.5, 120))[:, None]
    resamples = random.integers(120, size=(2000, 120))
    found = metrics.intervals(tasks.get("stsb"), outputs, labels, draws=2000)
    for name, statistic in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        values = [100 * statistic(outputs[rows, 0], labels[rows]).statistic for rows in resamples]
        expected = tuple(np.percentile(values, [2.5, 97.5]))
        assert found[name] == pytest.approx(expected, abs=0.3 * float(np.std(values)))


@pytest.mark.slow
def test_every_metric_works_without_a_network():
    code = """
import socket
def refuse(*_, **__): raise AssertionError("a metric asked for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mtkd.training import metrics
print([round(metrics.load(name).compute(predictions=[0, 1, 1, 1], references=[0, 1, 0, 1])[name], 2)
       for name in ("matthews", "accuracy", "f1", "pearson", "spearman")])
"""
    offline = {f"HF_{name}_OFFLINE": "1" for name in ("HUB", "DATASETS", "EVALUATE")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[57.74, 75.0, 80.0, 57.74, 57.74]"
