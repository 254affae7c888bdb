"""An exported folder gives the study's logits, in transformers' own classes."""

import numpy as np
import pytest
import torch
from families import FAMILIES
from helpers import some_examples, tiny_bert
from transformers import AutoConfig, AutoTokenizer, pipeline

from mtkd import tasks
from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.inference.classifier import HEAD, export_transformers
from mtkd.inference.onnx import INPUTS
from mtkd.models.small_transformer import keep_layers

from .random_models import family_model, make_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_bert(tmp_path_factory.mktemp("tokenizer") / "bert"))


def encoded(tokenizer, task, *texts: str) -> Batch:
    inputs = tokenizer(*texts, return_tensors="pt")
    return Batch(task.name, *(inputs[name] for name in INPUTS), labels=torch.zeros(1))


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", ["mnli", "cola", "stsb"])
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_the_exported_model_has_equal_logits(tmp_path, tokenizer, pooling, name, scale):
    task = tasks.get(name)
    model = make_model(task, pooling, scale=scale)
    logits = export_transformers(model, task, tokenizer, tmp_path)
    batch = some_examples(task, 16).batch(np.arange(16))
    with torch.inference_mode():
        expected = model(batch).numpy()
    assert (batch.attention_mask == 0).any() and expected.std() > 0.01
    assert np.abs(logits(batch) - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    config = AutoConfig.from_pretrained(tmp_path)
    assert list(config.id2label.values()) == list(task.labels or ("score",))
    assert (tmp_path / "tokenizer.json").exists()


def test_transformers_pipeline_classifies_with_the_exported_model(tmp_path, tokenizer):
    task = tasks.get("sst2")
    model = make_model(task, "cls", vocab_size=len(tokenizer), scale=10.0)
    export_transformers(model, task, tokenizer, tmp_path)
    (found,) = pipeline("text-classification", model=str(tmp_path))("the film was good")
    with torch.inference_mode():
        expected = model(encoded(tokenizer, task, "the film was good")).softmax(-1)[0]
    assert found["label"] == task.labels[expected.argmax()]
    assert found["score"] == pytest.approx(expected.max().item(), abs=1e-5)


def test_an_encoder_without_a_class_in_transformers_is_refused(tmp_path, tokenizer):
    task = tasks.get("mnli")
    with pytest.raises(UserError, match=r"\(BiAttentiveEncoder\) has no class .*--format onnx"):
        export_transformers(make_model(task, "lstm"), task, tokenizer, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported_with_equal_logits(tmp_path, tokenizer, family, pooling):
    task = tasks.get("mnli")
    model = family_model(family, task, pooling)
    logits = export_transformers(model, task, tokenizer, tmp_path)
    batch = some_examples(task, 16).batch(np.arange(16))
    with torch.inference_mode():
        expected = model(batch).numpy()
    assert expected.std() > 0.01 and np.abs(logits(batch) - expected).max() < 1e-5
    assert AutoConfig.from_pretrained(tmp_path).model_type == family
    assert (tmp_path / HEAD).exists() == (family != "bert" or pooling == "mean")


@pytest.mark.parametrize(("kept", "fits"), [([0, 2], True), ([1, 2], False)])
def test_kept_layers_that_transformers_cannot_build_are_refused(tmp_path, tokenizer, kept, fits):
    task = tasks.get("mnli")  # ModernBERT's first layer alone has no norm before its attention
    model = family_model("modernbert", task, "cls")
    keep_layers(model.encoder, kept)
    if fits:
        assert export_transformers(model, task, tokenizer, tmp_path)
    else:
        with pytest.raises(UserError, match=r"cannot hold these layers .*--format onnx"):
            export_transformers(model, task, tokenizer, tmp_path)
