"""Texts to predict: arguments, files of every kind, and the standard input."""

import io
import os
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.inference.reader import source

SST2, MRPC = tasks.get("sst2"), tasks.get("mrpc")


class Input(io.TextIOWrapper):
    """A standard input of these bytes; without any, a terminal."""

    def __init__(self, content: bytes | None):
        super().__init__(io.BytesIO(content or b""), encoding="utf-8")
        self.terminal = content is None

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def pipe(monkeypatch):
    return lambda content: monkeypatch.setattr(sys, "stdin", Input(content))


def texts(*arguments, **options) -> list[tuple[str, ...]]:
    return list(source(*arguments, **options).rows)


def test_arguments_are_the_texts_of_one_row():
    assert texts(["a film"], SST2) == [("a film",)]
    assert texts(["one", "two.csv here"], MRPC) == [("one", "two.csv here")]
    assert texts(["half \udce9"], SST2) == [("half ?",)]


FILES = {
    "t.csv": b'\xef\xbb\xbfsentence2,sentence1\r\n"b, ""x""",a\r\n\r\nd,c\r\n',
    "t.tsv": b'sentence1\tmore\tsentence2\na\t1\tb, "x"\nc\t2\td\n',
    "t.jsonl": b"""{"sentence1": "a", "sentence2": "b, \\"x\\""}

{"sentence2": "d", "sentence1": "c"}""",
    "t.txt": b'a\tb, "x"\r\nc\td',
}


@pytest.mark.parametrize("name", FILES)
def test_files_and_the_same_bytes_piped(tmp_path, pipe, name):
    (tmp_path / name).write_bytes(FILES[name])
    assert texts([str(tmp_path / name)], MRPC) == [("a", 'b, "x"'), ("c", "d")]
    kind = name.removeprefix("t.").replace("txt", "text")
    pipe(FILES[name])
    assert texts(["-"], MRPC, kind=kind) == [("a", 'b, "x"'), ("c", "d")]
    (tmp_path / "t.data").write_bytes(FILES[name])
    assert len(texts([str(tmp_path / "t.data")], MRPC, kind=kind)) == 2


def test_a_single_object_needs_no_line_end(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"sentence": "a film"}')
    assert texts([str(tmp_path / "t.jsonl")], SST2) == [("a film",)]


def test_parquet_is_counted_and_columns_may_be_named(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"x": ["a", "c"], "y": ["b", "d"]}).to_parquet(path)
    rows = source([str(path)], MRPC, ["y", "x"])
    assert rows.total == 2 and list(rows.rows) == [("b", "a"), ("d", "c")]


def test_lines_are_read_from_the_standard_input_as_they_are(pipe):
    pipe(b"one film\n\n two films ")
    assert texts([], SST2) == [("one film",), ("",), (" two films ",)]


BAD_CONTENT = [
    ("t.csv", b"a,sentence2\nx,y\n", "'sentence1' is missing (there are a, sentence2)"),
    (
        "t.csv",
        b"sentence1,sentence2\na,b\nc\n",
        "row 1: it cannot be read as CSV (expected 2 columns, got 1)",
    ),
    ("t.csv", "sentence1,sentence2\nä,b\n".encode("latin-1"), "it is not UTF-8 text"),
    (
        "t.jsonl",
        b'{"sentence1": "a", "sentence2": 1}',
        "row 0: column 'sentence2' holds 1, not text",
    ),
    ("t.jsonl", b'{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "c"}', "row 1: column"),
    ("t.jsonl", b"nothing", "cannot be read as JSON lines"),
    ("t.parquet", b"nothing", "cannot be read as Parquet"),
    ("t.txt", b"a\tb\nc\n", "line 2: it needs one tab between sentence1 and sentence2"),
    ("t.txt", b"a\tb\n\xe9\t\xe9\n", "it is not UTF-8 text"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_CONTENT)
def test_a_bad_file_is_refused_with_its_name_and_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        texts([str(tmp_path / name)], MRPC)
    assert str(tmp_path / name) in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (["one"], {}, "MRPC needs sentence1 and sentence2: 1 texts are given"),
        (["one", "two", "three"], {}, "3 texts are given"),
        (["none.csv"], {}, "There is no file none.csv"),
        (["-"], {"kind": "xml"}, "--format xml: the formats are csv, tsv, jsonl, parquet, text"),
        (["-"], {"columns": ["a,b"]}, "--columns 'a,b': MRPC needs sentence1 and sentence2"),
        (["pyproject.toml"], {}, "give --format"),
    ],
)
def test_bad_arguments_are_refused(pipe, given, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    pipe(b"")
    with pytest.raises(UserError) as error:
        source(given, MRPC, **options)
    assert words in str(error.value)


@pytest.mark.parametrize("content", [None, "closed"])
def test_a_terminal_with_no_text_is_refused(pipe, monkeypatch, content):
    pipe(None)
    if content:
        monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="nothing to predict"):
        source([], SST2)


def test_parquet_cannot_be_piped(monkeypatch):
    ends = os.pipe()
    os.close(ends[1])
    with open(ends[0], "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe, isatty=lambda: False))
        with pytest.raises(UserError, match="give the file, not a pipe"):
            texts(["-"], SST2, kind="parquet")


def test_quotes_are_read_as_in_training(tmp_path):
    (tmp_path / "t.tsv").write_text('sentence\n"a\tb"\n')
    assert texts([str(tmp_path / "t.tsv")], SST2, quotes=True) == [("a\tb",)]
    (tmp_path / "t.csv").write_text('sentence\n"a\n')
    assert texts([str(tmp_path / "t.csv")], SST2, quotes=False) == [('"a',)]
