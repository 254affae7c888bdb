import dataclasses
import sys

import numpy as np
import pytest
import torch
from families import FAMILIES
from helpers import some_examples

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.inference.onnx import export_onnx

from .random_models import family_model, make_model


@pytest.mark.parametrize("kind", ["cls", "pooler", "mean", "lstm"])
@pytest.mark.parametrize("name", ["mnli", "cola"])
def test_onnx_has_equal_logits_for_other_shapes_than_it_was_traced_on(tmp_path, name, kind):
    pytest.importorskip("onnxruntime")
    task = tasks.get(name)
    model = make_model(task, kind)
    logits = export_onnx(model, task, tmp_path)
    examples = some_examples(task, 20)
    for rows in (np.arange(1), np.arange(20), np.arange(3, 8)):
        batch = examples.batch(rows)
        if len(task.columns) == 1:
            none = torch.zeros_like(batch.token_type_ids)
            batch = dataclasses.replace(batch, token_type_ids=none)
        with torch.inference_mode():
            expected = model(batch).numpy()
        largest = max(1, np.abs(expected).max())
        assert np.abs(logits["onnx"](batch) - expected).max() < 1e-5
        assert np.abs(logits["onnx int8"](batch) - expected).max() < 0.5 * largest


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("kind", ["cls", "lstm"])
@pytest.mark.parametrize("name", ["mnli", "stsb"])
def test_a_san_is_exported_with_equal_logits(tmp_path, name, kind, scale):
    pytest.importorskip("onnxruntime")
    task = tasks.get(name)
    model = make_model(task, kind, head="san", scale=scale)
    logits, examples = export_onnx(model, task, tmp_path), some_examples(task, 20)
    for rows in (np.arange(1), np.arange(20), np.arange(3, 8)):
        batch = examples.batch(rows)
        with torch.inference_mode():
            expected = model(batch).numpy()
        largest = max(1, np.abs(expected).max())
        assert np.abs(logits["onnx"](batch) - expected).max() < 1e-5 * largest
        assert np.abs(logits["onnx int8"](batch) - expected).max() < 0.5 * largest


def test_a_san_is_told_the_second_text_of_an_encoder_without_segments(tmp_path):
    pytest.importorskip("onnxruntime")
    task = tasks.get("mnli")
    model = family_model("roberta", task, "cls", head="san")
    logits = export_onnx(model, task, tmp_path)["onnx"]
    batch = some_examples(task, 6).batch(np.arange(6))
    types = batch.token_type_ids
    longer = dataclasses.replace(batch, token_type_ids=types | types.roll(-1, 1))
    with torch.inference_mode():
        expected, other = model(batch).numpy(), model(longer).numpy()
    assert np.abs(logits(batch) - expected).max() < 1e-5
    assert np.abs(logits(longer) - other).max() < 1e-5 < np.abs(other - expected).max() / 10


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported(tmp_path, family):
    pytest.importorskip("onnxruntime")
    task = tasks.get("mnli")
    model = family_model(family, task, "pooler" if family == "distilbert" else "cls")
    logits = export_onnx(model, task, tmp_path)
    for count in (1, 20):
        batch = some_examples(task, count, seed=1).batch(np.arange(count))
        with torch.inference_mode():
            expected = model(batch).numpy()
        assert np.abs(logits["onnx"](batch) - expected).max() < 1e-5


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'mtkd\[onnx\]'"):
        export_onnx(make_model(tasks.get("cola")), tasks.get("cola"), tmp_path)
    assert not list(tmp_path.iterdir())
