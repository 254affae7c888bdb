"""GLUE's tasks: read from a directory, the hub or the generator, checked, limited, counted."""

import os

import datasets
import huggingface_hub
import numpy as np
import pytest
from helpers import full_mirror, has_string_views, mirror, rows

from mtkd import tasks
from mtkd.config.training import Data
from mtkd.data import glue
from mtkd.data.checks import check_split
from mtkd.errors import UserError

RTE, STSB, MNLI, COLA, AX = (tasks.get(name) for name in ("rte", "stsb", "mnli", "cola", "ax"))


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """Nothing of this machine: no directory from the environment, and an empty cache."""
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def message_of(call, *arguments, **more) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("task", tasks.GLUE.values(), ids=list(tasks.GLUE))
def test_a_directory_in_the_hub_s_layout_is_read(task, tmp_path):
    if task.train:
        folder = full_mirror(tmp_path / "glue", task)
    else:
        folder = mirror(tmp_path / "glue", task, {"test": rows(task, 10, label=[-1] * 10)})
    loaded = glue.load_tasks(Data(hub=str(folder)), [task])[task.name]
    assert set(loaded) == {*([task.train] if task.train else []), *task.dev, *task.test}
    for split in loaded.values():
        assert split.column_names == [*task.columns, "label", "idx"]
        assert split.features["label"].dtype == ("float32" if task.regression else "int64")
    assert set(loaded[task.test[0]]["label"]) == {-1}
    if task.train:
        made = rows(task, 40, seed=0)
        assert all(
            loaded["train"][column][:] == made[column][:]
            for column in (*task.columns, "label", "idx")
        )


def test_a_split_in_several_files_is_read_in_order(tmp_path):
    whole = rows(RTE, 30)
    (tmp_path / "rte").mkdir()
    for part in range(3):
        whole.select(range(10 * part, 10 * part + 10)).to_parquet(
            tmp_path / "rte" / f"train-0000{part}-of-00003.parquet"
        )
    assert glue.load_tasks(Data(hub=str(tmp_path)), [RTE])["rte"]["train"]["idx"][:] == list(
        range(30)
    )


def test_columns_that_no_one_asked_for_are_left_out():
    split = rows(RTE, 6).add_column("source", ["web"] * 6)
    assert check_split(RTE, "train", split).column_names == [
        "sentence1",
        "sentence2",
        "label",
        "idx",
    ]


@pytest.mark.skipif(not has_string_views(), reason="this pyarrow has no string views")
def test_string_views_become_strings():
    split = rows(RTE, 4)
    table = split.data.table.set_column(0, "sentence1", split.data.column(0).cast("string_view"))
    features = check_split(RTE, "train", datasets.Dataset(table)).features
    assert features["sentence1"] == datasets.Value("string")


def test_examples_without_idx_are_numbered():
    assert check_split(RTE, "train", rows(RTE, 6).remove_columns("idx"))["idx"][:] == list(range(6))


def labels(*values, task=RTE) -> datasets.Dataset:
    return rows(task, len(values), label=list(values))


SWAPPED = datasets.ClassLabel(names=["not_entailment", "entailment"])
# task, split, its rows, words of the message
BAD = {
    "no text column": (
        RTE,
        "train",
        rows(RTE).remove_columns("sentence2"),
        "'sentence2' is missing",
    ),
    "other columns": (COLA, "train", rows(RTE), "'sentence' is missing (there are sentence1,"),
    "no label": (RTE, "validation", rows(RTE).remove_columns("label"), "'label' is missing"),
    "label below": (RTE, "validation", labels(0, 1, -1), "row 2: label -1 is out of range"),
    "label above": (
        MNLI,
        "train",
        rows(MNLI, 3).remove_columns("label").add_column("label", [0, 3, 1]),
        "row 1: label 3 is out of range; allowed: 0 (entailment), 1 (neutral), 2 (contradiction)",
    ),
    "score above": (STSB, "train", labels(0.0, 5.5, task=STSB), "row 1: label 5.5"),
    "score below": (STSB, "validation", labels(0.0, -0.5, task=STSB), "a number from 0 to 5"),
    "score of NaN": (STSB, "train", labels(0.0, float("nan"), task=STSB), "row 1: label nan"),
    "no score": (STSB, "train", labels(0.0, 1.0, None, task=STSB), "row 2: label nan"),
    "no examples": (RTE, "validation", rows(RTE, 0), "it has no examples"),
    "one class": (RTE, "train", labels(1, 1, 1), "all 3 examples have the label 1"),
    "one score": (STSB, "train", labels(2.5, 2.5, task=STSB), "all 2 examples have the label 2.5"),
    "labels in another order": (
        RTE,
        "train",
        rows(RTE).cast_column("label", SWAPPED),
        "['not_entailment', 'entailment'], the task's are ['entailment', 'not_entailment']",
    ),
    "an idx twice": (RTE, "train", rows(RTE, 4, idx=[0, 7, 1, 7]), "two rows have idx 7"),
    "no text": (
        RTE,
        "train",
        rows(RTE, 3, sentence2=["a", None, "b"]),
        "row 1: column 'sentence2'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_examples_are_refused_with_task_split_and_row(case):
    task, name, split, words = BAD[case]
    message = message_of(check_split, task, name, split, task.test)
    assert message.startswith(f"{task.title}, split '{name}'") and words in message, message


def test_bad_examples_of_a_directory_stop_its_reading(tmp_path):
    folder = mirror(
        tmp_path, RTE, {"train": rows(RTE, 5, label=[0] * 5), "validation": rows(RTE, 5)}
    )
    assert "all 5 examples have the label 0" in message_of(
        glue.load_tasks, Data(hub=str(folder)), [RTE]
    )


def test_a_dev_set_may_hold_one_class_and_a_test_set_no_labels():
    assert len(check_split(RTE, "validation", rows(RTE, 5, label=[1] * 5), RTE.test)) == 5
    assert set(check_split(RTE, "test", rows(RTE, 5, label=[-1] * 5), RTE.test)["label"]) == {-1}
    assert set(check_split(STSB, "test", rows(STSB, 5, label=[-1.0] * 5), STSB.test)["label"]) == {
        -1.0
    }


def test_a_directory_that_is_no_mirror_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    message = message_of(glue.load_tasks, Data(hub=str(tmp_path)), [RTE])
    assert f"{tmp_path} has no rte/train-*.parquet" in message and "MTKD_GLUE" in message


def test_a_mirror_without_a_train_set_is_refused(tmp_path):
    folder = mirror(tmp_path, RTE, {"validation": rows(RTE)})
    message = message_of(glue.load_tasks, Data(hub=str(folder)), [RTE])
    assert "RTE" in message and "no 'train' split" in message and str(folder) in message


@pytest.mark.parametrize("where", ["./none", "../none", "/none/at/all", "~/none-at-all"])
def test_a_directory_that_is_not_there_is_refused_without_asking_the_hub(where, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: pytest.fail("the hub was asked"))
    message = message_of(glue.load_tasks, Data(hub=where), [RTE])
    assert f"There is no directory {where}" in message and "MTKD_GLUE" in message


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_out(monkeypatch):
    def unreachable(*_):
        raise ConnectionError("the name cannot be resolved\nand a long tale")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = message_of(glue.load_tasks, Data(), [RTE])
    for word in (
        "'nyu-mll/glue'",
        "rte",
        "the name cannot be resolved",
        "connect",
        "MTKD_GLUE",
        "directory",
    ):
        assert word in message, message
    assert "long tale" not in message


def test_the_hub_s_own_client_offline_is_the_same_message(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    message = message_of(glue.load_tasks, Data(hub="nobody/no-such-glue"), [RTE])
    assert "'nobody/no-such-glue'" in message and "MTKD_GLUE" in message


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_parquet_file_is_refused(tmp_path, damage):
    path = full_mirror(tmp_path, RTE) / "rte" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[: len(whole) // 2], "text": b"sentence1\tsentence2\n", "empty": b""}[
            damage
        ]
    )
    message = message_of(glue.load_tasks, Data(hub=str(tmp_path)), [RTE])
    assert (
        f"{tmp_path / 'rte'} cannot be read as Parquet" in message
        and "copy that folder again" in message
    )


def test_the_environment_goes_before_the_study(tmp_path, monkeypatch):
    folder = full_mirror(tmp_path, RTE, train=17)
    monkeypatch.setenv("MTKD_GLUE", str(folder))
    assert glue.glue_location(Data(hub="nyu-mll/glue")) == str(folder)
    assert len(glue.load_tasks(Data(hub="./none"), [RTE])["rte"]["train"]) == 17
    monkeypatch.setenv("MTKD_GLUE", "")
    assert glue.glue_location(Data(hub="nyu-mll/glue")) == "nyu-mll/glue"


def test_limits_take_that_many_examples_chosen_by_the_seed(tmp_path):
    folder = full_mirror(tmp_path, RTE, train=60, dev=40, test=30)

    def taken(**limits):
        return glue.load_tasks(Data(hub=str(folder), **limits), [RTE])["rte"]

    loaded = taken(max_train=20, max_dev=16)
    assert {name: len(split) for name, split in loaded.items()} == {
        "train": 20,
        "validation": 16,
        "test": 30,
    }
    whole = rows(RTE, 60)
    for row in loaded["train"]:
        assert {key: row[key] for key in ("sentence1", "sentence2", "label")} == {
            key: whole[row["idx"]][key] for key in ("sentence1", "sentence2", "label")
        }
    chosen = loaded["train"]["idx"][:]
    assert len(set(chosen)) == 20
    assert chosen != list(range(20)), "the first rows of a file are no fair choice"
    assert taken(max_train=20)["train"]["idx"][:] == chosen
    assert taken(max_train=20, seed=1)["train"]["idx"][:] != chosen
    assert (
        taken(max_train=60)["train"]["idx"][:]
        == taken(max_train=500)["train"]["idx"][:]
        == list(range(60))
    )


def test_settings_are_chosen_by_train_examples_held_back_from_training(tmp_path):
    folder = full_mirror(tmp_path, RTE, train=60, dev=40, test=30)
    loaded = glue.load_tasks(Data(hub=str(folder), holdout_fraction=0.25), [RTE])["rte"]
    assert {name: len(split) for name, split in loaded.items()} == {"train": 45, "validation": 15}
    assert sorted(loaded["train"]["idx"][:] + loaded["validation"]["idx"][:]) == list(range(60))
    whole = rows(RTE, 60)
    assert all(row["sentence1"] == whole[row["idx"]]["sentence1"] for row in loaded["validation"])
    with pytest.raises(
        UserError, match=r"data\.holdout_fraction: 0\.001 of RTE's 60 train examples leaves none"
    ):
        glue.load_tasks(Data(hub=str(folder), holdout_fraction=0.001), [RTE])


def test_a_missing_split_is_shown_as_missing(tmp_path):
    folder = mirror(
        tmp_path, MNLI, {"train": rows(MNLI, 12), "validation_matched": rows(MNLI, 6, seed=1)}
    )
    loaded = glue.load_tasks(Data(hub=str(folder)), [MNLI])
    assert set(loaded["mnli"]) == {"train", "validation_matched"}
    table = glue.table1([MNLI], loaded).set_index("split")
    assert table.missing.to_dict() == {
        "train": False,
        "validation_matched": False,
        "validation_mismatched": True,
        "test_matched": True,
        "test_mismatched": True,
    }
    assert table.role.to_dict() == {
        "train": "train",
        "validation_matched": "dev",
        "validation_mismatched": "dev",
        "test_matched": "test",
        "test_mismatched": "test",
    }
    assert table.examples.fillna(-1).to_dict() == {
        "train": 12,
        "validation_matched": 6,
        "validation_mismatched": -1,
        "test_matched": -1,
        "test_mismatched": -1,
    }


def test_table_1_is_counted_from_the_examples():
    train = rows(
        RTE, 4, sentence1=["a b", "c", "d", "e"], sentence2=["x", "y", "z", "w"], label=[0, 0, 0, 1]
    )
    dev = rows(
        RTE, 4, sentence1=["a b", "c", "y", "e"], sentence2=["x", "x", "c", "w"], label=[0, 1, 1, 0]
    )
    table = glue.table1(
        [RTE], {"rte": datasets.DatasetDict(train=train, validation=dev)}
    ).set_index("split")
    assert table.labels["train"] == 2
    assert table.majority.to_dict() == {
        "train": 75.0,
        "validation": 50.0,
        "test": pytest.approx(np.nan, nan_ok=True),
    }
    assert table.words["train"] == 2.2  # (3 + 2 + 2 + 2) / 4 = 2.25
    # "a b" / "x" and "e" / "w" are in train, too; the others swap or mix its texts
    assert table.overlap["validation"] == 50.0
    assert np.isnan(table.overlap["train"])


def test_a_regression_has_no_commonest_label():
    table = glue.table1(
        [STSB],
        {"stsb": datasets.DatasetDict(train=rows(STSB, 6), validation=rows(STSB, 6, seed=1))},
    )
    assert table.majority.isna().all()
    assert set(table.labels) == {1}


def test_the_fingerprint_follows_texts_idx_and_order():
    base = {"sentence1": ["a", "b", "c"], "sentence2": ["x", "y", "z"], "idx": [0, 1, 2]}
    marks = {
        name: glue.examples_fingerprint(rows(RTE, 3, **(base | changes)), RTE)
        for name, changes in {
            "same": {},
            "text": {"sentence1": ["a", "b", "C"]},
            "idx": {"idx": [0, 1, 3]},
            "moved": {"sentence1": ["a", "bx", "c"], "sentence2": ["x", "", "z"]},
            "swapped": {
                "sentence1": ["b", "a", "c"],
                "sentence2": ["y", "x", "z"],
                "idx": [1, 0, 2],
            },
            "columns": {"sentence1": ["x", "y", "z"], "sentence2": ["a", "b", "c"]},
        }.items()
    }
    assert len(set(marks.values())) == len(marks)
    assert glue.examples_fingerprint(rows(RTE, 3, **base), RTE) == marks["same"]
    assert glue.examples_fingerprint(rows(RTE, 3, **base, label=[1, 1, 0]), RTE) == marks["same"]


def test_the_fingerprint_does_not_depend_on_how_rows_are_kept(tmp_path):
    split = check_split(RTE, "train", rows(RTE, 2500))
    glue.write_arrow(split, tmp_path / "train.arrow")
    mark = glue.examples_fingerprint(split, RTE)
    assert (
        glue.examples_fingerprint(datasets.Dataset.from_file(str(tmp_path / "train.arrow")), RTE)
        == mark
    )
    assert glue.examples_fingerprint(split.with_format("numpy"), RTE) == mark


def test_the_generated_suite_needs_no_place_and_follows_the_seed(monkeypatch):
    monkeypatch.setenv("MTKD_GLUE", "./none")
    one, same, other = (
        glue.load_tasks(Data(source="synthetic", scale=0.02, seed=seed), [RTE, MNLI, STSB, AX])
        for seed in (0, 0, 1)
    )
    assert set(one) == {"rte", "mnli", "stsb", "ax"}
    assert set(one["mnli"]) == {"train", *MNLI.dev, *MNLI.test}
    assert one["rte"]["train"][:] == same["rte"]["train"][:] != other["rte"]["train"][:]


def test_what_identifies_the_data_changes_with_them(tmp_path):
    folder = full_mirror(tmp_path, RTE)
    settings = Data(hub=str(folder))
    before = glue.source_fingerprint(settings)
    assert before == glue.source_fingerprint(settings)
    assert str(tmp_path) not in str(before), "the place is not what the data are"
    rows(RTE, 41).to_parquet(folder / "rte" / "train-00000-of-00001.parquet")
    assert glue.source_fingerprint(settings) != before
    assert glue.source_fingerprint(Data()) == {"hub": "nyu-mll/glue"}
    assert set(glue.source_fingerprint(Data(source="synthetic"))) == {"generator"}


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        glue.write_arrow(check_split(RTE, "train", rows(RTE, 30)), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("label", [0, None, 1, 1], ["row 1", "out of range"]),
        ("label", ["entailment"] * 4, ["column 'label' holds something else than whole numbers"]),
        ("label", [0.5, 0.0, 1.0, 1.0], ["column 'label' holds something else than whole numbers"]),
        ("idx", ["a", "b", "c", "d"], ["column 'idx' holds something else than whole numbers"]),
        ("idx", [0, None, 2, 3], ["row 1: idx is empty"]),
    ],
)
def test_columns_that_hold_something_else_are_refused(column, values, words):
    given = {
        "sentence1": list("abcd"),
        "sentence2": list("efgh"),
        "label": [0, 1, 0, 1],
        "idx": [0, 1, 2, 3],
    }
    split = datasets.Dataset.from_dict(given | {column: values})
    message = message_of(check_split, RTE, "train", split)
    assert message.startswith("RTE, split 'train'") and all(word in message for word in words), (
        message
    )
