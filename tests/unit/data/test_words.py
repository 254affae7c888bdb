"""Examples with a label for each word: files, positions of words, and errors in words."""

import json

import numpy as np
import pyarrow as pa
import pytest
from families import FAMILIES, make_checkpoint
from helpers import WORDS, sentences
from pyarrow import parquet
from transformers import AutoTokenizer, CanineTokenizer

from mtkd.config.custom_task import CustomTask
from mtkd.data.dataset import encode
from mtkd.data.words import join_words, mark_span, read_word_examples, split_words
from mtkd.errors import UserError

NER = CustomTask(
    type="tokens",
    train="t.jsonl",
    dev=0.1,
    columns=["words"],
    label="tags",
    labels=["O", "B-X"],
)
QA = CustomTask(type="span", train="t.jsonl", dev=0.1, columns=["question", "text"], label="answer")
SENTENCE = {"words": ["Ada", "wrote", "it", "."], "tags": ["B-X", "O", "O", "O"]}
QUESTION = {"question": "Who?", "text": "Then Ada, she said, wrote it.", "answer": "she said"}


def read(folder, rows, own, unlabelled=False):
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    batches = read_word_examples(path, own, "ner", unlabelled)
    return [row for batch in batches for row in batch.to_pylist()]


def test_words_and_tags(tmp_path):
    first, second = read(tmp_path, [SENTENCE, {"words": ["It"], "tags": ["O"]}], NER)
    text = {"words": "Ada wrote it .", "word_starts": [0, 4, 10, 13]}
    assert first == {**text, "label": [1, 0, 0, 0], "idx": 0}
    assert second["idx"] == 1


def test_parquet_holds_what_json_lines_hold(tmp_path):
    parquet.write_table(pa.Table.from_pylist([SENTENCE]), tmp_path / "t.parquet")
    (batch,) = read_word_examples(tmp_path / "t.parquet", NER, "ner", False)
    assert batch.to_pylist() == read(tmp_path, [SENTENCE], NER)


def test_a_test_set_needs_no_tags(tmp_path):
    (row,) = read(tmp_path, [{"words": ["A", "b"]}], NER, unlabelled=True)
    assert row["label"] == [-1, -1]


def test_an_answer_is_marked_at_its_first_and_last_word(tmp_path):
    (row,) = read(tmp_path, [QUESTION], QA)
    words = [row["text"][at:].split()[0].strip(",.") for at in row["word_starts"]]
    assert words == ["Then", "Ada", "", "she", "said", "", "wrote", "it", ""]
    assert row["label"] == [0, 0, 0, 1, 2, 0, 0, 0, 0]


def test_the_answer_s_place_may_be_given(tmp_path):
    rows = [{"question": "?", "text": "on and on", "answer": "on", "at": at} for at in (0, 7)]
    own = QA.model_copy(update={"answer_start": "at"})
    assert [row["label"] for row in read(tmp_path, rows, own)] == [[3, 0, 0], [0, 0, 3]]
    assert [row["label"] for row in read(tmp_path, rows, QA)] == [[3, 0, 0], [3, 0, 0]]


def test_an_answer_of_whole_words_is_looked_for_first(tmp_path):
    rows = [
        {"question": "?", "text": "other the he", "answer": one} for one in ("the", "he", "her")
    ]
    found = [row["label"] for row in read(tmp_path, rows, QA)]
    assert found == [[0, 3, 0], [0, 0, 3], [3, 0, 0]]


def test_a_word_that_the_answer_has_a_part_of_belongs_to_it():
    assert mark_span(split_words("ten thousandth steps"), 4, 12) == [0, 3, 0]


def test_joined_words_begin_where_it_says():
    text, places = join_words(["a", "bc", "d"])
    assert [text[first:last] for first, last in places] == ["a", "bc", "d"]
    assert places == split_words(text)


@pytest.mark.parametrize(
    ("own", "change", "message"),
    [
        (NER, {"tags": ["O"]}, "row 1: there are 4 words and 1 tags: give each word its tag"),
        (NER, {"tags": ["B-Y", *"OOO"]}, r"row 1: tag 'B-Y' is none of the task's \(O, B-X\)"),
        (NER, {"words": []}, "row 1: column 'words' has no words"),
        (NER, {"words": ["a", " ", "b", "c"]}, "row 1: column 'words' has an empty word"),
        (NER, {"words": "Ada wrote it ."}, "row 1: column 'words' holds .*, no list of texts"),
        (NER, {"tags": [1, 2, 3, 4]}, "row 1: column 'tags' holds .*, no list of texts"),
        (QA, {"answer": "he  said"}, "row 1: the answer 'he  said' is not in the text: copy it"),
        (QA, {"answer": " , "}, "row 1: the answer ' , ' is not in the text"),
        (QA, {"answer": ""}, "row 1: the answer '' has no word"),
        (QA, {"text": " "}, "row 1: the text to search has no words"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_row(own, change, message, tmp_path):
    row = SENTENCE if own is NER else QUESTION
    with pytest.raises(UserError, match=message):
        read(tmp_path, [row, row | change], own)


def test_a_place_where_the_answer_is_not(tmp_path):
    own = QA.model_copy(update={"answer_start": "at"})
    with pytest.raises(UserError, match="row 0: the answer 'she said' is not at character '3'"):
        read(tmp_path, [QUESTION | {"at": 3}], own)


def test_lists_need_a_file_that_can_hold_them(tmp_path):
    (tmp_path / "t.csv").write_text("words,tags\n")
    with pytest.raises(UserError, match="lists of words need JSON lines or Parquet: convert it"):
        list(read_word_examples(tmp_path / "t.csv", NER, "ner", False))
    with pytest.raises(UserError, match="it has no examples"):
        read(tmp_path, [], NER)


def test_long_files_come_in_parts(tmp_path):
    rows = read(tmp_path, [SENTENCE] * 10_001, NER)
    assert [row["idx"] for row in rows] == list(range(10_001))
    assert np.unique([row["label"] for row in rows], axis=0).tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_word_s_first_piece_is_found(family, tmp_path):
    folder = make_checkpoint(family, tmp_path / "e", sentences(60))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first, words = "who sees it", [*WORDS[:6], "catdog", "house"]
    text, places = join_words(words)
    starts = [start for start, _ in places]
    whole = encode([[first], [text]], tokenizer, 64, [starts])
    pieces = whole["input_ids"][0]
    positions = whole["words"][0]
    assert positions == sorted(set(positions))
    assert positions[0] >= whole["segment_start"][0]
    for word, at, end in zip(words, positions, [*positions[1:], len(pieces)], strict=True):
        assert tokenizer.decode(pieces[at:end], skip_special_tokens=True).replace(" ", "") == word
    cut = encode([[first], [text]], tokenizer, len(pieces) - 4, [starts])
    kept = [at for at in cut["words"][0] if at >= 0]
    assert len(kept) < len(words)
    assert cut["words"][0] == [*kept, *[-1] * (len(words) - len(kept))]
    before = [pieces[at] for at in positions[: len(kept)]]
    assert [cut["input_ids"][0][at] for at in kept] == before


def test_a_tokenizer_that_cannot_tell_where_words_are():
    with pytest.raises(UserError, match="in the pieces of a CanineTokenizer: use a fast tokenizer"):
        encode([["a b"]], CanineTokenizer(), 64, [[0, 2]])
