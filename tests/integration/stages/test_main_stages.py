"""Stages 00 to 05: what their artifacts hold, and when they are made again."""

import json

import numpy as np
import pytest
import torch
from integration.stages.small import small

from mtkd import artifacts
from mtkd.config.study import SYSTEMS
from mtkd.errors import UserError
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages import data, finetune, mtdnn, pretrain, student, teacher
from mtkd.stages.common import Run, load
from mtkd.stages.inputs import Inputs, read_tokenizer
from mtkd.training.predict import predict
from mtkd.training.soft_targets import read_soft_targets

pytestmark = pytest.mark.usefixtures("work")
BASELINE = {"encoder": "uncased", "dropout": 0.1, "seed": 0}


def test_data_are_checked_and_limited():
    study = small()
    artifact = data.run(study)
    splits = data.read_splits(artifact, study.task("rte"))
    assert {name: len(split) for name, split in splits.items()}["train"] == 40
    sizes = artifact.frame("sizes.csv")
    assert set(sizes.task) == {"rte", "stsb", "mrpc"}
    fingerprints = artifact.json("fingerprints.json")
    assert fingerprints["rte"].keys() == splits.keys()
    texts = list(data.train_texts(artifact, [study.task("rte")]))
    assert len(texts) == 80 and set(splits["train"]["sentence1"]) <= set(texts)


def test_an_encoder_and_its_word_pieces():
    study = small()
    uncased, cased = (pretrain.run(study, name) for name in ("uncased", "cased"))
    assert cased.record["inputs"]["parents"].keys() == {"00_data"}
    assert cased.json("origin.json")["from"] == "pretrain"
    inputs = Inputs(study, mtdnn.baseline_run(study, 0))
    for task in map(study.task, study.multitask):
        examples = inputs.train_set("uncased", task)
        assert len(examples) == 40 and examples.lengths.max() <= study.data.max_length
        known = uncased.json("fingerprints.json")[task.name]
        assert examples.fingerprint == known["train"]
    with pytest.raises(UserError, match="has no encoder 'big': its encoders are uncased, cased"):
        pretrain.run(study, "big")


def test_an_example_has_no_more_word_pieces_than_the_encoder_has_positions():
    study = small("data.max_length=100000")
    weights = Inputs(study, mtdnn.baseline_run(study, 0)).encoder("uncased")
    assert read_tokenizer(study, weights)[1] == 64  # max_positions of the tiny encoders


def test_an_mtdnn_has_scores_predictions_and_weights_that_agree():
    study = small()
    artifact = mtdnn.run(study, **BASELINE)
    predictions, scores = artifact.frame("predictions.parquet"), artifact.frame("scores.csv")
    assert set(scores.system) == {"mt-dnn:mtl"} and set(scores.task) == set(study.multitask)
    rows = predictions[predictions.task == "rte"]
    outputs = np.stack(rows.outputs)
    accuracy = 100 * (outputs.argmax(1) == rows.label).mean()
    assert accuracy == pytest.approx(scores[scores.task == "rte"].value.iloc[0], abs=1e-3)
    inputs = Inputs(study, mtdnn.baseline_run(study, 0))
    model = inputs.new_model("uncased", list(map(study.task, study.multitask)), 0.1)
    model.load(artifact.file("model.safetensors"))
    ((_, examples),) = inputs.dev_sets("uncased", study.task("rte"))
    logits = torch.tensor(predict(model, examples, study.train.precision))
    np.testing.assert_allclose(logits.softmax(1), outputs, atol=1e-5)
    described = artifact.json("model.json")
    assert described == {
        "system": "mt-dnn:mtl",
        "tasks": [{"name": name, "custom": None} for name in study.multitask],
        "encoder": "uncased",
        "pooling": "cls",
        "max_length": 48,
        "student": None,
    }


def test_a_custom_task_is_described_with_the_model(ranking_task):
    study = small("name=ranking", "finetune={epochs: 4, learning_rate: 2.0e-3}", *ranking_task)
    described = mtdnn.run(study, **BASELINE).json("model.json")["tasks"]
    assert described[-1]["name"] == "answers"
    assert described[-1]["custom"]["columns"] == ["query", "text"]
    json.dumps(described)


def test_an_artifact_is_made_once_and_again_when_its_settings_change(monkeypatch):
    first = mtdnn.run(small(), **BASELINE)
    monkeypatch.setattr(mtdnn, "fit", None)
    for same in ("distil.hard_weight=0.1", "train.checkpoint_seconds=7", "about=text"):
        assert mtdnn.run(small(same), **BASELINE).fingerprint == first.fingerprint
    assert mtdnn.run(small(), "uncased", 0.1, 0).path == first.path
    with pytest.raises(TypeError):
        mtdnn.run(small("train.learning_rate=0.5"), **BASELINE)
    assert artifacts.read(first.path).fingerprint == first.fingerprint  # a failure leaves it


def test_a_teacher_is_the_ensemble_of_its_members():
    study = small()
    artifact, task = teacher.run(study, "rte"), study.task("rte")
    selection = artifact.frame("selection.csv")
    assert list(selection.kept) == [True, True]
    members = teacher.members(study, "rte")
    assert [candidate.name for candidate, _ in members] == list(selection.candidate)
    frames = [member.frame("predictions.parquet") for _, member in members]
    outputs = np.stack(artifact.frame("predictions.parquet").outputs)
    mean = np.mean([np.stack(frame.outputs) for frame in frames], axis=0)
    np.testing.assert_allclose(outputs, mean, atol=1e-7)
    inputs, logits = Inputs(study, Run(teacher.NAME, task="rte")), []
    for candidate, member in members:
        model = inputs.new_model(candidate.encoder, [task], candidate.dropout)
        model.load(member.file("model.safetensors"))
        examples = inputs.train_set(candidate.encoder, task)
        logits.append(predict(model, examples, study.train.precision))
    targets = read_soft_targets(artifact.file("soft_targets.parquet"), task)
    np.testing.assert_allclose(targets.member_logits, logits, atol=1e-6)
    assert "soft_targets.parquet" not in teacher.run(study, "mrpc").record["files"]
    confidence = artifact.frame("confidence.parquet")
    assert set(confidence.split) == {"train", "validation"}
    assert set(confidence.source) == {"teacher", "member"}


@pytest.mark.slow
@pytest.mark.parametrize("new_head", [True, False])
def test_members_start_from_a_new_head_or_from_their_own(new_head):
    name = f"candidates.new_head={str(new_head).lower()}"
    study = small("name=heads", "finetune.learning_rate=1e-12", name)
    teacher.run(study, "rte")
    candidate, member = teacher.members(study, "rte")[0]
    start = load(study, mtdnn.candidate_run(candidate)).frame("predictions.parquet")
    before = np.stack(start[start.task == "rte"].outputs)
    after = np.stack(member.frame("predictions.parquet").outputs)
    assert (np.abs(before - after).max() > 1e-2) == new_head


def test_a_student_differs_from_the_baseline_by_its_soft_targets():
    study = small()
    artifact, baseline = student.run(study, 0), mtdnn.run(study, **BASELINE)
    frames = [one.frame("predictions.parquet") for one in (artifact, baseline)]
    assert not frames[0].equals(frames[1]) and frames[0].idx.equals(frames[1].idx)
    assert set(artifact.frame("scores.csv").system) == {"mt-dnn-kd:mtl"}


@pytest.mark.slow
def test_systems_are_fine_tuned_from_their_models_and_predict_the_test_sets_once(monkeypatch):
    study = small("name=tuned", "seeds=[0, 1]", "test_predictions=[mt-dnn]")
    loaded, load_weights = [], MultiTaskModel.load

    def watched(self, path, *given, **named):
        loaded.append(path.parent)
        return load_weights(self, path, *given, **named)

    starts = {
        "bert": set(),
        "mt-dnn": {load(study, mtdnn.baseline_run(study, 1)).path},
        "mt-dnn-kd": {load(study, Run(student.NAME, seed=1)).path},
    }
    monkeypatch.setattr(MultiTaskModel, "load", watched)
    for system in SYSTEMS:
        loaded.clear()
        artifact = finetune.run(study, system, 1)
        assert set(loaded) == starts[system]
        assert set(artifact.frame("scores.csv").task) == set(study.trainable)
        assert set(artifact.frame("predictions.parquet").split) == {"validation"}
    for system in ("bert", "mt-dnn"):
        splits = set(finetune.run(study, system, 0).frame("predictions.parquet").split)
        assert splits == {"validation", "test"} - ({"test"} if system == "bert" else set())
    with pytest.raises(UserError, match="no system 'mkd': its systems are bert, mt-dnn, mt-dnn-kd"):
        finetune.run(study, "mkd", 0)
