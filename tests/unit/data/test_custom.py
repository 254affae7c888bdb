"""Custom tasks: every kind of file is read as it is; a bad one is refused with what and where."""

import os
from datetime import date
from decimal import Decimal

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from helpers import PAIR, has_string_views
from pyarrow import parquet

from mtkd import tasks
from mtkd.config.study import Study, load
from mtkd.data import custom
from mtkd.data.glue import load_tasks
from mtkd.errors import UserError
from mtkd.inference.reader import source

ENCODERS = {"uncased": {"checkpoint": "a/bert"}, "cased": {"checkpoint": "a/bert-cased"}}
SINGLE = PAIR | {"type": "single", "columns": ["a"]}
SCORE = PAIR | {"type": "similarity", "labels": []}
TEXT = PAIR | {"type": "text", "labels": []}


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


LONG = "word " * 600_000  # 3 MB
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
    "fields of several MB": (
        "t.csv",
        f'a,b,label\nx,"{LONG}",no\n{LONG},w,yes\n',
        [("x", LONG, 0), (LONG, "w", 1)],
    ),
    "whole numbers with fractions for classes": (
        "t.csv",
        "a,b,label\nx,y,0.0\nz,w,1.\n",
        [("x", "y", 0), ("z", "w", 1)],
    ),
    "Excel's line about the separator": (
        "t.csv",
        '\ufeffsep=;\r\na;b;label\r\n"x;";y,;no\r\nz;w;yes\r\n',
        [("x;", "y,", 0), ("z", "w", 1)],
    ),
    "the same in TSV": (
        "t.tsv",
        '"sep=|"\na|b|label\nx|"y|no\nz|w|yes\n',
        [("x", '"y', 0), ("z", "w", 1)],
    ),
    "blank lines and line ends of every kind": (
        "t.csv",
        "\n\na,b,label\r\n\r\nx,y,no\r  \rz,w,yes\n\n",
        [("x", "y", 0), ("z", "w", 1)],
    ),
    "columns without a name and twice, not used": (
        "t.csv",
        ",a,b,label,c,c,,\n0,x,y,no,,,,\n1,z,w,yes,2020-01-01,1,,\n",
        [("x", "y", 0), ("z", "w", 1)],
    ),
    "separators of other standards in a text": (
        "t.csv",
        "a,b,label\nx\u2028x,y\x0by,no\nz\x85,w\x1c,yes\n",
        [("x\u2028x", "y\x0by", 0), ("z\x85", "w\x1c", 1)],
    ),
    "columns of JSON that change their type, not used": (
        "t.jsonl",
        '\ufeff{"a": "x", "b": "2020-01-01", "label": "no", "c": 1}\r\n\r\n'
        '{"a": "z", "b": "12:30:00", "label": "yes", "c": {"d": [1, "e"]}, "e": 1e999}\r',
        [("x", "2020-01-01", 0), ("z", "12:30:00", 1)],
    ),
    "classes of several types, texts of several MB": (
        "t.jsonl",
        f'{{"a": "x", "b": "{LONG}", "label": "no"}}\n{{"a": "z", "b": "w", "label": 1}}\n',
        [("x", LONG, 0), ("z", "w", 1)],
    ),
    "half of a surrogate pair": (
        "t.jsonl",
        '{"a": "\\ud83d", "b": "\\ud83d\\ude42", "label": "no"}\n{"a": "", "b": "w", "label": 1}\n',
        [("?", "🙂", 0), ("", "w", 1)],
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
    texts = source([str(tmp_path / name)], tasks.get("mrpc"), ["a", "b"]).rows
    assert list(texts) == [row[:2] for row in rows], "mtkd predict reads a file alike"


LABELS = {
    "text": (["yes", "no"], ["no", "yes"]),
    "categories": (pd.Categorical(["yes", "no"]), ["no", "yes"]),
    "numbers": (np.array([1, 0], dtype="int8"), ["no", "yes"]),
    "floats": ([1.0, 0.0], ["no", "yes"]),
    "floats of named numbers": ([5.0, 2.0], [2, 5]),
    "halves": (np.array([1, 0], dtype="float16"), ["no", "yes"]),
    "decimals": ([Decimal("1.00"), Decimal("0.00")], ["no", "yes"]),
    "truth values": ([True, False], ["false", "true"]),
    "dates": ([date(2020, 1, 2), date(2020, 1, 1)], ["2020-01-01", "2020-01-02"]),
}
if has_string_views():
    LABELS["string views"] = (pa.array(["yes ", "no"], pa.string_view()), ["no", "yes"])


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_parquet(made, tmp_path, case):
    labels, classes = LABELS[case]
    nested, nulls = [{"b": [1]}, None], pa.nulls(2)
    text = pa.array(["x", "z"], pa.string_view() if "view" in case else pa.large_string())
    columns = {
        "more": nested,
        "a": text,
        "none": nulls,
        "label": labels,
        "id": pa.array([2**63, 0], pa.uint64()),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    study = made(SINGLE | {"train": "t.parquet", "dev": "t.parquet", "labels": classes})
    assert read(study, tmp_path)["train"].to_dict() == {
        "a": ["x", "z"],
        "label": [1, 0],
        "idx": [0, 1],
    }


OTHER_TYPES = {
    "lists": ("a", pa.array([["x"], ["z"]]), "column 'a' holds list<"),
    "objects": ("label", pa.array([{"b": 1}, {"b": 2}]), "holds struct<b: int64>, neither text"),
    "bytes": ("a", pa.array([b"x", b"z"]), "column 'a' holds binary, not text"),
    "times": (
        "a",
        pa.array([0, 1], pa.timestamp("ms")),
        "column 'a' holds timestamp[ms], not text",
    ),
    "nulls": ("a", pa.array(["x", None]), "row 1: column 'a' holds no text"),
}


@pytest.mark.parametrize("case", OTHER_TYPES)
def test_other_columns_of_parquet_are_refused(made, tmp_path, case):
    name, values, words = OTHER_TYPES[case]
    columns = {"a": pa.array(["x", "z"]), "label": pa.array(["no", "yes"])} | {name: values}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError) as error:
        read(made(SINGLE | {"train": "t.parquet"}), tmp_path)
    assert words in str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_whole_scores_may_be_followed_by_fractions(made, tmp_path, suffix):
    scores = [*[2] * 200_000, 2.5]
    frame = pd.DataFrame({"a": "x", "b": "y", "label": scores})
    path = tmp_path / f"t.{suffix}"
    if suffix == "jsonl":
        lines = (f'{{"a": "x", "b": "y", "label": {score}}}\n' for score in scores)
        path.write_text("".join(lines))
    else:
        getattr(frame, f"to_{suffix}")(path, index=False)
    labels = read(made(SCORE | {"train": path.name}), tmp_path)["train"]["label"]
    assert set(labels[:]) | {2.5} == {2.0, 2.5} and len(labels) == 150_001


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


def test_texts_to_write_stay_texts(made, tmp_path):
    files = {"t.csv": "a,b,label\nx,y, 1 \nz,w,no\n", "test.csv": "a,b\nq,r\n"}
    splits = read(made(TEXT | {"dev": "t.csv", "test": "test.csv"}, files), tmp_path)
    assert splits["train"]["label"][:] == ["1", "no"] and splits["test"]["label"][:] == [""]


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
    "no text to write": (
        TEXT,
        {"t.csv": "a,b,label\nx,y,no\nz,w, \n"},
        "(t.csv), row 1: column 'label' has no text to write: fill it in or remove the row",
    ),
    "the same text everywhere": (
        TEXT | {"dev": "t.csv"},
        {"t.csv": "a,b,label\nx,y,no\nz,w,no\n"},
        "all 2 examples have the label no: a task needs at least two to learn from",
    ),
    "no label": (PAIR, {"t.csv": "a,b,label\nx,y,no\nz,w,\n"}, "row 1: label ''"),
    "a number without a class": (PAIR, {"t.csv": "a,b,label\nx,y,2\n"}, "row 0: label '2'"),
    "a fraction for a class": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": 0.5}\n'},
        "row 0: label '0.5' is none of the task's (no, yes)",
    ),
    "a list for a label": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": ["no"]}\n'},
        "row 0: column 'label' holds [\"no\"], not text or a number",
    ),
    "numbers for texts": (
        JSON,
        {"t.jsonl": '{"a": 1, "b": "y", "label": "no"}\n'},
        "row 0: column 'a' holds 1, not text",
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
        "row 1: it cannot be read as CSV (expected 3 columns, got 4)",
    ),
    "too few fields": (
        PAIR,
        {"t.csv": "a,b,label\nx,no\n"},
        "row 0: it cannot be read as CSV (expected",
    ),
    "Latin-1": (PAIR, {"t.csv": "a,b,label\nä,ö,no\n".encode("latin-1")}, "it is not UTF-8 text"),
    "Latin-1 further down": (
        PAIR,
        {"t.csv": (table(2000) + "ä,ö,no\n").encode("latin-1")},
        "it is not UTF-8 text (byte 0xe4: invalid continuation byte)",
    ),
    "UTF-16": (PAIR, {"t.csv": table().encode("utf-16")}, "it is not UTF-8 text (byte 0xff"),
    "UTF-16 without its mark": (
        PAIR,
        {"t.csv": table().encode("utf-16-le")},
        "NUL bytes, as UTF-16 text",
    ),
    "an open quote": (
        PAIR,
        {"t.csv": table(3) + '"x,y,no\n' + table(5)},
        'row 3: it cannot be read as CSV (unexpected end of data): put " around',
    ),
    "a quote that ends too early": (
        PAIR,
        {"t.csv": 'a,b,label\n"the "x" of",y,no\n'},
        "row 0: it cannot be read as CSV (',' expected after '\"')",
    ),
    "another separator": (
        PAIR,
        {"t.csv": table().replace(",", ";")},
        "column 'a' is missing (there are a;b;label): or write sep=; in a first line",
    ),
    "a column twice in Excel's file": (
        PAIR,
        {"t.csv": "sep=;\na;b;a;label\nx;y;z;no\n"},
        "column 'a' appears twice",
    ),
    "classes and columns with commas": (
        PAIR | {"labels": ["no, never", "yes"], "columns": ["a", "b, c"]},
        {"t.csv": 'a,"b, c",label\nx,y,never\n'},
        "label 'never' is none of the task's ('no, never', 'yes')",
    ),
    "no column of a name with a comma": (
        PAIR | {"columns": ["a", "b, c"]},
        {"t.csv": "a, b,c,label\nx,y,z,no\n"},
        "column 'b, c' is missing (there are 'a', ' b', 'c', 'label')",
    ),
    "a field twice in a row": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "a": "z", "label": "no"}\n'},
        "row 0: it cannot be read as JSON lines ('a' appears twice)",
    ),
    "one object in many lines": (JSON, {"t.jsonl": '{\n "a": "x"\n}\n'}, "write one object {...}"),
    "a list for a text": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": "no"}\n{"a": ["x"], "b": "y", "label": "no"}\n'},
        "row 1: column 'a' holds [\"x\"], not text",
    ),
    "a huge number for a class": (
        JSON,
        {"t.jsonl": '{"a": "x", "b": "y", "label": 123456789012345678901234567890}\n'},
        "row 0: label '123456789012345678901234567890' is none",
    ),
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
