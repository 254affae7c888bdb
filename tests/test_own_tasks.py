"""Tasks of one's own: every kind of file, what a bad one is told, `mtkd new`, and the example from its files to the report."""

import json
import os

import datasets
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, mtkd
from typer.testing import CliRunner

from mtkd import tasks
from mtkd.cli import app
from mtkd.config import study as studies
from mtkd.data import custom as files
from mtkd.data import glue as data
from mtkd.errors import UserError
from mtkd.stages.inputs import encoder
from mtkd.workflow import jobs as plan
from mtkd.workflow import run as workflow

EXAMPLE = ROOT / "examples" / "own.yaml"
ENCODERS = {"uncased": {"checkpoint": "some/bert"}, "cased": {"checkpoint": "some/bert-cased"}}
PAIR = {
    "type": "pair",
    "train": "t.csv",
    "dev": 0.25,
    "columns": ["a", "b"],
    "labels": ["no", "yes"],
}
SINGLE = {
    "type": "single",
    "train": "t.csv",
    "dev": 0.25,
    "columns": ["a"],
    "labels": ["no", "yes"],
}
SCORE = {"type": "similarity", "train": "t.csv", "dev": 0.25, "columns": ["a", "b"]}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def made(tmp_path):
    """Writes files and a study of one own task 'mine', and reads the study."""

    def make(task: dict, contents: dict[str, str | bytes], **more) -> studies.Study:
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        text = yaml.safe_dump(
            {"own_tasks": {"mine": task}, "encoders": ENCODERS} | more, allow_unicode=True
        )
        (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
        return studies.load(tmp_path / "study.yaml")

    return make


def read(study: studies.Study, tmp_path) -> dict[str, datasets.Dataset]:
    splits = files.read(study, "mine", tmp_path / "scratch")
    return data.load(study.data, [study.task("mine")], {"mine": splits})["mine"]


def table(separator: str = ",", rows: int = 8) -> str:
    lines = [
        separator.join((f"text {row}", f"other {row}", ("no", "yes")[row % 2]))
        for row in range(rows)
    ]
    return "\n".join([separator.join(("a", "b", "label")), *lines, ""])


# the task's settings, the file's name and content; the texts and labels that are read
GOOD = {
    "CSV with BOM, CRLF, quotes, commas and a newline in a field": (
        "t.csv",
        '\ufeff"a",b,label\r\n"say ""hi"", you",x,no\r\n"two\nlines",y,yes\r\n',
        [('say "hi", you', "x", 0), ("two\nlines", "y", 1)],
    ),
    "TSV with stray quotes": (
        "t.tsv",
        'a\tb\tlabel\n"tis so\t5" wide\tno\n"\t"quoted"\tyes\n',
        [('"tis so', '5" wide', 0), ('"', '"quoted"', 1)],
    ),
    "texts that look like missing values": (
        "t.csv",
        "a,b,label\n,NA,no\nnull,nan,yes\n",
        [("", "NA", 0), ("null", "nan", 1)],
    ),
    "NUL bytes and other scripts": (
        "t.csv",
        "a,b,label\nx\0y,Ωμέγα,no\n雪,🙂,yes\n",
        [("x\0y", "Ωμέγα", 0), ("雪", "🙂", 1)],
    ),
    "spaces round the labels": (
        "t.csv",
        "a,b,label\n1,2, no \n3,4,yes\n",
        [("1", "2", 0), ("3", "4", 1)],
    ),
    "numbers for the classes": (
        "t.csv",
        "a,b,label\nx,y,1\nz,w,0\n",
        [("x", "y", 1), ("z", "w", 0)],
    ),
    "other columns": (
        "t.csv",
        "id,a,label,b\n7,x,yes,y\n01,z,no,w\n",
        [("x", "y", 1), ("z", "w", 0)],
    ),
    "JSON lines": (
        "t.jsonl",
        '{"a": "x", "b": "a\\nb", "label": "yes"}\n{"label": "no", "b": "w", "a": "z"}\n',
        [("x", "a\nb", 1), ("z", "w", 0)],
    ),
    "JSON lines with numbers": (
        "t.jsonl",
        '{"a": "x", "b": "y", "label": 1}\n{"a": "z", "b": "w", "label": 0}\n',
        [("x", "y", 1), ("z", "w", 0)],
    ),
    "JSON lines with whole floats": (
        "t.jsonl",
        '{"a": "x", "b": "y", "label": 1.0}\n{"a": "z", "b": "", "label": 0.0}\n',
        [("x", "y", 1), ("z", "", 0)],
    ),
    "an upper-case ending": (
        "t.CSV",
        "a,b,label\nx,y,yes\nz,w,no\n",
        [("x", "y", 1), ("z", "w", 0)],
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_files_are_read_as_they_stand(made, tmp_path, case):
    name, content, wanted = GOOD[case]
    study = made(PAIR | {"train": name, "dev": name}, {name: content})
    found = read(study, tmp_path)
    assert list(found) == ["train", "validation"]
    for split in found.values():
        assert list(zip(split["a"], split["b"], split["label"], strict=True)) == wanted
        assert split["idx"][:] == [0, 1]


def test_parquet_with_words_categories_or_truth_values(made, tmp_path):
    for labels in (
        ["yes", "no"],
        pd.Categorical(["yes", "no"]),
        [1, 0],
        np.array([1, 0], dtype="int8"),
    ):
        pd.DataFrame({"a": ["x", "z"], "b": ["y", "w"], "label": labels}).to_parquet(
            tmp_path / "t.parquet"
        )
        study = made(PAIR | {"train": "t.parquet", "dev": "t.parquet"}, {})
        assert read(study, tmp_path)["train"]["label"][:] == [1, 0]
    pd.DataFrame({"a": ["x", "z"], "label": [True, False]}).to_parquet(tmp_path / "t.parquet")
    study = made(
        SINGLE | {"train": "t.parquet", "dev": "t.parquet", "labels": ["false", "true"]}, {}
    )
    assert read(study, tmp_path)["train"]["label"][:] == [1, 0]


def test_classes_that_are_numbers_are_words(made, tmp_path):
    study = made(
        SINGLE | {"labels": [1, 2, 5], "dev": "t.csv"}, {"t.csv": "a,label\nx,5\ny,1\nz,2\n"}
    )
    assert study.task("mine").labels == ("1", "2", "5")
    assert read(study, tmp_path)["train"]["label"][:] == [2, 0, 1]


def test_scores_are_numbers_in_the_range_that_the_task_gives(made, tmp_path):
    study = made(
        SCORE | {"dev": "t.csv", "range": [-1, 10]},
        {"t.csv": "a,b,label\nx,y,-1\nz,w, 9.5\nq,r,1e0\n"},
    )
    assert read(study, tmp_path)["train"]["label"][:] == [-1.0, 9.5, 1.0]
    assert (
        study.task("mine").metrics == ("pearson", "spearman")
        and study.task("mine").num_outputs == 1
    )


def test_a_hub_data_set_is_read_by_its_splits_and_class_names(made, tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["ham", "spam"])}
    )
    (tmp_path / "mail").mkdir()
    for split, kinds in (("train", [1, 0, 1]), ("test", [0, 1])):
        made_of = datasets.Dataset.from_dict(
            {"text": [f"{split} {kind}" for kind in kinds], "kind": kinds}, features=features
        )
        made_of.to_parquet(tmp_path / "mail" / f"{split}-00000-of-00001.parquet")
    task = SINGLE | {
        "hub": "mail",
        "train": "train",
        "dev": "test",
        "columns": ["text"],
        "label": "kind",
        "labels": ["spam", "ham"],
    }
    found = read(made(task, {}), tmp_path)
    assert found["train"]["label"][:] == [0, 1, 0] and found["validation"]["text"][:] == [
        "test 0",
        "test 1",
    ]


def test_a_share_of_train_is_held_out_by_the_seed(made, tmp_path):
    parts = []
    for seed in (0, 0, 1):
        found = read(
            made(PAIR | {"dev": 0.25}, {"t.csv": table(rows=40)}, data={"seed": seed}), tmp_path
        )
        assert len(found["train"]) == 30 and len(found["validation"]) == 10
        assert sorted([*found["train"]["idx"], *found["validation"]["idx"]]) == list(range(40))
        parts.append(found["validation"]["idx"][:])
    assert parts[0] == parts[1] != parts[2] and parts[0] == sorted(parts[0])


def test_a_test_file_may_lack_labels(made, tmp_path):
    for content in ("a,b\nx,y\n", "a,b,label\nx,y,\n", "a,b,label\nx,y,-1\n"):
        found = read(
            made(PAIR | {"test": "test.csv"}, {"t.csv": table(), "test.csv": content}), tmp_path
        )
        assert found["test"]["label"][:] == [-1]


# settings of the task that differ from PAIR, files; words of the message
BAD_FILES = {
    "no file": (
        {"train": "none.csv"},
        {},
        ["own_tasks.mine", "there is no file", "none.csv", "correct the path"],
    ),
    "no dev file": ({"dev": "none.csv"}, {"t.csv": table()}, ["there is no file", "none.csv"]),
    "a folder": ({"train": "."}, {}, ["is a folder", "name the file"]),
    "an unknown ending": (
        {"train": "t.xlsx"},
        {"t.xlsx": "x"},
        ["t.xlsx", ".csv, .tsv, .jsonl, .parquet", "convert"],
    ),
    "an empty file": ({}, {"t.csv": ""}, ["t.csv is empty", "examples"]),
    "a header alone": ({}, {"t.csv": "a,b,label\n"}, ["mine, split 'train'", "no examples"]),
    "an empty dev file": (
        {"dev": "d.csv"},
        {"t.csv": table(), "d.csv": "a,b,label\n"},
        ["split 'validation' (d.csv)", "no examples"],
    ),
    "a missing text column": (
        {"columns": ["a", "c"]},
        {"t.csv": table()},
        ["column 'c' is missing", "a, b, label", "columns"],
    ),
    "a missing label column": (
        {"label": "kind"},
        {"t.csv": table()},
        ["the label's column 'kind' is missing", "a, b, label"],
    ),
    "no header": ({}, {"t.csv": "x,y,no\nz,w,yes\n"}, ["column 'a' is missing", "x, y, no"]),
    "a column twice": (
        {},
        {"t.csv": "a,b,a,label\nx,y,z,no\n"},
        ["cannot be read as CSV", "multiple columns named a"],
    ),
    "a label that is none": (
        {},
        {"t.csv": "a,b,label\nx,y,no\nz,w,maybe\n"},
        ["row 1", "label 'maybe'", "none of the task's (no, yes)"],
    ),
    "no label": ({}, {"t.csv": "a,b,label\nx,y,no\nz,w,\n"}, ["row 1", "label ''", "no, yes"]),
    "a number without a class": ({}, {"t.csv": "a,b,label\nx,y,2\n"}, ["row 0", "label '2'"]),
    "a fraction for a class": (
        {"train": "t.jsonl"},
        {"t.jsonl": '{"a": "x", "b": "y", "label": 0.5}\n'},
        ["column 'label' holds double", "whole"],
    ),
    "a list for a label": (
        {"train": "t.jsonl"},
        {"t.jsonl": '{"a": "x", "b": "y", "label": ["no"]}\n'},
        ["column 'label' holds list", "label"],
    ),
    "numbers for texts": (
        {"train": "t.jsonl"},
        {"t.jsonl": '{"a": 1, "b": "y", "label": "no"}\n'},
        ["column 'a' holds int64, not text"],
    ),
    "a text that is not there": (
        {"train": "t.jsonl"},
        {
            "t.jsonl": '{"a": "x", "b": "y", "label": "no"}\n{"a": null, "b": "y", "label": "yes"}\n'
            * 4
        },
        ["column 'a' holds no text", "row"],
    ),
    "a column without a text": (
        {},
        {"t.csv": "a,b,label\nx,,no\nz,,yes\n"},
        ["column 'b' is empty in every row"],
    ),
    "too many fields": (
        {},
        {"t.csv": "a,b,label\nx,y,no\nz,w,yes,more\n"},
        ["cannot be read as CSV", "Expected 3 columns, got 4"],
    ),
    "too few fields": (
        {},
        {"t.csv": "a,b,label\nx,no\n"},
        ["cannot be read as CSV", "Expected 3 columns, got 2"],
    ),
    "another encoding": (
        {},
        {"t.csv": "a,b,label\nä,ö,no\n".encode("latin-1")},
        ["cannot be read as CSV", "UTF-8"],
    ),
    "two bytes a character": ({}, {"t.csv": table().encode("utf-16")}, ["split 'train'"]),
    "broken JSON": (
        {"train": "t.jsonl"},
        {"t.jsonl": '{"a": "x", "b"\n'},
        ["cannot be read as JSON lines", "correct"],
    ),
    "a JSON array": (
        {"train": "t.jsonl"},
        {"t.jsonl": '[{"a": "x", "b": "y", "label": "no"}]'},
        ["cannot be read as JSON lines"],
    ),
    "no Parquet": ({"train": "t.parquet"}, {"t.parquet": table()}, ["cannot be read as Parquet"]),
    "one class in train": (
        {"dev": "t.csv"},
        {"t.csv": "a,b,label\nx,y,no\nz,w,no\n"},
        ["all 2 examples have the label 0", "at least two"],
    ),
    "too few to hold out": (
        {"dev": 0.1},
        {"t.csv": table(rows=3)},
        ["0.1 of 3 train examples", "dev"],
    ),
    "words for scores": (
        {"type": "similarity", "labels": []},
        {"t.csv": table()},
        ["row 0", "label 'no' is no number"],
    ),
    "a score out of range": (
        {"type": "similarity", "labels": []},
        {"t.csv": "a,b,label\nx,y,2\nz,w,7\nq,r,0\nq,r,1\n"},
        ["label 7.0", "from 0 to 5"],
    ),
    "no such hub data set": (
        {"hub": "nobody/none", "train": "train", "dev": 0.1},
        {},
        ["hub's data set cannot be had", "nobody/none"],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_what_where_and_how_to_mend_it(
    made, tmp_path, monkeypatch, case
):
    changes, contents, words = BAD_FILES[case]
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    study = made(PAIR | changes, contents)
    with pytest.raises(UserError) as error:
        read(study, tmp_path)
    said = str(error.value)
    assert "\n" not in said and "mine" in said
    for word in words:
        assert word in said, said


# settings of the task that differ from PAIR; words of the message
BAD_TASKS = {
    "no dev split": ({"dev": None}, ["own_tasks.mine: dev", "dev: 0.1"]),
    "a share of all": ({"dev": 1.0}, ["dev", "between 0 and 1", "it is 1"]),
    "an unknown type": (
        {"type": "sorting"},
        ["own_tasks.mine.type", "'single', 'pair', 'similarity' or 'ranking'", "sorting"],
    ),
    "no train file": ({"train": None}, ["own_tasks.mine.train"]),
    "an unknown field": ({"colums": ["a"]}, ["unknown field 'own_tasks.mine.colums'", "columns"]),
    "one column for a pair": ({"columns": ["a"]}, ["type pair has two text columns", "1"]),
    "two columns for a single text": ({"type": "single"}, ["type single has one text column", "2"]),
    "the label for a text": ({"label": "b"}, ["a column stands twice"]),
    "a column twice": ({"columns": ["a", "a"]}, ["a column stands twice"]),
    "a column of every task's": ({"columns": ["a", "idx"]}, ["'idx'", "rename"]),
    "no classes": ({"labels": []}, ["labels", "at least two"]),
    "one class": ({"labels": ["yes"]}, ["labels", "at least two"]),
    "a class twice": ({"labels": ["yes", "no", "yes"]}, ["labels", "once"]),
    "YAML's truth values": ({"labels": [False, True]}, ["labels", "quotes"]),
    "classes of a similarity": ({"type": "similarity"}, ["labels", "scores"]),
    "a range that is none": (
        {"type": "similarity", "labels": [], "range": [5, 5]},
        ["range", "below"],
    ),
    "an unknown metric": (
        {"metrics": ["bleu"]},
        ["own_tasks.mine.metrics.0", "'accuracy'", "bleu"],
    ),
    "a metric of scores": (
        {"metrics": ["pearson"]},
        ["metrics: pearson does not measure type pair", "accuracy, f1, matthews"],
    ),
    "a metric of classes": (
        {"type": "similarity", "labels": [], "metrics": ["f1"]},
        ["f1 does not measure type similarity"],
    ),
    "F1 of three classes": (
        {"labels": ["a", "b", "c"], "metrics": ["f1"]},
        ["f1", "second of two"],
    ),
    "a configuration of no data set": ({"config": "x"}, ["config", "hub"]),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_a_bad_entry_is_refused_with_its_field(made, case):
    changes, words = BAD_TASKS[case]
    with pytest.raises(UserError) as error:
        made(PAIR | changes, {})
    for word in words:
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("rte", "of GLUE"), ("My-Task", "pattern"), ("../x", "pattern"), ("x" * 41, "at most 40")],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, name, words):
    with pytest.raises(UserError, match=words):
        studies.check({"name": "x", "own_tasks": {name: PAIR}, "encoders": ENCODERS})


def test_a_name_that_the_model_s_modules_have_is_refused(made, tmp_path):
    study = studies.check({"name": "x", "own_tasks": {"values": PAIR}, "encoders": ENCODERS})
    with pytest.raises(UserError, match="values_task"):
        files.read(study, "values", tmp_path)


def test_own_tasks_alone_are_trained_chosen_on_and_taught():
    both = {"one": PAIR, "two": SINGLE}
    found = studies.check(
        {"name": "x", "own_tasks": both, "encoders": ENCODERS, "exclude_from_multitask": ["two"]}
    )
    assert (
        found.tasks == ["one", "two"]
        and found.multitask == ["one"]
        and found.trainable == ["one", "two"]
    )
    assert found.candidates.select_on == found.distil.teachers == ["one"]
    found = studies.check(
        {
            "name": "x",
            "own_tasks": both,
            "encoders": ENCODERS,
            "distil": {"teachers": ["two"], "hard_weight": 0.2},
        }
    )
    assert found.distil.teachers == ["two"] and found.candidates.select_on == ["one", "two"]


def test_own_tasks_stand_beside_glue_s():
    found = studies.check(
        {
            "name": "x",
            "own_tasks": {"one": PAIR},
            "tasks": ["rte", "mnli", "qqp", "qnli", "one"],
            "encoders": ENCODERS,
        }
    )
    assert (
        found.multitask[-1] == "one"
        and found.task("rte") is tasks.get("rte")
        and found.task("one").columns == ("a", "b")
    )
    assert "one" not in found.distil.teachers


def test_a_changed_file_is_new_data_and_runs_every_stage_again(made, tmp_path):
    study = made(PAIR, {"t.csv": table()})
    before = data.stage(study).fingerprint, plan.settings_key(study, "00_data")
    assert data.stage(study).fingerprint == before[0]
    study = made(PAIR, {"t.csv": table(rows=12)})
    assert (
        data.stage(study).fingerprint != before[0]
        and plan.settings_key(study, "00_data") != before[1]
    )
    assert not (data.stage(study).path / ".read").exists()


def test_a_study_without_own_tasks_has_the_inputs_that_it_had(tmp_path):
    study = studies.load(ROOT / "tests" / "studies" / "tiny.yaml", "tasks=[rte, mnli, qqp, qnli]")
    inputs = data.stage(study).record["inputs"]
    assert set(inputs) == {"stage", "data", "tasks", "origin"} and inputs["origin"]["generator"]


def test_steps_are_estimated_from_the_file(made):
    study = made(PAIR, {"t.csv": table(rows=100)}, train={"batch_size": 10, "epochs": 2})
    assert {job.name: job.steps for job in plan.jobs(study)}["04_student.s0"] == pytest.approx(
        20, abs=2
    )


def test_a_run_whose_file_is_not_there_starts_nothing(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path / "reports"))
    with pytest.raises(UserError, match="there is no file"):
        workflow.run("mine", made(PAIR, {}), 1, [])
    assert not (tmp_path / "reports").exists() and not (tmp_path / "work").exists()


def test_an_encoder_is_pretrained_from_the_tasks_own_sentences(made):
    recipe = {
        "vocab_size": 80,
        "layers": 1,
        "hidden": 16,
        "heads": 2,
        "max_positions": 32,
        "seq_length": 16,
        "long_seq_length": None,
        "train_tokens": 500,
        "batch_size": 4,
        "packing": "lines",
    }
    study = made(
        PAIR,
        {"t.csv": table(rows=60)},
        encoders={"uncased": {"pretrain": recipe}},
        candidates={"ensemble_size": 1},
    )
    assert encoder(study, "uncased").json("origin.json")["from"] == "pretrain"
    vocabulary = (encoder(study, "uncased").file("encoder") / "tokenizer.json").read_text()
    assert '"other"' in vocabulary and '"text"' in vocabulary


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
    found, wanted = studies.load(tmp_path / "mine.yaml"), studies.load(EXAMPLE)
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
        ["first", "segment_start"],
        "meaning",
    )
    assert sentences.labels == ["different", "same"]
    assert found.place(sentences.train).samefile(
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
    found = studies.load(tmp_path / "mine.yaml").own_tasks["alike"]
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
    (tmp_path / "t.csv").write_text(table(rows=20))
    (tmp_path / "numbers.csv").write_text("a,label\n1,0\n2,1\n")
    with pytest.raises(UserError, match=words):
        new("mine.yaml", *arguments, "--yes")
    assert not (tmp_path / "mine.yaml").exists()


def test_new_overwrites_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("kept")
    with pytest.raises(UserError, match="there already"):
        new(tmp_path / "mine.yaml", "--train", EXAMPLE.parent / "letters.csv", "--yes")
    assert (tmp_path / "mine.yaml").read_text() == "kept"


def test_the_example_runs_from_its_files_to_the_report(tmp_path):
    done = mtkd(
        "run", EXAMPLE, "-c", "2", MTKD_WORK=str(tmp_path / "w"), MTKD_REPORTS=str(tmp_path / "r")
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "r" / "own-example"
    results = pd.read_csv(folder / "results.csv")
    assert set(results.task) == {"letters", "sentences"} and set(results.system) >= {
        "bert",
        "mt-dnn",
        "mt-dnn-kd",
        "mt-dnn-ensemble",
    }
    assert (
        results[(results.system == "mt-dnn-kd") & (results.task == "letters")].value.max() > 50
    ), "three classes: chance is a third"
    assert (
        "letters acc | sentences acc/F1 | Average |" in done.stdout
        and "published" not in done.stdout
    )
    finding = (folder / "finding.md").read_text()
    assert "letters" in finding and "GLUE" not in finding
    assert (
        "| accuracy" not in (folder / "tables" / "table1.md").read_text()
        and "acc/F1" in (folder / "tables" / "table1.md").read_text()
    )
    made_of = json.loads((folder / "run.json").read_text())["study"]["own_tasks"]
    assert made_of["letters"]["train"] == "letters.csv"
    assert "brass hook" not in "".join(page.read_text() for page in folder.glob("*.html")), (
        "no row of the user's data is on a page"
    )
