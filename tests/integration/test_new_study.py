"""`mtkd new`: what it proposes, asks and refuses."""

import os

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from mtkd.cli import app
from mtkd.config.study import load
from mtkd.errors import UserError

EXAMPLE = ROOT / "examples" / "own.yaml"


def table(rows: int) -> str:
    lines = [f"text {row},other {row},{('no', 'yes')[row % 2]}" for row in range(rows)]
    return "\n".join(["a,b,label", *lines, ""])


def new(*arguments: str, answers: str = "") -> str:
    done = CliRunner().invoke(app, ["new", *map(str, arguments)], input=answers)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_new_proposes_what_the_files_hold(tmp_path):
    said = new(
        tmp_path / "mine.yaml",
        "--train",
        EXAMPLE.parent / "letters.csv",
        "--train",
        EXAMPLE.parent / "sentences_train.jsonl",
        "--dev",
        "0.2",
        "--dev",
        EXAMPLE.parent / "sentences_dev.jsonl",
        "--yes",
    )
    assert "is written" in said
    found, wanted = load(tmp_path / "mine.yaml"), load(EXAMPLE)
    letters, sentences = found.own_tasks["letters"], found.own_tasks["sentences_train"]
    assert (letters.type, letters.columns, letters.label, letters.dev) == (
        "single",
        ["message"],
        "subject",
        0.2,
    )
    assert sorted(letters.labels) == sorted(wanted.own_tasks["letters"].labels)
    assert (sentences.type, sentences.columns, sentences.label) == (
        "pair",
        ["first", "second"],
        "meaning",
    )
    assert sentences.labels == ["different", "same"]
    assert found.resolve(sentences.train).samefile(
        EXAMPLE.parent / "sentences_train.jsonl"
    ) and not os.path.isabs(sentences.train)
    assert "#" in (tmp_path / "mine.yaml").read_text()


def test_new_asks_what_no_option_answers_and_takes_other_answers(tmp_path):
    rows = [f"{row},first text {row},second text {row},{row % 7 / 2},extra" for row in range(30)]
    (tmp_path / "likeness.csv").write_text("\n".join(["id,one,two,score,source", *rows, ""]))
    said = new(
        tmp_path / "mine.yaml",
        "--train",
        tmp_path / "likeness.csv",
        "--metrics",
        "spearman",
        answers="alike\n\n\n\n0.2\n",
    )
    for question in ("Name of the task", "Column of its label", "text column", "type", "dev"):
        assert question in said
    found = load(tmp_path / "mine.yaml").own_tasks["alike"]
    assert (found.type, found.columns, found.label, found.range, found.dev) == (
        "similarity",
        ["one", "two"],
        "score",
        (0, 3),
        0.2,
    )
    assert found.metrics == ["spearman"] and found.train == "likeness.csv"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train", "none.csv"], "there is no file"),
        (["--train", "t.csv", "--label", "kind"], "no column 'kind'"),
        (["--train", "t.csv", "--type", "sorting"], "'single', 'pair', 'similarity' or 'ranking'"),
        (["--train", "t.csv", "--dev", "none.csv"], "there is no file"),
        (["--train", "t.csv", "--name", "rte"], "task of GLUE"),
        (["--train", "t.csv", "--metrics", "bleu"], "bleu"),
        (["--train", "numbers.csv"], "looks like text"),
    ],
)
def test_new_refuses_what_makes_no_study_and_writes_nothing(
    tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(table(20))
    (tmp_path / "numbers.csv").write_text("a,label\n1,0\n2,1\n")
    with pytest.raises(UserError, match=words):
        new("mine.yaml", *arguments, "--yes")
    assert not (tmp_path / "mine.yaml").exists()


def test_new_overwrites_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("kept")
    with pytest.raises(UserError, match="there already"):
        new(tmp_path / "mine.yaml", "--train", EXAMPLE.parent / "letters.csv", "--yes")
    assert (tmp_path / "mine.yaml").read_text() == "kept"
