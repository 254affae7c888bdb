"""Predictions of texts of any kind and length, in order and in constant memory."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from helpers import ROOT, sentences

import mtkd
from mtkd import tasks
from mtkd.errors import UserError
from mtkd.inference.load import load_model
from mtkd.inference.predict import CHUNK_ROWS, predict_logits, predict_rows, write_predictions
from mtkd.inference.reader import Source, source

LONG = " ".join(sentences(8_000, shortest=12, longest=13))  # more than 100,000 words
STRANGE = [
    *("", " ", "\0", "a\0b", "x" * 500_000, "كتاب 日本語 ελληνικά ไทย", "😀👩‍👩‍👧 🏳️‍🌈"),
    *('he said "well', '""', "'", "\ufeff", "a\u2028b", "e\u0301" * 500, "\u202eright to left"),
    *("[MASK] [SEP] [PAD]", "<script>alert(1)</script>", "NA", "null", "-1", "\x1b[31m"),
]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_probabilities_are_those_of_the_head(folder):
    trained = load_model(str(folder), "mnli")
    pairs = [("a cat sees", "the dog"), ("the old house " * 5, "a river")]
    logits = torch.from_numpy(predict_logits(trained, pairs))
    expected = logits.softmax(-1).numpy()
    for row, values in zip(predict_rows(trained, pairs), expected, strict=True):
        assert list(row["probabilities"]) == list(tasks.get("mnli").labels)
        assert np.allclose(list(row["probabilities"].values()), values, atol=1e-6)
        assert row["label"] == tasks.get("mnli").labels[values.argmax()]


def test_python_gets_a_frame_of_probabilities(folder):
    model = mtkd.load(str(folder))
    pairs = [("a cat sees", "the dog"), ["the old house " * 5, "a river"]] * (CHUNK_ROWS // 2 + 1)
    frame = model.predict(iter(pairs), "mnli")
    assert list(frame) == ["label", *tasks.get("mnli").labels] and len(frame) == len(pairs)
    expected = predict_rows(load_model(str(folder), "mnli"), pairs[:2])
    for (_, row), one in zip(model.predict(pairs[:2], "mnli").iterrows(), expected, strict=True):
        assert row["label"] == one["label"] and row[1:].to_dict() == one["probabilities"]
    assert np.allclose(frame.iloc[:2, 1:], model.predict(pairs[:2], "mnli").iloc[:, 1:])
    assert np.allclose(frame.iloc[2:, 1:], np.tile(frame.iloc[:2, 1:], (len(pairs) // 2 - 1, 1)))
    texts = pd.DataFrame({"x": ["a cat", "b"], "y": ["a dog", "c"]}, index=[7, 3])
    scores = model.predict(texts, "stsb")
    assert list(scores) == ["score"] and scores.index.tolist() == [7, 3]
    assert model.predict(texts["x"], task="sst2").index.tolist() == [7, 3]
    assert model.predict("a cat", "sst2").shape == (1, 3) and not len(model.predict([], "sst2"))


@pytest.mark.parametrize(
    ("texts", "task", "words"),
    [
        (["a cat"], None, "has several tasks: choose one of sst2"),
        (["a cat"], "cola", "has no task 'cola'"),
        ([("a", "b"), "a cat"], "mrpc", "Row 1 is 'a cat': MRPC needs sentence1 and sentence2"),
        (["a cat", None], "sst2", "Row 1 is None: SST-2 needs sentence, as text"),
        ([("a", 1.5)], "mrpc", "Row 0 is ('a', 1.5): MRPC"),
        (pd.DataFrame({"x": ["a"], "y": ["b"]}), "sst2", "Row 0 is ('a', 'b'): SST-2"),
    ],
)
def test_python_s_bad_texts_are_refused(made, texts, task, words):
    with pytest.raises(UserError) as error:
        mtkd.load(str(made.transformer)).predict(texts, task)
    assert words in str(error.value)


def test_a_first_prediction_loads_only_what_it_needs(made):
    code = f"""
import sys, mtkd
assert "torch" not in sys.modules
from transformers import AutoTokenizer, BertModel
slow = "evaluate sklearn scipy.stats matplotlib seaborn papermill nbconvert snakemake onnx"
slow = set(slow.split()) - set(sys.modules)  # transformers 5.0 loads scikit-learn itself
mtkd.load({str(made.transformer)!r}).predict("a cat", "sst2")
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_encoder_s_first_weights_are_not_read(made, monkeypatch):
    monkeypatch.delattr("transformers.modeling_utils.PreTrainedModel.from_pretrained")
    expected = load_model(str(made.transformer), "sst2").model.state_dict()
    saved = safetensors.torch.load_file(made.transformer / "model.safetensors")
    assert all(torch.equal(expected[name], tensor) for name, tensor in saved.items())


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_strange_texts_of_a_file_are_predicted_in_order(folder, tmp_path, kind):
    trained, path = load_model(str(folder), "sst2"), tmp_path / f"t.{kind}"
    texts = [text for text in STRANGE if kind != "txt" or text.isprintable()]
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"sentence": text}) + "\r\n" for text in texts))
    elif kind == "parquet":
        pd.DataFrame({"sentence": texts}).to_parquet(path)
    else:
        path.write_text("\r\n".join([*texts, ""]), encoding="utf-8-sig", newline="")
    count = write_predictions(trained, source([str(path)], trained.task), tmp_path / "out.jsonl")
    written = lines(tmp_path / "out.jsonl")
    assert count == len(texts) == len(written)
    assert [row["row"] for row in written] == list(range(count))
    predicted = predict_rows(trained, [(text,) for text in texts])
    expected = [list(row["probabilities"].values()) for row in predicted]
    values = np.array([list(row["probabilities"].values()) for row in written])
    assert np.isfinite(values).all() and np.abs(values - expected).max() < 1e-4
    assert not list(tmp_path.glob(".*"))


def test_an_argument_that_is_no_utf8_is_predicted(made, tmp_path):
    trained = load_model(str(made.transformer), "sst2")
    texts = source(["\ud800 half of a pair"], trained.task)
    assert write_predictions(trained, texts, tmp_path / "out.jsonl") == 1


def test_pairs_of_strange_texts_have_scores(folder):
    trained = load_model(str(folder), "stsb")
    pairs = [(text, other) for text in STRANGE for other in ("", "a cat")]
    scores = [row["score"] for row in predict_rows(trained, pairs)]
    assert len(scores) == len(pairs) and np.isfinite(scores).all()


@pytest.mark.slow
def test_a_text_of_100_000_words_costs_time_like_its_length(made):
    trained = load_model(str(made.transformer), "mrpc")
    seconds = []
    for times in (1, 4):
        started = time.process_time()
        predict_logits(trained, [(LONG * times, LONG)])
        seconds.append(time.process_time() - started)
    assert seconds[1] < 10 * max(seconds[0], 0.2), "four times the text must not cost its square"


def test_rows_are_read_as_they_are_predicted(made, tmp_path, monkeypatch):
    trained, read, read_when_written = load_model(str(made.transformer), "sst2"), [], []

    def texts():
        for number in range(3 * CHUNK_ROWS):
            read.append(number)
            yield ("a film",)

    def write(text: str) -> None:
        read_when_written.append(len(read))

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=write, flush=lambda: None))
    assert write_predictions(trained, Source(texts()), None) == 3 * CHUNK_ROWS
    assert read_when_written[0] == CHUNK_ROWS and len(read_when_written) == 3 * CHUNK_ROWS


def test_a_file_appears_only_when_all_is_predicted(made, tmp_path):
    trained, out = load_model(str(made.transformer), "sst2"), tmp_path / "out.jsonl"
    (tmp_path / "t.jsonl").write_text('{"sentence": "a"}\n{"sentence": \n')
    with pytest.raises(UserError, match=r"t\.jsonl"):
        write_predictions(trained, source([str(tmp_path / "t.jsonl")], trained.task), out)
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.parametrize("out", ["none/out.jsonl", "."])
def test_a_place_that_no_file_can_be_written_to_is_refused(made, tmp_path, out):
    trained = load_model(str(made.transformer), "sst2")
    with pytest.raises(UserError, match=r"--out .*a file in a folder that exists"):
        write_predictions(trained, source(["a text"], trained.task), tmp_path / out)
