"""A head on a BERT as transformers' own class and as ONNX: the same logits, to rounding."""

import numpy as np
import pytest
import torch
from helpers import some_examples
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.inference.classifier import as_classifier
from mtkd.inference.onnx import INPUTS, quantise, session, write_onnx
from mtkd.models import MultiTaskModel
from mtkd.models.lstm import BiAttentiveEncoder, own_table
from mtkd.models.multitask import TransformerEncoder


def model(task, pooling="cls", *, hidden=48, layers=2, scale=1.0) -> MultiTaskModel:
    """A BERT drawn at random with biases and norms that are not the identity; `scale` makes large logits."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    found = MultiTaskModel(
        TransformerEncoder(BertModel(config, add_pooling_layer=pooling == "pooler"), pooling),
        [task],
        {task.name: 0.0},
    )
    for parameter in found.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    found.heads[task.name].weight.data *= scale
    return found.eval()


def given(batch) -> dict:
    return {name: getattr(batch, name) for name in INPUTS}


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", ["mnli", "cola", "stsb"])
@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_transformers_own_class_loads_from_disk_with_equal_logits(tmp_path, pooling, name, scale):
    task = tasks.get(name)
    ours = model(task, pooling, scale=scale)
    as_classifier(ours, task).save_pretrained(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = some_examples(task, 16).batch(np.arange(16))
    with torch.inference_mode():
        expected, found = ours(batch), theirs(**given(batch)).logits
    assert (batch.attention_mask == 0).any() and expected.std() > 0.01
    assert (found - expected).abs().max() < 1e-5 * max(1, expected.abs().max())
    assert list(theirs.config.id2label.values()) == list(task.labels or ("score",))


def test_the_mean_is_exact_in_bf16_too_up_to_its_rounding(tmp_path):
    task = tasks.get("mnli")
    ours, batch = model(task, "mean"), some_examples(task, 16).batch(np.arange(16))
    with torch.inference_mode():
        expected, found = (
            ours(batch),
            as_classifier(ours, task).to(torch.bfloat16)(**given(batch)).logits,
        )
        other = ours.to(torch.bfloat16)(batch)
    assert (found.float() - expected).abs().max() < 3 * max(0.01, (other - expected).abs().max())


def test_what_transformers_cannot_hold_is_said(tmp_path):
    task = tasks.get("mnli")
    lstm = MultiTaskModel(
        BiAttentiveEncoder(own_table(60, 8), hidden=8, output=8), [task], {"mnli": 0.0}
    )
    with pytest.raises(
        UserError, match=r"encoder \(BiAttentiveEncoder\) is no BERT.*--format onnx"
    ):
        as_classifier(lstm, task)
    with pytest.raises(UserError, match=r"width 6 has no room .* the 3 classes of MNLI"):
        as_classifier(model(task, "mean", hidden=6), task)
    with pytest.raises(UserError, match=r"see how two texts compare.*--format onnx"):
        as_classifier(model(task, "compared"), task)


@pytest.mark.parametrize("kind", ["cls", "mean", "compared", "lstm"])
@pytest.mark.parametrize("name", ["mnli", "cola"])
def test_onnx_gives_equal_logits_for_other_batches_than_it_was_traced_on(tmp_path, name, kind):
    pytest.importorskip("onnxruntime")
    task = tasks.get(name)
    torch.manual_seed(0)
    lstm = MultiTaskModel(
        BiAttentiveEncoder(own_table(60, 8), hidden=8, layers=2, output=8), [task], {name: 0.0}
    ).eval()
    ours = lstm if kind == "lstm" else model(task, kind)
    write_onnx(ours, task, tmp_path / "model.onnx")
    quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    whole, small = session(tmp_path / "model.onnx"), session(tmp_path / "int8.onnx")
    wanted = {entry.name for entry in whole.get_inputs()}
    examples = some_examples(task, 20)
    if len(task.columns) == 1:
        examples = type(examples)(
            task,
            examples._split.with_format(None).map(
                lambda row: {"segment_start": len(row["input_ids"])}
            ),
            "single",
        )
    for rows in (np.arange(1), np.arange(20), np.arange(3, 8)):
        batch = examples.batch(rows)
        fed = {key: value.numpy() for key, value in given(batch).items() if key in wanted}
        with torch.inference_mode():
            expected = ours(batch).numpy()
        assert np.abs(whole.run(None, fed)[0] - expected).max() < 1e-5
        assert np.abs(small.run(None, fed)[0] - expected).max() < 0.5 * max(
            1, np.abs(expected).max()
        )


def test_without_onnxs_packages_it_says_how_to_install_them(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'mtkd\[onnx\]'"):
        write_onnx(model(tasks.get("cola")), tasks.get("cola"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
