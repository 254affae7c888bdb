"""The runs that follow from a study: which there are, their updates by hand, and their keys."""

import os
from collections import Counter

import pytest
from helpers import ROOT

from mtkd import stages
from mtkd.config.study import Study, check, load

ENCODERS = {"uncased": {"checkpoint": "a/bert"}, "cased": {"checkpoint": "a/bert-cased"}}


@pytest.fixture(autouse=True)
def places(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_STUDIES", str(ROOT / "studies"))


def study(**settings) -> Study:
    return check({"name": "small", "encoders": ENCODERS} | settings)


def steps_of(loaded: Study) -> dict[str, int]:
    return {run.name: stages.steps(loaded, run) for run in stages.all_runs(loaded)}


def test_runs_of_the_paper():
    runs = stages.all_runs(load("paper"))
    assert Counter(run.stage for run in runs) == {
        "00_data": 1,
        "01_pretrain": 2,
        "02_mtdnn": 6,
        "03_teacher": 8,
        "04_student": 1,
        "05_finetune": 3,
        "11_report": 1,
    }
    assert [run.parameters for run in runs if run.stage == "02_mtdnn"] == [
        {"encoder": name, "dropout": dropout, "seed": 0}
        for name in ("uncased", "cased")
        for dropout in (0.1, 0.2, 0.3)
    ]


def test_steps_of_the_paper_by_hand():
    # Batches of 32: MNLI 12,272, QQP 11,371, QNLI 3,274, SST-2 2,105, CoLA 268, STS-B 180,
    # MRPC 115, RTE 78; WNLI 20.
    steps = steps_of(load("paper"))
    multitask = 5 * (12272 + 11371 + 3274 + 2105 + 268 + 180 + 115 + 78)
    assert multitask == 148315
    assert steps["02_mtdnn.cased-0.3-s0"] == steps["04_student.s0"] == multitask
    assert steps["05_finetune.mt-dnn-kd-s0"] == multitask + 5 * 20
    assert steps["03_teacher.mnli"] == 3 * 5 * 12272
    assert steps["03_teacher.rte"] == 3 * 5 * 78
    assert steps["01_pretrain.cased"] == steps["00_data"] == steps["11_report"] == 0


def test_a_limit_on_the_examples_bounds_the_steps():
    steps = steps_of(load("paper", ["data.max_train=1000", "finetune.epochs=2"]))
    assert steps["04_student.s0"] == 5 * 8 * 32  # every task has more than 1,000
    assert steps["03_teacher.rte"] == 3 * 2 * 32
    assert steps["05_finetune.bert-s0"] == 2 * (8 * 32 + 20)


def test_a_baseline_that_is_a_candidate_is_trained_once():
    def mtdnn(**settings) -> int:
        runs = stages.all_runs(study(seeds=[0, 1], **settings))
        return sum(run.stage == "02_mtdnn" for run in runs)

    assert mtdnn() == 7
    assert mtdnn(model={"encoder_dropout": 0.0}) == 8


def test_pretraining_has_steps_where_there_is_no_checkpoint(monkeypatch):
    recipe = {"train_tokens": 64_000, "seq_length": 32, "batch_size": 20}
    encoders = {"uncased": {"pretrain": recipe}}
    loaded = study(encoders=encoders, candidates={"ensemble_size": 1})
    assert steps_of(loaded)["01_pretrain.uncased"] == 100
    monkeypatch.setenv("MTKD_ENCODER_UNCASED", "some/where")
    assert steps_of(loaded)["01_pretrain.uncased"] == 0


def test_members_of_ensembles_are_fine_tuned_for_their_own_epochs():
    given = {"train": {"epochs": 4}, "finetune": {"epochs": 2}}
    same, longer = steps_of(study(**given)), steps_of(study(**given, candidates={"epochs": 6}))
    assert longer["03_teacher.rte"] == 3 * same["03_teacher.rte"] > 0
    changed = {name for name in same if same[name] != longer[name]}
    assert changed == {f"03_teacher.{name}" for name in study().multitask}


@pytest.mark.parametrize("name", ["MTKD_GLUE", "MTKD_ENCODER_UNCASED"])
def test_a_place_named_by_the_environment_is_part_of_the_keys(monkeypatch, name):
    run = stages.find_run(study(), "02_mtdnn.uncased-0.1-s0")
    before = stages.keys(study())[run]
    monkeypatch.setenv(name, "some/where")
    assert stages.keys(study())[run] != before
