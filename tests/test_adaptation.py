"""Adaptation with few labels: the shares of SNLI, the same start and examples for all systems, the stage and the report."""

import itertools
import os
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import mirror, rows

from mtkd import adaptation, plan, stages
from mtkd import study as studies
from mtkd.data import transfer
from mtkd.encoders import encoder
from mtkd.errors import UserError
from mtkd.tasks import SNLI

TINY = Path(__file__).parent / "studies" / "tiny.yaml"
SECTION = "adaptation={shares: [0.01, 0.1, 1.0], seeds: [0], max_train: 100, max_dev: 40, least_updates: 5}"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder that this module's tests share, and made-up rows in SNLI's layout."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        for name in [name for name in os.environ if name.startswith("MTKD_")]:
            patch.delenv(name)
        patch.setenv("MTKD_WORK", str(folder / "artifacts"))
        patch.setenv("MTKD_REPORTS", str(folder / "reports"))
        splits = {"train": rows(SNLI, 120, seed=1), "validation": rows(SNLI, 50, seed=2)}
        patch.setenv("MTKD_TRANSFER", str(mirror(folder / "transfer", SNLI, splits)))
        yield folder


def tiny(*overrides: str) -> studies.Study:
    few = ["tasks=[rte, mrpc]", "single_only=[]", "candidates={dropouts: [0.1], keep: 1, select_on: [rte]}", "distil.teachers=[rte]"]
    return studies.load(TINY, ["train.epochs=1", "mkd=null", *few, SECTION, *overrides])


def test_a_share_is_within_every_larger_one_and_another_seed_draws_others():
    parts = [adaptation.subset(1000, share, 3) for share in (0.0001, 0.01, 0.1, 1.0)]
    assert [len(part) for part in parts] == [1, 10, 100, 1000]
    for small, large in itertools.pairwise(parts):
        assert set(small) < set(large)
    assert (parts[-1] == np.arange(1000)).all() and (np.diff(parts[2]) > 0).all()
    assert set(parts[1]) != set(adaptation.subset(1000, 0.01, 4))


def test_rows_without_a_gold_label_are_left_out_and_the_rest_keep_their_numbers(tmp_path, monkeypatch):
    unlabelled = rows(SNLI, 7).remove_columns("idx").cast_column("label", datasets.Value("int64"))
    unlabelled = unlabelled.map(lambda row, place: {"label": -1 if place in (1, 4) else row["label"]}, with_indices=True)
    monkeypatch.setenv("MTKD_TRANSFER", str(mirror(tmp_path, SNLI, {"train": unlabelled})))
    found = transfer.snli("train")
    assert found.column_names == ["premise", "hypothesis", "label", "idx"]
    assert found["idx"][:] == [0, 2, 3, 5, 6] and found["label"][:] == [0, 2, 0, 2, 0]
    with pytest.raises(UserError, match="no 'validation' split of SNLI \\(they have train\\)"):
        transfer.snli("validation")


def test_a_missing_directory_and_another_s_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_TRANSFER", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"There is no directory .*nowhere: set MTKD_TRANSFER \(or the study's adaptation\.hub\)"):
        transfer.snli("train")
    monkeypatch.setenv("MTKD_TRANSFER", str(tmp_path))
    with pytest.raises(UserError, match=r"not a SNLI directory: it has no snli/train-\*\.parquet. Give MTKD_TRANSFER a copy"):
        transfer.snli("train")


def test_the_settings_are_checked():
    for change, words in {"seeds: [7]": "adaptation.seeds: 7 is not one of the study's seeds (0, 1)", "shares: [0.1, 0.1]":
                          "adaptation.shares: a value stands twice", "shares: [0]": "greater than 0", "share: [1]":
                          "unknown field 'adaptation.share'; known there: hub, shares", "train: {epoch: 1}":
                          "unknown field 'adaptation.train.epoch'; known there: learning_rate, batch_size, epochs"}.items():  # fmt: skip
        with pytest.raises(UserError) as error:
            studies.load(TINY, [f"adaptation={{{change}}}"])
        assert words in str(error.value)
    with pytest.raises(UserError, match="Study quick adapts nothing to SNLI: give it a section adaptation"):
        adaptation.adaptation(studies.load("quick"), "bert", 0)


def test_small_shares_have_as_many_updates_as_are_asked_for():
    study = tiny("adaptation.train={epochs: 2, batch_size: 8}", "adaptation.least_updates=20")
    epochs = {size: plan.adaptation_training(study, size).epochs for size in (1, 8, 9, 80, 81, 1000)}
    assert epochs == {1: 20, 8: 20, 9: 10, 80: 2, 81: 2, 1000: 2}
    assert plan.adaptation_training(study, 9).batch_size == 8 and not plan.adaptation_training(study, 9).score_every_epoch
    assert plan.adaptation_training(tiny("finetune.learning_rate=0.5"), 9).learning_rate == 0.5
    steps = [job.steps for job in plan.jobs(study) if job.notebook == "06_adaptation"]
    assert steps == [20 + 2 * 10 + 2 * 13] * 3  # 1, 10 and 100 examples by three systems


def test_all_systems_start_with_the_same_head_on_the_same_batches(work, monkeypatch):
    study, seen = tiny(), {}

    def look(model, train_sets, dev_sets, test_sets, settings, seed, out, inputs, system, **_):
        (examples,) = train_sets.values()
        assert list(train_sets) == ["snli"] and len(dev_sets[0][1]) == 40
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        seen[system, len(examples)] = (examples.idx.tolist(), weights, settings)
        pd.DataFrame([{"task": "snli"}]).to_csv(out / "scores.csv", index=False)

    monkeypatch.setattr(adaptation, "fit", look)
    monkeypatch.setenv("MTKD_WORK", str(work / "artifacts"))
    monkeypatch.setattr(adaptation, "folder", lambda study, *parts: work / "looked" / Path(*parts))
    for system in plan.SYSTEMS:
        adaptation.adaptation(study, system, 0)
    assert {size for _, size in seen} == {1, 10, 100} and len(seen) == 9
    for size in (1, 10, 100):
        first, weights, settings = seen["bert", size]
        for system in ("mt-dnn", "mt-dnn-kd"):
            other, its, its_settings = seen[system, size]
            assert other == first and its_settings == settings
            assert torch.equal(its["heads.snli.weight"], weights["heads.snli.weight"])
    assert set(seen["bert", 1][0]) < set(seen["bert", 10][0]) < set(seen["bert", 100][0])
    parents = {"mt-dnn": stages.mtdnn(study, "uncased", 0.1, 0), "mt-dnn-kd": stages.student(study, 0)}
    for system, parent in parents.items():
        model = stages.new_model(study, encoder(study, "uncased"), list(map(study.task, study.multitask)), 0.0)
        model.load(parent.file("model.safetensors"))
        for name, value in model.encoder.state_dict().items():
            assert torch.equal(value, seen[system, 10][1][f"encoder.{name}"]), (system, name)
    assert not torch.equal(*(seen[system, 10][1]["encoder.model.encoder.layer.0.output.dense.weight"] for system in ("bert", "mt-dnn")))


def test_the_stage_scores_every_share_and_is_not_done_again(work, monkeypatch):
    study = tiny()
    done = adaptation.adaptation(study, "mt-dnn", 0)
    table = adaptation.scores(done)
    assert list(table.share) == [0.01, 0.1, 1.0] and list(table.examples) == [1, 10, 100] and list(table.updates) == [5, 5, 8]
    assert set(table.task) == {"snli"} and set(table.split) == {"validation"} and set(table.n) == {40}
    assert table.value.between(0, 100).all() and set(table.system) == {"mt-dnn"}
    assert "model.safetensors" not in done[0].record["files"]
    monkeypatch.setattr(adaptation, "fit", None)
    assert [run.fingerprint for run in adaptation.adaptation(study, "mt-dnn", 0)] == [run.fingerprint for run in done]
    with pytest.raises(UserError, match="no system 'mkd' to fine-tune: the systems are bert, mt-dnn, mt-dnn-kd"):
        adaptation.adaptation(study, "mkd", 0)
