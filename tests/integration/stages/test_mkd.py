"""Students of MKD: the teacher's logits, ways that differ in their targets alone, and shapes."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from integration.stages.small import ASSISTED, MKD, small
from safetensors.torch import load_file

from mtkd.artifacts import read
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.stages import fit, mkd, mtdnn, pretrain, teacher
from mtkd.stages.common import Run, load
from mtkd.stages.inputs import Inputs
from mtkd.training.loop import seed_everything
from mtkd.training.predict import predict
from mtkd.training.soft_targets import read_soft_targets

pytestmark = pytest.mark.usefixtures("work")
LSTM = Run(mkd.NAME, student="lstm", seed=0)
FEW = ["mkd.finetune=null", "mkd.mixed_hard_weight=null"]


def tasks_of(study, *names):
    return [study.task(name) for name in names or study.multitask]


def test_the_stored_logits_are_the_teachers():
    study = small(MKD, *FEW)
    mkd.run(study, "lstm", 0)
    task, inputs = study.task("rte"), Inputs(study, LSTM)
    part = Run(mkd.NAME).part_folder(study, "teacher_logits/rte")
    stored = read(part).file("soft_targets.parquet")
    examples = inputs.train_set("uncased", task)
    model = inputs.new_model("uncased", tasks_of(study), 0.1)
    model.load(inputs[mtdnn.baseline_run(study, 0)].file("model.safetensors"))
    expected = predict(model, examples, study.train.precision)
    logits = read_soft_targets(stored, task).aligned(examples, "logits")
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_a_chain_of_assistants(monkeypatch):
    """Each student has the logits of the one before it, whether or not an ensemble begins."""
    seen, train = {}, fit.train

    def watched(model, training, **named):
        if training.title.startswith(mkd.NAME):
            name, part = training.title.split(".")[1].split("-s0 ")
            seen[name, part] = training.train_sets
        return train(model, training, **named)

    def weights(study, name):
        run = Run(mkd.NAME, student=name, seed=0)
        return load_file(read(run.part_folder(study, "mtl-kd/all")).file("model.safetensors"))

    monkeypatch.setattr(fit, "train", watched)
    chain = [
        ASSISTED,
        "mkd.students.last={kind: transformer, kept_layers: [0], assistant: assisted}",
    ]
    chain += ["name=chain", "mkd.finetune=null", "mkd.teacher=ensemble"]
    study = small(MKD, *chain)
    artifact = mkd.run(study, "last", 0)
    assert list(artifact.frame("scores.csv").system.unique()) == [
        *("task-kd-last", "mkd-last:mtl", "mkd-last:hard-0.5"),
    ]
    names = ["transformer", "assisted", "last"]  # and none else, such as the student "lstm"
    assert list(dict.fromkeys(name for name, _ in seen)) == names
    inputs = Inputs(study, Run(mkd.NAME, student="lstm", seed=0))
    for assistant, name in pairwise(names):
        model = mkd.new_student(inputs, assistant, tasks_of(study, "rte", "stsb"))
        part = Run(mkd.NAME, student=assistant, seed=0).part_folder(study, "mtl-kd/all")
        model.load(read(part).file("model.safetensors"))
        for task in ("rte", "stsb"):
            examples = inputs.train_set("uncased", study.task(task))
            expected = predict(model, examples, study.train.precision)
            for way in ("mtl-kd/all", "mtl-kd-hard/all", f"stl-kd/{task}"):
                targets = seen[name, way][task].soft_targets
                np.testing.assert_allclose(targets, expected, atol=1e-5)

    seen.clear()
    assert mkd.run(study, "last", 0).fingerprint == artifact.fingerprint and not seen
    before = [weights(study, name) for name in names]
    changed = small(MKD, *chain, "mkd.students.assisted.train={learning_rate: 1.0e-2}")
    assert mkd.run(changed, "last", 0).fingerprint != artifact.fingerprint
    after = [weights(study, name) for name in names]
    assert list(dict.fromkeys(name for name, _ in seen)) == names[1:]
    equal = [[torch.equal(a[one], b[one]) for one in a] for a, b in zip(before, after, strict=True)]
    assert all(equal[0]) and not all(equal[1]) and not all(equal[2])


def test_an_ensemble_as_teacher(monkeypatch):
    study, seen = small(MKD, *FEW, "mkd.teacher=ensemble", "mkd.tasks=[mrpc]"), []
    train = fit.train

    def watched(model, training, **named):
        if "mkd" in training.title:
            seen.append(training)
        return train(model, training, **named)

    monkeypatch.setattr(fit, "train", watched)
    artifact = mkd.run(study, "transformer", 0)
    assert set(artifact.frame("scores.csv").task) == {"mrpc"}
    task = study.task("mrpc")
    stored = load(study, Run(teacher.NAME, task="mrpc"))  # has no teacher in MT-DNN_KD
    inputs, expected = Inputs(study, Run(teacher.NAME, task="mrpc")), []
    for candidate, member in teacher.members(study, "mrpc"):
        model = inputs.new_model(candidate.encoder, [task], candidate.dropout)
        model.load(member.file("model.safetensors"))
        examples = inputs.train_set(candidate.encoder, task)
        expected.append(predict(model, examples, study.train.precision))
    assert len(expected) == 2 and "soft_targets.parquet" in stored.record["files"]
    distilled = [run for run in seen if run.train_sets["mrpc"].soft_targets is not None]
    assert len(seen) == 4 and len(distilled) == 2
    targets = distilled[0].train_sets["mrpc"].soft_targets
    np.testing.assert_allclose(targets, np.mean(expected, axis=0), atol=1e-6)


@pytest.mark.slow
def test_all_ways_have_the_same_batches_from_the_same_start(monkeypatch):
    batches, starts, trained, current = {}, {}, [], []
    batch, train = Examples.batch, fit.train

    def watched_batch(self, rows):
        if any(self is examples for examples in trained):
            batches.setdefault(current[-1], []).append((self.task.name, tuple(rows)))
        return batch(self, rows)

    def watched_train(model, training, **named):
        part = training.title.split()[-1]
        current.append(part.split("/")[0] if "/" in part else part)
        starts[training.title] = model.encoder.reader.lstm.weight_ih_l0.detach().clone()
        trained[:] = training.train_sets.values()
        return train(model, training, **named)

    study = small(MKD, "name=ways", "mkd.train.epochs=2", "mkd.finetune=null")
    load(study, mkd.teacher_run(study))
    monkeypatch.setattr(Examples, "batch", watched_batch)
    monkeypatch.setattr(fit, "train", watched_train)
    mkd.run(study, "lstm", 0)
    assert batches["mtl-hard"] == batches["mtl-kd"] == batches["mtl-kd-hard"]
    assert batches["stl-hard"] == batches["stl-kd"]
    per_task = [sorted(task for task, _ in batches[way]) for way in ("mtl-kd", "stl-kd")]
    assert per_task[0] == per_task[1], "as many updates per task"
    first = starts.pop(next(iter(starts)))
    assert all(torch.equal(first, other) for other in starts.values())
    other_seed = batches.pop("mtl-kd")
    mkd.run(study, "lstm", 1)
    assert batches["mtl-kd"] != other_seed


def test_layerwise_baselines_differ_from_mtl_kd_in_their_loss_alone(monkeypatch):
    batches, starts, trained, current = {}, {}, [], []
    batch, train = Examples.batch, fit.train

    def watched_batch(self, rows):
        if any(self is examples for examples in trained):
            batches.setdefault(current[-1], []).append((self.task.name, tuple(rows)))
        return batch(self, rows)

    def watched_train(model, training, **named):
        current.append(training.title.split()[-1])
        starts[current[-1]] = {name: one.clone() for name, one in model.state_dict().items()}
        starts[current[-1]]["random"] = torch.get_rng_state()
        trained[:] = training.train_sets.values()
        return train(model, training, **named)

    study = small(
        *(MKD, *FEW, "name=layerwise", "encoders.uncased.pretrain.layers=2"),
        *("mkd.students.transformer.kept_layers=[0, 1]", "mkd.finetune={epochs: 1}"),
        *("mkd.layerwise=[pkd, minilm]", "mkd.students.transformer.init_from=teacher"),
    )
    teacher_weights = load(study, mkd.teacher_run(study)).file("model.safetensors").read_bytes()
    monkeypatch.setattr(Examples, "batch", watched_batch)
    monkeypatch.setattr(fit, "train", watched_train)
    artifact = mkd.run(study, "transformer", 0)
    plain = starts["mtl-kd/all"]
    weights = {}
    for way in ("mtl-kd", "pkd", "minilm"):
        part = f"{way}/all"
        assert batches[part] == batches["mtl-kd/all"]
        assert starts[part].keys() == plain.keys()
        assert all(torch.equal(plain[name], starts[part][name]) for name in plain)
        run = Run(mkd.NAME, student="transformer", seed=0)
        weights[way] = load_file(read(run.part_folder(study, part)).file("model.safetensors"))
        assert weights[way].keys() == weights["mtl-kd"].keys()
    name = "encoder.model.encoder.layer.0.output.dense.weight"
    assert len({one[name].sum().item() for one in weights.values()}) == 3
    table = artifact.frame("scores.csv").drop_duplicates("system").set_index("system")
    systems = [f"{way}-transformer{end}" for way in ("pkd", "minilm") for end in (":mtl", "")]
    assert set(systems) <= set(table.index)
    assert set(table.params[["mkd-transformer:mtl", *systems[::2]]]) == {
        table.params["mt-transformer:mtl"]
    }
    after = load(study, mkd.teacher_run(study)).file("model.safetensors").read_bytes()
    assert after == teacher_weights


def test_no_key_of_another_training_changes_with_layerwise_baselines(monkeypatch):
    two = ("mkd.students.transformer.kept_layers=[0, 1]", "encoders.uncased.pretrain.layers=2")
    titles, train = [], fit.train

    def watched(model, training, **named):
        titles.append(training.title.split()[-1])
        return train(model, training, **named)

    mkd.run(small(MKD, *FEW, "name=keys", *two), "transformer", 0)
    monkeypatch.setattr(fit, "train", watched)
    mkd.run(small(MKD, *FEW, "name=keys", *two, "mkd.layerwise=[minilm]"), "transformer", 0)
    assert titles == ["minilm/all"]


@pytest.mark.parametrize("embeddings", ["own", "teacher"])
def test_a_kept_student_can_be_loaded_again(embeddings):
    study = small(MKD, *FEW, f"mkd.students.lstm.embeddings={embeddings}")
    artifact, inputs = mkd.run(study, "lstm", 0), Inputs(study, LSTM)
    part = read(LSTM.part_folder(study, "mtl-kd/all"))
    seed_everything(5)
    model = mkd.new_student(inputs, "lstm", tasks_of(study, "rte", "stsb"))
    model.load(part.file("model.safetensors"))
    predictions = artifact.frame("predictions.parquet")
    rows = predictions[(predictions.system == "mkd-lstm:mtl") & (predictions.task == "stsb")]
    ((_, examples),) = inputs.dev_sets("uncased", study.task("stsb"))
    again = predict(model, examples, study.mkd.train.precision)
    np.testing.assert_allclose(np.stack(rows.outputs), again, atol=1e-5)
    described = part.json("model.json")
    assert described["system"] == "mkd-lstm:mtl" and described["encoder"] == "uncased"
    assert described["student"]["embeddings"] == embeddings
    assert [task["name"] for task in described["tasks"]] == ["rte", "stsb"]


def test_the_artifact_has_the_rows_of_all_systems_and_a_seed_s_fine_tuning():
    study = small(MKD)
    artifact = mkd.run(study, "lstm", 0)
    systems = list(dict.fromkeys(one.system for one in mkd.trainings(study, "lstm")))
    for name in ("scores.csv", "curve.csv", "predictions.parquet"):
        assert list(dict.fromkeys(artifact.frame(name).system)) == systems
    assert set(artifact.frame("scores.csv").seed) == {0}
    weights = [path.parent for path in artifact.path.parent.glob("lstm-s0.parts/**/*.safetensors")]
    kept = {f"{path.parent.name}/{path.name}" for path in weights}
    assert {"mtl-hard/all", "mtl-kd/all", "mtl-kd-hard/all"} == kept


def test_shapes_of_the_small_transformer():
    shapes = {
        "kept": {"init_from": "teacher", "kept_layers": [1]},
        "new": {"init_from": "new", "layers": 3, "hidden": 16, "heads": 4},
    }
    students = {name: {"kind": "transformer", **shape} for name, shape in shapes.items()}
    two = ["name=two", "encoders.uncased.pretrain.layers=2"]
    study = small(MKD, *two, f"mkd.students={json.dumps(students)}")
    inputs = Inputs(study, Run(mkd.NAME, student="kept", seed=0))
    task = study.task("rte")
    model = mkd.new_student(inputs, "kept", [task])
    source = inputs.new_model("uncased", tasks_of(study), 0.1)
    source.load(inputs[mkd.teacher_run(study)].file("model.safetensors"))
    (layer,) = model.encoder.model.encoder.layer
    pairs = zip(layer.parameters(), source.encoder.model.encoder.layer[1].parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    wrong = {"kind": "transformer", "init_from": "teacher", "kept_layers": [5]}
    with pytest.raises(UserError, match=r"mkd.students.wrong: .*the encoder has no layer 5"):
        pretrain.run(small(MKD, *two, f"mkd.students={json.dumps({'wrong': wrong})}"), "uncased")
    model = mkd.new_student(inputs, "new", [task])
    assert model.encoder.width == 16 and len(model.encoder.model.encoder.layer) == 3
    ((_, examples),) = inputs.dev_sets("uncased", task)
    assert np.isfinite(predict(model, examples)).all()
    checkpoint = {"kind": "transformer", "init_from": "checkpoint"}
    checkpoint["checkpoint"] = str(inputs.encoder("uncased").file("encoder"))
    study = small(MKD, *two, f"mkd.students={json.dumps({'same': checkpoint})}")
    inputs = Inputs(study, Run(mkd.NAME, student="same", seed=0))
    assert len(mkd.new_student(inputs, "same", [task]).encoder.model.encoder.layer) == 2
