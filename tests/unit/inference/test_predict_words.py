"""Tags of words and answers in texts, as they are predicted."""

import json

import pandas as pd
import pytest
import torch
from helpers import tiny_bert
from transformers import AutoTokenizer

from mtkd import tasks
from mtkd.data.words import split_words
from mtkd.errors import UserError
from mtkd.inference.load import TrainedModel
from mtkd.inference.reader import source
from mtkd.models.multitask import MultiTaskModel, load_encoder

TAGS = tasks.Task("ner", "NER", "tokens", ("words",), ("O", "B-X", "I-X"), ("entity_f1",))
SPAN = tasks.Task("qa", "QA", "span", ("question", "text"), ("start", "end"), ("exact_match",))
TEXT = "A red bird, often seen."
WORDS = ["A", "red", "bird", ",", "often", "seen", "."]


class Described:
    """What a model's description says of its tasks."""

    known, max_length, tasks = [TAGS, SPAN], 64, []


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tiny_bert(tmp_path_factory.mktemp("words") / "bert")
    torch.manual_seed(0)
    model = MultiTaskModel(load_encoder(folder, dropout=0), Described.known, {"ner": 0, "qa": 0})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return TrainedModel(None, Described, None, model.eval(), tokenizer, TAGS)


def test_each_word_has_a_tag_wherever_it_comes_from(trained):
    frame = trained.predict([TEXT, WORDS, ""], "ner")
    assert frame["words"].tolist() == [WORDS, WORDS, []]
    assert frame["tags"][0] != frame["tags"][1] or len(set(frame["tags"][0])) > 1
    assert set(frame["tags"][0]) <= set(TAGS.labels)
    alone = trained.predict(TEXT, "ner")
    assert alone["tags"][0] == frame["tags"][0]


def test_an_answer_is_a_part_of_the_text(trained):
    pairs = [("who?", TEXT), ("who?", ""), ("where is it?", "a house " * 40)]
    found = trained.predict(pairs, "qa")
    answer, start = found["answer"][0], found["start"][0]
    assert TEXT[start : start + len(answer)] == answer
    edges = {edge for place in split_words(TEXT) for edge in place}
    assert {start, start + len(answer)} <= edges
    assert found.iloc[1].tolist() == ["", -1, 0]
    assert (found["probability"] <= 1).all()
    frame = pd.DataFrame(pairs, index=["a", "b", "c"])
    assert trained.predict(frame, "qa").equals(found.set_axis(frame.index))


def test_lists_of_words_are_read_from_files(tmp_path):
    rows = [{"words": WORDS}, {"words": ["it"]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        assert list(source([str(tmp_path / name)], TAGS).rows) == [(WORDS,), (["it"],)]
    (tmp_path / "t.txt").write_text(TEXT)
    assert list(source([str(tmp_path / "t.txt")], TAGS).rows) == [(TEXT,)]


def test_a_row_that_is_no_text(trained):
    with pytest.raises(UserError, match="Row 0 is 3: NER needs words, as text"):
        trained.predict([3], "ner")
