"""A list of examples chooses the same ones, in the same order, from all data that have them."""

import hashlib

import datasets
import numpy as np
import pandas as pd
import pytest
from helpers import full_mirror, mirror, rows, study

from mtkd import tasks
from mtkd.config.distillation import Unlabelled
from mtkd.config.training import Data
from mtkd.data import examples, glue
from mtkd.data.unlabelled import unlabelled_texts
from mtkd.errors import UserError
from mtkd.stages import Run, keys

RTE, MNLI, STSB = (tasks.get(name) for name in ("rte", "mnli", "stsb"))


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.delenv("MTKD_GLUE", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def shuffled(split: datasets.Dataset, seed: int) -> datasets.Dataset:
    order = np.random.default_rng(seed).permutation(len(split))
    return (
        split.select(order)
        .remove_columns("idx")
        .add_column("idx", np.arange(len(split), dtype="int32"))
    )


@pytest.fixture
def sample(tmp_path):
    """Return a folder with 60 train and 20 dev examples of MNLI, of which two are the same."""
    train = rows(MNLI, 60, seed=1)
    train = datasets.concatenate_datasets([train.select(range(59)), train.select([3])])
    splits = {"train": shuffled(train, 0), "validation_matched": rows(MNLI, 20, seed=2)}
    return mirror(tmp_path / "sample", MNLI, splits)


@pytest.fixture
def whole(tmp_path, sample):
    """Return a folder with these and others, in another order, and the other dev set."""
    own = glue.read_splits(str(sample), MNLI, "MTKD_GLUE")
    splits = {
        name: shuffled(datasets.concatenate_datasets([rows(MNLI, 90, seed=7 + seed), split]), 5)
        for seed, (name, split) in enumerate(own.items())
    }
    splits |= {"validation_mismatched": rows(MNLI, 20, seed=3)}
    splits |= {"test_matched": rows(MNLI, 10, seed=4, label=[-1] * 10)}
    return mirror(tmp_path / "whole", MNLI, splits)


@pytest.fixture
def listed(tmp_path, sample):
    """Return the sample's list: 50 of its train examples and all dev examples."""
    loaded = glue.load_tasks(Data(hub=str(sample)), [MNLI])
    examples.write_list(tmp_path / "list.parquet", loaded, most=50, seed=0)
    return examples.read_list(with_list(tmp_path / "list.parquet"))


def with_list(path, **more):
    return study(data={"examples": str(path)} | more)


def load(folder, listed, **limits):
    return glue.load_tasks(Data(hub=str(folder), **limits), [MNLI], None, listed)["mnli"]


def test_a_sample_and_the_full_data_give_the_same_examples(sample, whole, listed):
    small, large = load(sample, listed), load(whole, listed)
    assert set(small) == {"train", "validation_matched"} == set(large) - {"test_matched"}
    assert len(large["test_matched"]) == 10
    for name in small:
        assert small[name].to_dict() == large[name].to_dict()
        assert small[name].features == large[name].features
        assert small[name]["idx"][:] == list(range(len(small[name])))
        prints = {glue.examples_fingerprint(data[name], MNLI) for data in (small, large)}
        assert len(prints) == 1
    assert len(small["train"]) == 50 and len(small["validation_matched"]) == 20
    hashes = examples.hash_rows(small["train"], MNLI)
    assert list(hashes) == list(listed["mnli"]["train"])


def test_the_hash_is_of_texts_and_label_as_documented():
    split = rows(RTE, 2, sentence1=['a "b"', "é\n"], sentence2=["", "c"], label=[0, 1])
    split = split.cast_column("label", datasets.Value("int64"))
    contents = ['["a \\"b\\"","",0]', '["é\\n","c",1]']
    expected = [hashlib.sha256(content.encode()).digest()[:6] for content in contents]
    assert list(examples.hash_rows(split, RTE)) == expected
    split = rows(STSB, 2, sentence1=["a", "a"], sentence2=["b", "b"], label=[3.8, 5.0])
    expected = [hashlib.sha256(f'["a","b",{score}]'.encode()).digest()[:6] for score in (3.8, 5.0)]
    assert list(examples.hash_rows(split, STSB)) == expected


def test_equal_examples_are_taken_as_often_as_they_are_listed(sample, whole):
    everything = glue.load_tasks(Data(hub=str(sample)), [MNLI])["mnli"]["train"]
    hashes = examples.hash_rows(everything, MNLI)
    assert pd.Series(hashes).duplicated().sum() == 1
    for folder in (sample, whole):
        assert len(load(folder, {"mnli": {"train": hashes}})["train"]) == 60
    twice = pd.Series(hashes)[pd.Series(hashes).duplicated(keep=False)].iloc[[0, 0, 0]].to_numpy()
    with pytest.raises(UserError, match="1 of the 3 examples of MNLI"):
        load(sample, {"mnli": {"train": twice}})


def test_listed_examples_that_are_missing_are_counted(sample, whole, listed, tmp_path):
    examples.write_list(tmp_path / "more.parquet", {"mnli": load(whole, None)}, most=10_000, seed=0)
    more = examples.read_list(with_list(tmp_path / "more.parquet"))
    with pytest.raises(UserError) as error:
        load(sample, more)
    message = str(error.value)
    assert "90 of the 150 examples of MNLI, split 'train'" in message
    assert str(sample) in message and "MTKD_GLUE" in message
    with pytest.raises(UserError, match="20 of the 20 examples of MNLI, split 'validation_mis"):
        load(
            sample, {"mnli": listed["mnli"] | {"validation_mismatched": more["mnli"]["train"][:20]}}
        )
    with pytest.raises(UserError, match="no 'train' example of MNLI"):
        load(sample, {"mnli": {"validation_matched": more["mnli"]["validation_matched"]}})


def test_questions_with_several_candidates_come_first(tmp_path):
    qnli = tasks.get("qnli")
    split = rows(qnli, 6, question=["a", "b", "c", "b", "d", "c"])
    loaded = {"qnli": {"train": split}}
    examples.write_list(tmp_path / "list.parquet", loaded, most=5, seed=0)
    listed = examples.read_list(with_list(tmp_path / "list.parquet"))["qnli"]["train"]
    order = [list(examples.hash_rows(split, qnli)).index(one) for one in listed]
    assert sorted(order[:4]) == [1, 2, 3, 5] and order[4] in (0, 4) and len(order) == 5


def test_a_task_may_have_a_limit_of_its_own(sample, listed):
    data = Data(hub=str(sample), max_train=16, max_train_of={"mnli": 20})
    assert len(load(sample, listed, max_train=16, max_train_of={"mnli": 20})["train"]) == 20
    assert len(glue.left_out_train(data, MNLI, 99, None, listed)) == 30
    assert data.most_train("rte") == 16 and data.limited and not Data().limited


def test_limits_take_the_first_and_what_they_leave_out_follows(sample, whole, listed):
    order = load(sample, listed)["train"]["premise"][:]
    for folder in (sample, whole):
        data = Data(hub=str(folder), max_train=20, max_dev=16)
        loaded = load(folder, listed, max_train=20, max_dev=16)
        assert loaded["train"]["premise"][:] == order[:20]
        assert len(loaded["validation_matched"]) == 16
        left = glue.left_out_train(data, MNLI, 25, None, listed)
        assert left["premise"][:] == order[20:45]
        assert glue.left_out_train(data, MNLI, 99, None, listed)["premise"][:] == order[20:]


def test_further_texts_of_a_study_follow_in_its_list(whole, listed, tmp_path):
    loaded = study(
        data={"examples": str(tmp_path / "list.parquet"), "hub": str(whole), "max_train": 20},
    )
    order = load(whole, listed)["train"]["premise"][:]
    train = {"train": load(whole, listed, max_train=20)["train"]}
    texts = unlabelled_texts(
        loaded, MNLI, Unlabelled(left_out_train=9), lambda _: train, tmp_path / "scratch"
    )
    assert set(texts["premise"][:]) <= set(order[20:29]) and len(texts) >= 8


def test_held_out_examples_are_of_the_listed_train_set(sample, whole, listed):
    small, large = (load(folder, listed, holdout_fraction=0.2) for folder in (sample, whole))
    assert {name: len(split) for name, split in small.items()} == {
        "train": 40,
        "validation_matched": 10,
    }
    for name in small:
        assert small[name].to_dict() == large[name].to_dict()


def test_tasks_that_are_not_listed_stay_whole(tmp_path, sample, listed):
    full_mirror(sample, RTE, train=30)
    loaded = glue.load_tasks(Data(hub=str(sample)), [MNLI, RTE], None, listed)["rte"]
    assert {name: len(split) for name, split in loaded.items()} == {
        "train": 30,
        "validation": 20,
        "test": 10,
    }


def test_the_list_s_content_is_part_of_the_keys_and_not_its_path(tmp_path, listed):
    path, other = tmp_path / "list.parquet", tmp_path / "other.parquet"
    run, before = Run("00_data"), keys(with_list(path))[Run("00_data")]
    other.write_bytes(path.read_bytes())
    assert keys(with_list(other))[run] == before
    frame = pd.read_parquet(path)
    frame.iloc[1:].to_parquet(other)
    assert keys(with_list(other))[run] != before != keys(study())[run]


def test_a_file_that_is_no_list_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.examples: there is no file .*none\.parquet"):
        examples.read_list(with_list(tmp_path / "none.parquet"))
    pd.DataFrame({"task": ["rte"], "hash": [b"123456"]}).to_parquet(tmp_path / "list.parquet")
    (tmp_path / "text.parquet").write_text("task,split,hash\n")
    for name in ("list", "text"):
        with pytest.raises(UserError, match="is no list of examples"):
            examples.read_list(with_list(tmp_path / f"{name}.parquet"))
    assert examples.read_list(study()) == {}


def test_the_command_writes_a_list_of_glue(tmp_path, sample, monkeypatch):
    monkeypatch.setenv("MTKD_GLUE", str(sample))
    path = tmp_path / "made.parquet"
    monkeypatch.setattr("sys.argv", ["examples", str(path), "30", "mnli"])
    examples.main()
    made = examples.read_list(with_list(path))
    assert {name: len(hashes) for name, hashes in made["mnli"].items()} == {
        "train": 30,
        "validation_matched": 20,
    }
