"""Custom tasks: every kind of file is read as it is; a bad one is refused with what and where."""

import os

import datasets
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import PAIR

from mtkd.config.study import Study, load
from mtkd.data import custom
from mtkd.data.glue import load_tasks
from mtkd.errors import UserError

ENCODERS = {"uncased": {"checkpoint": "a/bert"}, "cased": {"checkpoint": "a/bert-cased"}}
SINGLE = PAIR | {"type": "single", "columns": ["a"]}
SCORE = PAIR | {"type": "similarity", "labels": []}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def made(tmp_path):
    """Writes files and a study of one custom task 'mine', and loads the study."""

    def make(task: dict, files: dict[str, str | bytes] = {}, **settings) -> Study:  # noqa: B006
        for name, content in files.items():
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        settings |= {"own_tasks": {"mine": task}, "encoders": ENCODERS}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
        return load(tmp_path / "study.yaml")

    return make


def read(study: Study, tmp_path) -> dict[str, datasets.Dataset]:
    splits = custom.read_custom_task(study, "mine", tmp_path / "scratch")
    return load_tasks(study.data, [study.task("mine")], {"mine": splits})["mine"]


def table(rows: int = 8) -> str:
    lines = [f"text {row},other {row},{('no', 'yes')[row % 2]}" for row in range(rows)]
    return "\n".join(["a,b,label", *lines, ""])


# the file's name and content; the rows that are read
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
    "spaces around labels, numbers as texts": (
        "t.csv",
        "a,b,label\n1,02, no \n3,4,yes\n",
        [("1", "02", 0), ("3", "4", 1)],
    ),
    "numbers for classes, other columns, an upper-case ending": (
        "t.CSV",
        "id,a,label,b\n7,x,1,y\n01,z,0,w\n",
        [("x", "y", 1), ("z", "w", 0)],
    ),
    "JSON lines": (
        "t.jsonl",
        '{"a": "x", "b": "a\\nb", "label": "yes"}\n{"label": "no", "b": "w", "a": "z"}\n',
        [("x", "a\nb", 1), ("z", "w", 0)],
    ),
    "JSON lines with whole floats": (
        "t.jsonl",
        '{"a": "x", "b": "y", "label": 1.0}\n{"a": "z", "b": "", "label": 0.0}\n',
        [("x", "y", 1), ("z", "", 0)],
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_files_are_read_as_they_are(made, tmp_path, case):
    name, content, rows = GOOD[case]
    splits = read(made(PAIR | {"train": name, "dev": name}, {name: content}), tmp_path)
    assert list(splits) == ["train", "validation"]
    for split in splits.values():
        assert list(zip(split["a"], split["b"], split["label"], strict=True)) == rows
        assert split["idx"][:] == [0, 1]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["yes", "no"], ["no", "yes"]),
        (pd.Categorical(["yes", "no"]), ["no", "yes"]),
        (np.array([1, 0], dtype="int8"), ["no", "yes"]),
        ([True, False], ["false", "true"]),
        ([5, 2], [2, 5]),
    ],
)
def test_labels_of_parquet(made, tmp_path, labels, classes):
    pd.DataFrame({"a": pd.Categorical(["x", "z"]), "label": labels}).to_parquet(
        tmp_path / "t.parquet"
    )
    study = made(SINGLE | {"train": "t.parquet", "dev": "t.parquet", "labels": classes})
    assert read(study, tmp_path)["train"].to_dict() == {
        "a": ["x", "z"],
        "label": [1, 0],
        "idx": [0, 1],
    }


def test_scores_are_numbers_in_the_task_s_range(made, tmp_path):
    rows = {"t.csv": "a,b,label\nx,y,-1\nz,w, 9.5\nq,r,1e0\n"}
    study = made(SCORE | {"dev": "t.csv", "range": [-1, 10]}, rows)
    assert read(study, tmp_path)["train"]["label"][:] == [-1.0, 9.5, 1.0]


def test_a_hub_data_set_is_read_by_its_splits_and_class_names(made, tmp_path):
    label = datasets.ClassLabel(names=["ham", "spam"])
    features = datasets.Features({"text": datasets.Value("string"), "kind": label})
    (tmp_path / "mail").mkdir()
    for split, kinds in (("train", [1, 0, 1]), ("test", [0, 1])):
        rows = {"text": [f"{split} {kind}" for kind in kinds], "kind": kinds}
        path = tmp_path / "mail" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    task = SINGLE | {"hub": "mail", "train": "train", "dev": "test", "labels": ["spam", "ham"]}
    splits = read(made(task | {"columns": ["text"], "label": "kind"}), tmp_path)
    assert splits["train"]["label"][:] == [0, 1, 0]
    assert splits["validation"]["text"][:] == ["test 0", "test 1"]


def test_a_fraction_of_train_is_held_out_by_the_seed(made, tmp_path):
    held = []
    for seed in (0, 0, 1):
        splits = read(made(PAIR, {"t.csv": table(40)}, data={"seed": seed}), tmp_path)
        assert (len(splits["train"]), len(splits["validation"])) == (30, 10)
        assert sorted([*splits["train"]["idx"], *splits["validation"]["idx"]]) == list(range(40))
        held.append(splits["validation"]["idx"][:])
    assert held[0] == held[1] != held[2] and held[0] == sorted(held[0])


def test_candidates_of_a_query_are_held_out_together(made, tmp_path):
    rows = [f"query {row % 8},candidate {row},{row % 2}" for row in range(40)]
    files = {"t.csv": "\n".join(["a,b,label", *rows, ""])}
    splits = read(made(PAIR | {"type": "ranking", "labels": []}, files), tmp_path)
    train, dev = (set(splits[name]["a"]) for name in ("train", "validation"))
    assert (len(train), len(dev)) == (6, 2) and not train & dev
    groups = custom.group_ids(splits["train"], "a")
    assert len(set(groups)) == 6 and groups.max() == 5


@pytest.mark.parametrize("content", ["a,b\nx,y\n", "a,b,label\nx,y,\n", "a,b,label\nx,y,-1\n"])
def test_a_test_file_may_lack_labels(made, tmp_path, content):
    study = made(PAIR | {"test": "test.csv"}, {"t.csv": table(), "test.csv": content})
    assert read(study, tmp_path)["test"]["label"][:] == [-1]


JSON = PAIR | {"train": "t.jsonl"}
# settings, files; words of the message
BAD = {
    "no file": (PAIR, {}, "own_tasks.mine: there is no file"),
    "no dev file": (PAIR | {"dev": "d.csv"}, {"t.csv": table()}, "there is no file"),
    "a folder": (PAIR | {"train": "."}, {}, "is a folder: name the file"),
    "an unknown ending": (PAIR | {"train": "t.xlsx"}, {"t.xlsx": "x"}, ".csv, .tsv, .jsonl"),
    "an empty file": (PAIR, {"t.csv": ""}, "t.csv is empty"),
    "a header alone": (PAIR, {"t.csv": "a,b,label\n"}, "mine, split 'train' (t.csv): it has no"),
    "no such column": (
        PAIR | {"columns": ["a", "c"]},
        {"t.csv": table()},
        "column 'c' is missing (there are a, b, label)",
    ),
    "no label column": (PAIR | {"label": "kind"}, {"t.csv": table()}, "column 'kind' is missing"),
    "no header": (PAIR, {"t.csv": "x,y,no\nz,w,yes\n"}, "'a' is missing (there are x, y, no)"),
    "a column twice": (PAIR, {"t.csv": "a,b,a,label\nx,y,z,no\n"}, "column 'a' appears twice"),
    "an unknown label": (
        PAIR,
        {"t.csv": "a,b,label\nx,y,no\nz,w,maybe\n"},
        "(t.csv), row 1: label 'maybe' is none of the task's (no, yes)",
    ),
    "no label": (PAIR, {"t.csv": "a,b,label\nx,y,no\nz,w,\n"}, "row 1: label ''"),
    "a number without a class": (PAIR, {"t.csv": "a,b,label\nx,y,2\n"}, "row 0: label '2'"),
    "a fraction for a class": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": 0.5}\n'},
        "column 'label' holds double, neither text nor whole numbers",
    ),
    "a list for a label": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": ["no"]}\n'},
        "column 'label' holds list",
    ),
    "numbers for texts": (
        JSON,
        {"t.jsonl": '{"a": 1, "b": "y", "label": "no"}\n'},
        "column 'a' holds int64, not text",
    ),
    "no text": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": "no"}\n{"b": "y", "label": "yes"}\n'},
        "row 1: column 'a' holds no text",
    ),
    "a column without a text": (PAIR, {"t.csv": "a,b,label\nx,,no\n"}, "'b' is empty in every row"),
    "too many fields": (
        PAIR,
        {"t.csv": "a,b,label\nx,y,no\nz,w,yes,more\n"},
        "Row #3: Expected 3 columns, got 4",
    ),
    "too few fields": (PAIR, {"t.csv": "a,b,label\nx,no\n"}, "Row #2: Expected 3 columns, got 2"),
    "Latin-1": (PAIR, {"t.csv": "a,b,label\nä,ö,no\n".encode("latin-1")}, "it must be UTF-8 text"),
    "UTF-16": (PAIR, {"t.csv": table().encode("utf-16")}, "mine, split 'train'"),
    "broken JSON": (JSON, {"t.jsonl": '{"a": "x", "b"\n'}, "cannot be read as JSON lines"),
    "a JSON array": (JSON, {"t.jsonl": '[{"a": "x"}]'}, "row 0: the line holds no JSON object"),
    "a JSON null": (JSON, {"t.jsonl": "null\n{}"}, "row 0: the line holds no JSON object"),
    "no Parquet": (PAIR | {"train": "t.parquet"}, {"t.parquet": "x"}, "cannot be read as Parquet"),
    "one class in train": (
        PAIR | {"dev": "t.csv"},
        {"t.csv": "a,b,label\nx,y,no\nz,w,no\n"},
        "all 2 examples have the label 0",
    ),
    "too few to hold out": (PAIR | {"dev": 0.1}, {"t.csv": table(3)}, "0.1 of 3 train examples"),
    "words for scores": (SCORE, {"t.csv": table()}, "row 0: label 'no' is no number"),
    "a score out of range": (
        SCORE,
        {"t.csv": "a,b,label\nx,y,2\nz,w,7\nq,r,0\nq,r,1\n"},
        "label 7.0 is out of range; allowed: a number from 0 to 5",
    ),
    "no such hub data set": (
        PAIR | {"hub": "nobody/none", "train": "train"},
        {},
        "mine, split 'train' (nobody/none): the hub's data set is unavailable",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_what_and_where(made, tmp_path, case):
    task, files, words = BAD[case]
    study = made(task, files)
    with pytest.raises(UserError) as error:
        read(study, tmp_path)
    assert words in str(error.value) and "mine" in str(error.value), str(error.value)


def test_a_name_that_pytorch_reserves_is_refused(tmp_path):
    tasks = {"values": PAIR}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"own_tasks": tasks, "encoders": ENCODERS}))
    with pytest.raises(UserError, match="values_task"):
        custom.read_custom_task(load(tmp_path / "study.yaml"), "values", tmp_path)


def test_the_fingerprint_and_the_count_follow_the_file(made):
    study = made(PAIR, {"t.csv": table(100)})
    before = custom.custom_fingerprint(study, "mine")
    assert custom.custom_fingerprint(study, "mine") == before
    assert custom.count_train_rows(study, "mine") == pytest.approx(100, abs=1)
    assert custom.custom_fingerprint(made(PAIR, {"t.csv": table(12)}), "mine") != before
