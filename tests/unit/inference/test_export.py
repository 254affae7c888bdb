"""Exports: the same logits as the study's model, and a card that says what the model is."""

import json

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from mtkd.errors import UserError
from mtkd.inference.export import export
from mtkd.inference.load import load_model
from mtkd.inference.predict import predict_logits

PAIRS = [("a cat", "a dog sees it"), ("", ""), ("word " * 200, "more " * 100)]


def snippet(card: str) -> str:
    return card.split("```python\n")[1].split("```")[0]


def run_snippet(card: str, folder) -> np.ndarray:
    """Run the card's code where the export's folder has its name; return its logits."""
    scope: dict = {}
    exec(snippet(card).replace(f'"{folder.name}', f'"{folder}'), scope)
    return np.asarray(
        scope["logits"].detach() if torch.is_tensor(scope["logits"]) else scope["logits"]
    )


def test_a_folder_of_transformers_has_the_same_logits(made, tmp_path):
    trained = load_model(str(made.transformer), "mnli")
    table = export(trained, tmp_path / "out")
    assert table.variant.tolist() == ["study", "transformers"] and table.gap.max() < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    columns = [list(column) for column in zip(*PAIRS, strict=True)]
    inputs = tokenizer(*columns, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits.numpy()
    assert np.abs(logits - predict_logits(trained, PAIRS)).max() < 1e-5


@pytest.mark.parametrize("name", ["sst2", "stsb", "mnli"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_code_of_the_card_runs(copied, tmp_path, pooling, name):
    copied.change_description(copied.transformer, pooling=pooling)
    trained = load_model(str(copied.transformer), name)
    export(trained, tmp_path / "out")
    logits = run_snippet((tmp_path / "out" / "README.md").read_text(), tmp_path / "out")
    texts = ("a text", "another text")[: len(trained.task.columns)]
    assert np.allclose(logits, predict_logits(trained, [texts]), atol=1e-5)


def test_an_export_to_onnx_has_quality_and_speed_beside_it(folder, tmp_path):
    pytest.importorskip("onnxruntime")
    trained = load_model(str(folder), "mnli")
    table = export(trained, tmp_path / "out", "onnx").set_index("variant")
    assert list(table.index) == ["study", "onnx", "onnx int8"]
    assert table.gap["onnx"] < 1e-4 and table.gap["onnx int8"] < 0.5
    assert (table.filter(like="accuracy") <= 100).all(axis=None) and (table.rate > 0).all()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"model.onnx", "model.int8.onnx", "labels.json", "tokenizer.json", "README.md"}
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels["labels"] == ["entailment", "neutral", "contradiction"]
    logits = run_snippet((tmp_path / "out" / "README.md").read_text(), tmp_path / "out")
    expected = predict_logits(trained, [("a text", "another text")])
    assert np.allclose(logits, expected, atol=1e-4)


def test_the_card_says_what_the_model_is(made, tmp_path):
    export(load_model(str(made.transformer), "mnli"), tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    for part in (
        "# mine",
        "`mt-dnn-kd:mtl` of the study `tiny`",
        "0 `entailment`, 1 `neutral`, 2 `contradiction`",
        "sst2, mrpc, stsb, mnli",
        "12 in validation_matched",
        "synthetic: generated",
        "pre-trained by the study",
        '"epochs": 5',
        "| validation_matched | accuracy |",
        "| transformers |",
        "not fine-tuned on MNLI alone",
        "## Licence",
    ):
        assert part in text, part


def test_a_card_needs_no_data_of_the_study(copied, tmp_path):
    (copied.data / "record.json").unlink()
    export(load_model(str(copied.transformer), "stsb"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The logit is the score" in card
    assert "in validation" not in card


def test_an_lstm_has_no_class_in_transformers(made, tmp_path):
    with pytest.raises(UserError, match="--format onnx"):
        export(load_model(str(made.lstm), "sst2"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_san_has_no_class_in_transformers_and_is_exported_to_onnx(made, tmp_path):
    trained = load_model(str(made.san), "mnli")
    with pytest.raises(UserError, match=r"head of MNLI \(san\) has no class .*--format onnx"):
        export(trained, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    export(trained.for_task("sst2"), tmp_path / "linear")
    pytest.importorskip("onnxruntime")
    table = export(trained, tmp_path / "out", "onnx").set_index("variant")
    assert table.gap["onnx"] < 1e-4 and table.gap["onnx int8"] < 0.5
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Output layer: a stochastic answer network" in card
    assert "Output layer" not in (tmp_path / "linear" / "README.md").read_text()
    expected = predict_logits(trained, [("a text", "another text")])
    assert np.allclose(run_snippet(card, tmp_path / "out"), expected, atol=1e-4)


def test_an_export_that_differs_is_not_written(made, tmp_path, monkeypatch):
    trained = load_model(str(made.transformer), "sst2")
    monkeypatch.setattr("mtkd.inference.export.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="logits differ"):
        export(trained, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "kind", "message"),
    [
        ("out", "tf", "--format tf: .*transformers and onnx"),
        ("full", "transformers", "not empty"),
        ("full/a", "transformers", "not empty"),
    ],
)
def test_what_cannot_be_written_is_refused(made, tmp_path, out, kind, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("a")
    with pytest.raises(UserError, match=message):
        export(load_model(str(made.transformer), "sst2"), tmp_path / out, kind)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "a"]
