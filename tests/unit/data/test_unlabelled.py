"""Unlabelled texts and SNLI: which they are, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import rows

from mtkd import tasks
from mtkd.config.distillation import Unlabelled
from mtkd.config.study import Study, check
from mtkd.data import unlabelled
from mtkd.data.checks import check_split
from mtkd.data.snli import check_snli, load_snli
from mtkd.data.unlabelled import unlabelled_texts
from mtkd.errors import UserError

RTE, MRPC, SST2, STSB = (tasks.get(name) for name in ("rte", "mrpc", "sst2", "stsb"))


def study(**settings) -> Study:
    given = {
        "name": "small",
        "encoders": {"uncased": {"checkpoint": "a/bert"}},
        "tasks": ["rte", "mrpc", "sst2", "stsb"],
        "data": {"source": "synthetic", "scale": 0.2, "max_train": 20},
        "candidates": {"select_on": ["rte"], "ensemble_size": 1},
        "distil": {"teachers": ["rte"]},
    }
    return check(given | settings)


def splits(task: str) -> dict:
    return {"train": check_split(tasks.get(task), "train", rows(tasks.get(task), 20))}


@pytest.fixture(autouse=True)
def snli(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "data"
    (folder / "snli").mkdir(parents=True)
    table = {
        "premise": [f"a man {number} sleeps" for number in range(30)],
        "hypothesis": [f"he {number} is awake" for number in range(30)],
        "label": [number % 4 - 1 for number in range(30)],
    }
    pd.DataFrame(table).to_parquet(folder / "snli" / "train-00000-of-00001.parquet")
    monkeypatch.setenv("MTKD_SNLI", str(folder))
    return folder


def texts_of(task, tmp_path, **settings) -> pd.DataFrame:
    texts = unlabelled_texts(study(), task, Unlabelled(**settings), splits, tmp_path)
    return texts.to_pandas()


def test_pairs_of_snli_without_those_that_have_no_gold_label(tmp_path):
    texts = texts_of(RTE, tmp_path, snli=12)
    assert len(texts) == 12 and list(texts.columns) == ["sentence1", "sentence2", "label", "idx"]
    assert set(texts.label) == {-1} and texts.idx.tolist() == list(range(12))
    numbers = texts.sentence1.str.split().str[2].astype(int)
    assert (numbers % 4 != 0).all()
    assert (texts.sentence2 == [f"he {number} is awake" for number in numbers]).all()
    assert texts_of(RTE, tmp_path, snli=12).equals(texts)
    assert len(texts_of(RTE, tmp_path, snli=500)) == 22


def test_a_task_of_one_text_has_the_first_of_a_pair_and_a_regression_no_class(tmp_path):
    single = texts_of(SST2, tmp_path, snli=4)
    assert list(single.columns) == ["sentence", "label", "idx"]
    assert single.sentence.str.startswith("a man").all()
    assert texts_of(STSB, tmp_path, snli=4).label.isna().all()


def test_what_a_limit_leaves_out_is_not_in_the_training_set(tmp_path):
    texts = texts_of(RTE, tmp_path, left_out_train=15)
    limited = unlabelled.left_out_train(study().data, RTE, 15).to_pandas()
    assert len(texts) == 15 and texts.sentence1.tolist() == limited.sentence1.tolist()
    everything = study(data={"source": "synthetic", "scale": 0.2, "max_train": 5000})
    settings = Unlabelled(left_out_train=5)
    assert not len(unlabelled_texts(everything, RTE, settings, splits, tmp_path))


def test_pairs_of_other_tasks_are_drawn_from_all_of_them_once(tmp_path):
    texts = texts_of(SST2, tmp_path, other_tasks=1000)
    pairs = pd.concat([splits(name)["train"].to_pandas() for name in ("rte", "mrpc", "stsb")])
    train = set(splits("sst2")["train"]["sentence"])
    assert set(texts.sentence) == set(pairs.sentence1) - train
    assert texts.sentence.is_unique


def test_texts_of_the_training_set_are_left_out(tmp_path, monkeypatch):
    same = splits("rte")["train"]
    monkeypatch.setattr(unlabelled, "left_out_train", lambda *_: same)
    assert not len(texts_of(RTE, tmp_path, left_out_train=20))


def test_a_study_that_needs_snli_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setenv("MTKD_SNLI", "./none")
    check_snli(study())
    variant = {"source": "unlabelled", "unlabelled": {"snli": 3}}
    needs = study(adaptation={}, ablation={"variants": {"more": variant}})
    with pytest.raises(UserError) as error:
        check_snli(needs)
    message = str(error.value)
    assert "There is no directory ./none" in message and "MTKD_SNLI" in message
    assert "--set adaptation=null --set ablation.variants.more=null" in message


def test_a_split_that_snli_lacks_is_refused(snli):
    assert np.array_equal(np.unique(load_snli("train")["label"]), [0, 1, 2])
    with pytest.raises(UserError, match="no 'validation' split of SNLI"):
        load_snli("validation")
