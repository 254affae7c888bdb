"""`mtkd new`: what it proposes for which file, and what it refuses."""

import os
from collections import Counter

import pandas as pd
import pytest
from helpers import ROOT

from mtkd.config.study import load
from mtkd.data.custom import read_custom_task
from mtkd.errors import UserError
from mtkd.workflow.new_study import inspect_file, write_study

EXAMPLES = ROOT / "examples"
TABLE = "a,b,label\n" + "".join(f"text {n},other {n},{('no', 'yes')[n % 2]}\n" for n in range(20))


def test_a_study_is_proposed_from_the_files(tmp_path):
    path = tmp_path / "mine.yaml"
    train = [str(EXAMPLES / "letters.csv"), f"same={EXAMPLES / 'sentences_train.jsonl'}"]
    settings = ["letters.dev=0.2", f"same.dev={EXAMPLES / 'sentences_dev.jsonl'}"]
    write_study(path, train, settings)
    study, example = load(path), load(EXAMPLES / "own.yaml")
    letters, same = study.own_tasks["letters"], study.own_tasks["same"]
    assert (letters.type, letters.columns, letters.label) == ("single", ["message"], "subject")
    assert letters.dev == 0.2 and sorted(letters.labels) == sorted(
        example.own_tasks["letters"].labels
    )
    assert (same.type, same.columns, same.label) == ("pair", ["first", "second"], "meaning")
    assert same.labels == ["different", "same"] and not os.path.isabs(same.train)
    assert study.resolve(same.train).samefile(EXAMPLES / "sentences_train.jsonl")
    assert study.resolve(same.dev).samefile(EXAMPLES / "sentences_dev.jsonl")
    assert "# the column of the class" in path.read_text(encoding="utf-8")


def test_scores_make_a_similarity_and_questions_are_answered_in_yaml(tmp_path):
    rows = [f"{n},first text {n},second text {n},{n % 7 / 2},extra" for n in range(30)]
    (tmp_path / "likeness.csv").write_text("\n".join(["id,one,two,score,source", *rows, ""]))
    answers = {"metrics": "spearman", "dev": "0.2"}
    asked = []

    def ask(question: str, proposal: str) -> str:
        asked.append(question.split()[1])
        return answers.get(asked[-1], proposal)

    file = f"alike={tmp_path / 'likeness.csv'}"
    write_study(tmp_path / "mine.yaml", [file], ["alike.label=score"], ask)
    task = load(tmp_path / "mine.yaml").own_tasks["alike"]
    assert asked == ["columns", "type", "range", "dev", "metrics"]
    assert (task.type, task.columns, task.label) == ("similarity", ["one", "two"], "score")
    assert (task.range, task.dev, task.metrics) == ((0, 3), 0.2, ["spearman"])
    assert task.train == "likeness.csv"


def test_class_names_keep_commas_quotes_and_words_that_yaml_reads_otherwise(tmp_path):
    names = ["no", "yes, mostly", 'so "called"', "# none", "ja: nein", "日本語"]
    lines = [f"some text {n}\t{names[n % len(names)]}" for n in range(30)]
    (tmp_path / "t.tsv").write_text("\n".join(["text\tlabel", *lines, ""]), encoding="utf-8")
    write_study(tmp_path / "mine.yaml", [str(tmp_path / "t.tsv")], [], lambda _, proposal: proposal)
    assert load(tmp_path / "mine.yaml").own_tasks["t"].labels == sorted(names)
    given = 't.labels=["yes, mostly", "no", "# none", "ja: nein", "日本語", \'so "called"\']'
    write_study(tmp_path / "other.yaml", [str(tmp_path / "t.tsv")], [given])
    assert load(tmp_path / "other.yaml").own_tasks["t"].labels[0] == "yes, mostly"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "labels",
    [
        [
            "Books, films",
            "Home",
            "a\u2028\x85b",
            "\U000e0001 🙂",
            "'\"",
            "\\",
            "2020-01-01",
            "5e-5",
        ],
        [1.0, 0.0, 2.0],
        [True, False],
        [3, 1, 12],
    ],
)
def test_what_is_written_can_be_read(tmp_path, suffix, labels):
    rows = [labels[n % len(labels)] for n in range(30)]
    texts = [f"some text {n}, and more" for n in range(30)]
    frame = pd.DataFrame({"a, b": texts, "the class": rows, "more": [n / 2 for n in range(30)]})
    path = tmp_path / f"t.{suffix}"
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        getattr(frame, f"to_{suffix}")(path, index=False)
    write_study(tmp_path / "mine.yaml", [str(path)], ["t.label=the class"])
    study = load(tmp_path / "mine.yaml")
    task = study.own_tasks["t"]
    assert task.columns == ["a, b"] and len(task.labels) == len(labels)
    splits = read_custom_task(study, "t", tmp_path / "scratch")
    numbers = [*splits["train"]["label"], *splits["validation"]["label"]]
    counts = Counter(n % len(labels) for n in range(30))
    assert sorted(Counter(numbers).values()) == sorted(counts.values())


def test_lists_may_be_given_one_by_one(tmp_path):
    (tmp_path / "t.csv").write_text('"a, b",c,kind\n' + 'a text,more text,"x, y"\n' * 9)
    given = ["t.labels=x, y", "t.labels=z", "t.columns=a, b", "t.columns=[c]", "t.label=kind"]
    write_study(tmp_path / "mine.yaml", [str(tmp_path / "t.csv")], given)
    task = load(tmp_path / "mine.yaml").own_tasks["t"]
    assert (task.columns, task.labels) == (["a, b", "c"], ["x, y", "z"])


@pytest.mark.parametrize(
    ("labels", "classes", "limits"),
    [
        (["10", "9", "-1"], ["-1", "9", "10"], (-1, 10)),
        (["1.0", "2", "1"], ["1", "2"], (1, 2)),
        (["a", "", " "], ["a"], None),
        (["0.5", "1", "3"], [], (0.5, 3)),
        (["b", "a", " a "], ["a", "b"], None),
        ([f"class {n}" for n in range(60)], [], None),
    ],
)
def test_labels_are_classes_or_scores(tmp_path, labels, classes, limits):
    rows = [f"some text {n},{labels[n % len(labels)]}" for n in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows, ""]))
    summary = inspect_file(tmp_path / "t.csv", "label")
    assert (summary.classes, summary.range) == (classes, limits)


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("none.csv", [], "there is no file|no file"),
        ("t.csv", ["t.label=kind"], "column 'kind' is missing"),
        (
            "t.csv",
            ["t.type=sorting"],
            "'single', 'pair', 'similarity', 'ranking', 'tokens', 'span' or 'text'",
        ),
        ("t.csv", ["t.dev=none.csv"], "no file"),
        ("t.csv", ["t.dev=1.5"], "between 0 and 1"),
        ("rte=t.csv", [], "task of GLUE"),
        ("../up=t.csv", [], "pattern"),
        ("t.csv", ["t.metrics=bleu"], "bleu"),
        ("t.csv", ["other.dev=0.2"], r"TASK.FIELD=VALUE \(tasks: t\)"),
        ("t.csv", ["dev=0.2"], "TASK.FIELD=VALUE"),
        ("t.csv", ["t.dev"], "field=value"),
        ("t.csv", ["t.labels=[a"], "not readable YAML"),
        ("numbers.csv", [], "no column of text"),
        ("many.csv", [], "column 'label' holds fractions or more than 50 values: give --set"),
        ("twice.csv", ["twice.label=a"], "column 'a' appears twice"),
        ("utf16.csv", [], "it is not UTF-8 text"),
    ],
)
def test_what_makes_no_study_is_refused_and_nothing_is_written(
    tmp_path, monkeypatch, file, settings, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "numbers.csv").write_text("a,label\n1,0\n2,1\n")
    many = "".join(f"some text {n},label {n}\n" for n in range(99))
    (tmp_path / "many.csv").write_text(f"a,label\n{many}")
    (tmp_path / "twice.csv").write_text("a,b,a\nx,a text,y\nz,more text,w\n")
    (tmp_path / "utf16.csv").write_text(TABLE, encoding="utf-16")
    path = tmp_path / "mine.yaml"
    with pytest.raises(UserError, match=message):
        write_study(path, [file], settings)
    assert not path.exists()


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kept")
    with pytest.raises(UserError, match="exists"):
        write_study(path, [str(EXAMPLES / "letters.csv")])
    with pytest.raises(UserError, match=r"mine\.yaml"):
        write_study(tmp_path / "mine.txt", [str(EXAMPLES / "letters.csv")])
    assert path.read_text() == "kept"
