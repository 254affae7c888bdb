"""Models of words and of texts as others load them: the exported ones have the same logits."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES
from helpers import tiny_bert
from small_training import VOCABULARY, random_examples, small_model
from transformers import AutoTokenizer, pipeline

from mtkd.errors import UserError
from mtkd.inference.classifier import export_transformers
from mtkd.inference.onnx import export_onnx
from mtkd.tasks import Task
from mtkd.training.generate import generate, write

from .random_models import family_model, make_model

TAGS = Task("ner", "NER", "tokens", ("words",), ("O", "B-X", "I-X"), ("entity_f1",))
SPAN = Task("qa", "QA", "span", ("question", "text"), ("start", "end"), ("exact_match",))
WRITE = Task("write", "WRITE", "text", ("text",), (), ("rouge_l",), max_target=8, beam=2)
TASKS = pytest.mark.parametrize("task", [TAGS, SPAN], ids=["tokens", "span"])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_bert(tmp_path_factory.mktemp("tokenizer") / "bert"))


def check(logits, model, task, tolerance=1e-5):
    batch = random_examples(task, 12).batch(np.arange(12))
    if task is TAGS:  # it has one text
        batch = replace(batch, token_type_ids=torch.zeros_like(batch.token_type_ids))
    with torch.inference_mode():
        expected = model(batch).numpy()
    assert (batch.words < 0).any() and expected.std() > 0.01
    found = logits(batch)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < tolerance


@TASKS
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_class_for_words(tmp_path, tokenizer, family, pooling, task):
    model = family_model(family, task, pooling)
    if family == "modernbert":  # its classes have another layer before the head
        with pytest.raises(UserError, match="no class for the words of a ModernBertModel: use --f"):
            export_transformers(model, task, tokenizer, tmp_path)
        return
    check(export_transformers(model, task, tokenizer, tmp_path), model, task)
    config = json.loads((tmp_path / "config.json").read_text())
    named = "ForTokenClassification" if task is TAGS else "ForQuestionAnswering"
    assert config["architectures"][0].endswith(named)
    if task is TAGS:
        assert list(config["id2label"].values()) == list(TAGS.labels)


def test_transformers_pipeline_tags_words(tmp_path, tokenizer):
    model = make_model(TAGS, "cls", vocab_size=len(tokenizer), scale=10.0)
    export_transformers(model, TAGS, tokenizer, tmp_path)
    tag = pipeline("token-classification", model=str(tmp_path), ignore_labels=[])
    found = [one["entity"] for one in tag("a red cat")]
    pieces = tokenizer("a red cat", add_special_tokens=False)["input_ids"]
    assert len(found) == len(pieces)
    assert set(found) <= set(TAGS.labels)


@TASKS
@pytest.mark.parametrize("kind", ["cls", "lstm"])
def test_onnx_has_the_logits_of_words(tmp_path, kind, task):
    pytest.importorskip("onnxruntime")
    model = make_model(task, kind, vocab_size=VOCABULARY)
    logits = export_onnx(model, task, tmp_path)
    check(logits["onnx"], model, task)
    check(logits["onnx int8"], model, task, 2.0)


def test_an_lstm_has_no_class_for_words(tmp_path, tokenizer):
    with pytest.raises(UserError, match=r"\(BiAttentiveEncoder\) has no class .*--format onnx"):
        export_transformers(make_model(TAGS, "lstm"), TAGS, tokenizer, tmp_path)


@pytest.mark.parametrize("kind", ["cls", "roberta"])
def test_onnx_writes_the_texts_that_the_model_writes(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    model = small_model([WRITE]) if kind == "cls" else family_model(kind, WRITE, "cls")
    writers, examples = export_onnx(model.eval(), WRITE, tmp_path), random_examples(WRITE, 12)
    for rows in (np.arange(1), np.arange(12)):
        batch = examples.batch(rows)
        with torch.inference_mode():
            expected = model(batch).numpy()
        assert np.abs(writers["onnx"](batch) - expected).max() < 1e-4
    texts = generate([(model, examples)])
    assert len(np.unique(texts)) > 5
    assert np.array_equal(write([(writers["onnx"].begin, examples)]), texts)
