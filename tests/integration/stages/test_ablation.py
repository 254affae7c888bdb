"""Variants of distillation: each is the student of its settings and of its soft targets."""

import json

import numpy as np
import pytest
import torch
from integration.stages.small import small
from safetensors.torch import load_file

from mtkd.artifacts import read
from mtkd.data.dataset import Examples
from mtkd.data.glue import left_out_train
from mtkd.errors import UserError
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages import ablation, ensemble, fit, mtdnn, student, teacher
from mtkd.stages.common import Run, load
from mtkd.stages.inputs import Inputs
from mtkd.training.predict import predict
from mtkd.training.soft_targets import read_soft_targets

pytestmark = pytest.mark.usefixtures("work")


def predictions(artifact):
    return artifact.frame("predictions.parquet")


def soft_targets(study, variant, task, seed=0):
    part = Run(ablation.NAME, variant=variant, seed=seed).part_folder(study, f"soft_targets/{task}")
    return read_soft_targets(read(part).file("soft_targets.parquet"), study.task(task))


@pytest.mark.slow
def test_a_variant_is_the_student_of_its_settings():
    study = small(
        same={"hard_weight": 0.5},
        hard={"hard_weight": 1.0},
        kl={"loss": "kl"},
        logits={"loss": "logits"},
    )
    plain = student.run(study, 0)
    made = {name: ablation.run(study, name, 0) for name in study.ablation.variants}
    assert predictions(made["same"]).equals(predictions(plain))
    outputs = {name: np.concatenate(list(predictions(one).outputs)) for name, one in made.items()}
    np.testing.assert_allclose(outputs["kl"], outputs["same"], atol=3e-5)  # the same gradient
    for other in ("logits", "hard"):
        assert np.abs(outputs[other] - outputs["same"]).max() > 1e-4
    scores = made["kl"].frame("scores.csv")
    assert set(scores.system) == {"mt-dnn-kd:kl"} and set(scores.seed) == {0}
    assert set(scores.task) == {"rte", "stsb", "mrpc"}
    # On hard targets alone it is the training of a student without a teacher.
    baseline = load(study, mtdnn.baseline_run(study, 0))
    assert predictions(made["hard"]).equals(predictions(baseline))


def test_more_epochs_are_those_of_the_student_alone():
    study = small(long={"epochs": 2, "hard_weight": 1.0})
    long, plain = ablation.run(study, "long", 0), student.run(study, 0)
    assert set(long.frame("curve.csv").epoch) == {1, 2}
    assert set(plain.frame("curve.csv").epoch) == {1}
    parents = [
        {name for name in artifact.record["inputs"]["parents"] if name.startswith("03")}
        for artifact in (long, plain)
    ]
    assert parents[0] == parents[1] == {"03_teacher.rte", "03_teacher.stsb"}
    twice = small("name=twice", "train.epochs=2", "train.score_every_epoch=false")
    baseline = load(twice, mtdnn.baseline_run(twice, 0))
    assert predictions(long).equals(predictions(baseline))


def test_a_variant_that_combines_tasks_is_trained_as_a_study_that_does():
    combine = {
        "task_weights": "uncertainty",
        "regression_weight": 0.2,
        "batches_per_update": 2,
        "gradients": "pcgrad",
    }
    study = small(combined={"combine": combine, "hard_weight": 1.0})
    made = ablation.run(study, "combined", 0)
    values = made.frame("curve.csv").log_variance
    assert values.notna().all() and (values != 0).any()
    assert "log_variance" not in student.run(study, 0).frame("curve.csv")
    same = small("name=combined", f"train.combine={json.dumps(combine)}")
    baseline = load(same, mtdnn.baseline_run(same, 0))
    assert predictions(made).equals(predictions(baseline))
    assert not predictions(made).equals(predictions(load(study, mtdnn.baseline_run(study, 0))))
    weights = load_file(made.file("model.safetensors"))
    assert not any("variance" in name for name in weights)


def test_ensembles_of_other_sizes_and_teachers_of_more_tasks():
    study = small(
        one={"ensemble_size": 1},
        all={"teachers": ["rte", "stsb", "mrpc"]},
        mrpc={"teachers": ["mrpc"], "ensemble_size": 1},
    )
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            student,
            "train_student",
            lambda _, training, targets, output: (
                seen.update({training.system.partition(":")[2]: targets}),
                (output.folder / "x").touch(),
            ),
        )
        for name in study.ablation.variants:
            ablation.run(study, name, 0)
    whole = teacher.run(study, "rte")
    best = whole.frame("selection.csv").candidate[0]
    assert seen["one"]["rte"].names == [best]
    both = teacher.soft_targets(whole, study.task("rte"), 2)
    np.testing.assert_array_equal(seen["one"]["rte"].probabilities, both.member_probabilities[0])
    assert list(seen["all"]) == ["rte", "stsb", "mrpc"] and list(seen["mrpc"]) == ["mrpc"]
    assert len(seen["all"]["mrpc"].names) == 2 and len(seen["mrpc"]["mrpc"].names) == 1
    ensembles = whole.frame("ensembles.csv")
    assert set(ensembles.system) == {"mt-dnn-ensemble:keep-1"} and set(ensembles.task) == {"rte"}


@pytest.mark.slow
def test_no_cross_fitted_model_predicts_what_it_was_trained_on(monkeypatch):
    """Each train example is predicted by members, and candidates, that were trained without it."""
    study = small(folds={"source": "cross_fit", "folds": 3})
    trained, predicted = {}, {}
    run_fit, load_weights = fit.fit, MultiTaskModel.load

    def watched_fit(inputs, training, output):
        for name, examples in training.train_sets.items():
            trained.setdefault(fold_of(output.folder), []).append((name, set(examples.idx)))
        return run_fit(inputs, training, output)

    def watched_load(self, path, *given, **named):
        self.path = path
        return load_weights(self, path, *given, **named)

    def watched_predict(model, examples, precision, rows):
        key = (examples.task.name, fold_of(model.path))
        predicted.setdefault(key, []).append(set(examples.idx))
        return predict(model, examples, precision, rows)

    def fold_of(path):
        return next((part for part in path.parts if part.endswith("-of-3")), None)

    monkeypatch.setattr(MultiTaskModel, "load", watched_load)
    monkeypatch.setattr(mtdnn, "fit", watched_fit)
    monkeypatch.setattr(ensemble, "fit", watched_fit)
    monkeypatch.setattr(ensemble, "predict", watched_predict)
    artifact = ablation.run(study, "folds", 0)
    folds = ["1-of-3", "2-of-3", "3-of-3"]
    for name in ("rte", "stsb"):
        every = set(load_examples(study, name).idx)
        parts = [predicted[name, fold] for fold in folds]
        assert [len(part) for part in parts] == [2, 2, 2], "two members each"
        assert sorted(idx for part in parts for idx in part[0]) == sorted(every)
        for fold, (part, same) in zip(folds, parts, strict=True):
            sets = [idx for task, idx in trained[fold] if task == name]
            assert part == same and len(sets) == 4, "two candidates, each fine-tuned"
            assert all(idx == every - part for idx in sets)
        targets = soft_targets(study, "folds", name)
        examples = load_examples(study, name)
        assert targets.aligned(examples).shape == (40, study.task(name).num_outputs)
    whole = {len(idx) for fold in folds for task, idx in trained[fold] if task == "mrpc"}
    assert whole == {40}, "a task without a teacher is trained on whole"
    assert set(artifact.frame("scores.csv").system) == {"mt-dnn-kd:folds"}


def load_examples(study, task) -> Examples:
    inputs = Inputs(study, mtdnn.baseline_run(study, 0))
    return inputs.train_set(study.student_encoder, study.task(task))


def test_models_without_a_part_are_shared_by_seeds_and_variants(monkeypatch):
    study = small(
        "seeds=[0, 1]",
        folds={"source": "cross_fit", "folds": 3},
        kl={"source": "cross_fit", "folds": 3, "loss": "kl"},
    )
    ablation.run(study, "folds", 0)
    monkeypatch.setattr(ensemble, "fit", None)  # no member is fine-tuned again
    for name, seed in (("kl", 0), ("kl", 1), ("folds", 1)):
        ablation.run(study, name, seed)
    first = Run(ablation.NAME, variant="folds", seed=0)
    assert first in ablation.parents(study, Run(ablation.NAME, variant="folds", seed=1))


def test_a_model_like_the_student_teaches_all_tasks():
    study = small(
        "seeds=[0, 1]",
        self_2={"source": "self_distillation", "generations": 2},
        self_1={"source": "self_distillation", "generations": 1},
    )
    first = ablation.run(study, "self-1", 0)
    ablation.run(study, "self-2", 0)
    task = study.task("mrpc")
    targets = soft_targets(study, "self-2", "mrpc")
    assert targets.names == ["self-1"]
    inputs = Inputs(study, Run(ablation.NAME, variant="self-2", seed=0))
    model = inputs.new_model("uncased", list(map(study.task, study.multitask)), 0.1)
    model.load(first.file("model.safetensors"))
    examples = inputs.train_set("uncased", task)
    expected = predict(model, examples, study.train.precision)
    np.testing.assert_allclose(targets.aligned(examples, "logits"), expected, atol=1e-6)
    ordered = [run.label for run in ablation.runs(study)]
    assert ordered == ["self-1-s0", "self-1-s1", "self-2-s0", "self-2-s1"]


@pytest.mark.parametrize("sources", [{"snli": 12, "left_out_train": 7, "other_tasks": 9}])
def test_texts_without_a_label_have_soft_targets_alone(sources, monkeypatch):
    study = small(
        same={"source": "unlabelled", "unlabelled": sources},
        more={"source": "unlabelled", "unlabelled": {**sources, "extra_updates": True}},
    )
    batches = {"same": [], "more": []}
    batch, current = Examples.batch, []

    def watched(self, rows):
        made = batch(self, rows)
        if self.soft_targets is not None:
            batches[current[-1]].append(made)
        return made

    monkeypatch.setattr(Examples, "batch", watched)
    for name in batches:
        current.append(name)
        ablation.run(study, name, 0)
    # 40 examples of each of two tasks, and 28 more, in batches of 32.
    assert {name: len(made) for name, made in batches.items()} == {"same": 4, "more": 6}
    masked = [made for made in batches["more"] if made.label_mask is not None]
    assert sum(int((~made.label_mask).sum()) for made in masked) == 2 * 28
    for made in masked:
        labels = made.labels[~made.label_mask]
        assert bool((labels.isnan() if made.task == "stsb" else labels == -1).all())
        assert bool(made.soft_targets.isfinite().all())


@pytest.mark.slow
def test_a_study_s_texts_without_labels_are_left_out_by_a_variant():
    texts = {"left_out_train": 20}
    plain = small("name=plain", texts={"source": "unlabelled", "unlabelled": texts})
    study = small(
        "name=texts",
        "distil.unlabelled={left_out_train: 20}",
        ensemble={"source": "ensemble"},
        softer={"temperature": 2},
    )
    with_texts = predictions(student.run(study, 0))
    assert with_texts.equals(predictions(ablation.run(plain, "texts", 0)))
    without = predictions(ablation.run(study, "ensemble", 0))
    assert without.equals(predictions(student.run(plain, 0))) and not without.equals(with_texts)
    softer = ablation.training_of(study, Run(ablation.NAME, variant="softer", seed=0))
    assert softer.distil.unlabelled.left_out_train == 20
    run = Run(student.NAME, seed=0)
    extra = small("distil.unlabelled={left_out_train: 20, extra_updates: true}")
    assert student.steps(extra, run) == student.steps(study, run) + 2


def test_a_task_without_further_texts_is_trained_without_and_a_study_without_any_is_refused(
    monkeypatch,
):
    read_texts = teacher.unlabelled_texts
    empty = {"rte"}

    def texts(study, task, *given):
        every = read_texts(study, task, *given)
        return every.select([] if task.name in empty else range(5))

    monkeypatch.setattr(teacher, "unlabelled_texts", texts)
    study = small(x={"source": "unlabelled", "unlabelled": {"left_out_train": 6}})
    assert ablation.run(study, "x", 0).frame("scores.csv").value.notna().all()
    part = read(Run(teacher.NAME, task="rte").part_folder(study, "left_out_train-6"))
    assert part.json("notes.json") == ["RTE: there is no text beside its train set (unlabelled)."]
    empty.add("stsb")
    study = small(x={"source": "unlabelled", "unlabelled": {"left_out_train": 8}})
    with pytest.raises(UserError, match="There is no text beside the train sets of RTE, STS-B"):
        ablation.run(study, "x", 0)


@pytest.mark.slow
def test_labels_of_further_texts_differ_in_the_targets_of_these_alone(monkeypatch):
    kinds = {"soft": "soft", "hard": "hard", "vanilla": "mt-dnn", "own": "gold"}
    variants = {
        name: {"source": "unlabelled", "unlabelled": {"left_out_train": 9, "labels": labels}}
        for name, labels in kinds.items()
    }
    # The MT-DNN that labels texts is no candidate: 03_teacher has an edge to it.
    study = small("model.encoder_dropout=0.2", "distil.hard_weight=0.3", **variants)
    batches, batch = {name: [] for name in kinds}, Examples.batch

    def watched(self, rows):
        made = batch(self, rows)
        if self.soft_targets is not None:
            batches[name].append(made)
        return made

    monkeypatch.setattr(Examples, "batch", watched)
    for name in kinds:
        ablation.run(study, name, 0)
    assert len(batches["soft"]) == 4  # as many as without further texts
    rte_texts = 0
    for soft, hard, vanilla, own in zip(*batches.values(), strict=True):
        texts = ~soft.label_mask if soft.label_mask is not None else torch.zeros(len(soft.labels))
        texts = texts.bool()
        for other in (hard, vanilla, own):
            assert other.task == soft.task and other.input_ids.equal(soft.input_ids)
            assert other.token_type_ids.equal(soft.token_type_ids)
            assert other.labels[~texts].equal(soft.labels[~texts])
            assert other.soft_targets[~texts].equal(soft.soft_targets[~texts])
        targets = [one.soft_targets[texts] for one in (soft, hard, vanilla, own)]
        if soft.task == "stsb":
            assert targets[0].equal(targets[1]) and own.labels[texts].equal(targets[3][:, 0])
            continue
        rte_texts += int(texts.sum())
        assert targets[1].equal(torch.eye(2)[targets[0].argmax(1)])
        assert targets[3].equal(torch.eye(2)[own.labels[texts]])
        assert not texts.any() or not targets[2].allclose(targets[0])
    assert rte_texts
    task, run = study.task("rte"), Run(teacher.NAME, task="rte")
    parts = [
        read(run.part_folder(study, f"left_out_train-9{end}.targets")) for end in ("", "-mt-dnn")
    ]
    assert not run.part_folder(study, "left_out_train-9-gold.targets").exists()
    gold = teacher.unlabelled_examples(
        study, study.ablation.variants["own"].unlabelled, task, 2, "probabilities"
    )
    assert list(gold.labels) == left_out_train(study.data, task, 9)["label"]
    inputs = Inputs(study, run)
    model = inputs.new_model("uncased", list(map(study.task, study.multitask)), 0.2)
    model.load(inputs[mtdnn.baseline_run(study, 0)].file("model.safetensors"))
    found = read_soft_targets(parts[1].file("soft_targets.parquet"), task)
    expected = predict(model, gold, study.train.precision)
    np.testing.assert_allclose(found.member_logits[0], expected, atol=1e-6)
    assert found.names == ["mt-dnn"]
