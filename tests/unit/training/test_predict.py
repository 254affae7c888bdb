"""Predictions in the order of the examples, whatever their lengths and rows; scores as rows."""

import numpy as np
import pytest
import torch
from small_training import random_examples, small_model

from mtkd import tasks
from mtkd.training import precision
from mtkd.training import predict as module
from mtkd.training.predict import predict, probabilities, score_rows

RTE = tasks.get("rte")


@pytest.mark.parametrize("size", [40, 2048])
def test_logits_come_in_the_order_of_the_examples(size, monkeypatch):
    monkeypatch.setattr(module, "CPU_BATCH", size)
    model, examples = small_model(["rte"], dropout=0.5), random_examples(RTE, 50)
    found = predict(model, examples)
    single = [model(examples.batch(np.array([row]))).detach().numpy()[0] for row in range(50)]
    assert found == pytest.approx(np.stack(single), abs=1e-5) and found.dtype == np.float32
    assert predict(model, examples, rows=range(7, 19)) == pytest.approx(found[7:19], abs=1e-5)
    monkeypatch.setattr(precision, "number_format", lambda device: torch.bfloat16)
    half = predict(model, examples, "bf16")
    assert half == pytest.approx(found, abs=0.05) and not np.array_equal(half, found)


def test_probabilities_are_a_softmax_and_scores_stay():
    logits = np.array([[0.0, np.log(3)], [1000.0, 1000.0]], dtype="float32")
    expected = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert probabilities(RTE, logits) == pytest.approx(expected)
    assert probabilities(RTE, np.stack([logits, logits]))[1] == pytest.approx(expected)
    assert np.array_equal(probabilities(tasks.get("stsb"), logits[:, :1]), logits[:, :1])


def test_a_row_per_metric():
    outputs, labels = np.array([[0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]), np.array([1, 0, 1])
    rows, notes = score_rows(tasks.get("mrpc"), "validation", outputs, labels)
    same = {"task": "mrpc", "split": "validation", "n": 3}
    assert rows == [
        same | {"metric": "accuracy", "value": 66.6667},
        same | {"metric": "f1", "value": 66.6667},
    ]
    assert notes == [] and all(type(row["value"]) is float for row in rows)
