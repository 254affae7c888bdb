"""Algorithm 1: it learns, repeats itself, resumes to the last bit, and stops on a loss of nan."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import (
    ENVIRONMENT,
    FAST,
    NAMES,
    random_examples,
    same_weights,
    small_model,
    small_run,
    stopped_at_save,
    train_small,
)

from mtkd import tasks
from mtkd.config.distillation import Distil
from mtkd.errors import UserError
from mtkd.training import loop, metrics
from mtkd.training.loop import Trainer, TrainingRun, make_optimizer, train
from mtkd.training.losses import task_loss
from mtkd.training.predict import predict, probabilities, score_rows


@pytest.mark.parametrize("name", [task.name for task in tasks.GLUE.values() if task.train])
def test_overfits_32_examples_of_every_task(name, tmp_path):
    task, model = tasks.get(name), small_model([name])
    run = small_run(32, [name], epochs=60, learning_rate=1e-2)
    train(model, run, checkpoint=tmp_path / "c.pt")
    examples = run.train_sets[name]
    outputs = probabilities(task, predict(model, examples))
    rows, _ = score_rows(task, "train", outputs, examples.labels)
    assert min(row["value"] for row in rows) > 95


def test_a_seed_repeats_itself_and_another_does_not(tmp_path):
    first, log = train_small(tmp_path / "a", small_run())
    again, log_again = train_small(tmp_path / "b", small_run())
    other, _ = train_small(tmp_path / "c", small_run(), seed=1)
    assert same_weights(first, again) and not same_weights(first, other)
    assert [row["loss"] for row in log] == [row["loss"] for row in log_again]


def test_soft_targets_change_the_student_and_a_hard_weight_of_one_does_not(tmp_path):
    plain, _ = train_small(tmp_path / "a", small_run())
    distilled, _ = train_small(tmp_path / "b", small_run(soft=["mnli"]))
    hard = Distil(hard_weight=1.0)
    ignored, _ = train_small(tmp_path / "c", small_run(soft=["mnli"]), distil=hard)
    assert not same_weights(plain, distilled)
    assert same_weights(plain, ignored)


def test_annealing_is_at_0_in_the_first_update_and_at_1_in_the_last(tmp_path, monkeypatch):
    done = []

    def seen(*args):
        done.append(args[4])
        return task_loss(*args)

    monkeypatch.setattr(loop, "task_loss", seen)
    train_small(tmp_path, small_run(20, ["mnli", "rte"]), distil=Distil(annealing=True))
    np.testing.assert_allclose(done, np.arange(12) / 11)


@pytest.mark.parametrize("optimizer", ["adamax", "adamw"])
def test_an_update_on_one_task_leaves_the_other_heads_as_they_were(optimizer):
    model = small_model(("cola", *NAMES), dropout=0.1)
    run = small_run(8, ("cola", *NAMES), optimizer=optimizer, weight_decay=0.1)
    trainer = Trainer(model, run, updates=5)
    for number, name in enumerate(run.train_sets):  # the optimizer has a momentum for every head
        trainer.update(name, np.arange(8), number)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.update("rte", np.arange(8), 3)
    changed = {
        name for name, tensor in model.state_dict().items() if (tensor != before[name]).any()
    }
    heads = {name for name in changed if name.startswith("heads.")}
    assert heads == {"heads.rte.weight", "heads.rte.bias"}
    assert any("encoder.layer.0" in name for name in changed)
    assert any("embeddings" in name for name in changed)


def test_a_batch_of_many_word_pieces_is_computed_in_pieces_with_the_same_gradients(monkeypatch):
    run, ends = small_run(16), []
    for most in (loop.CPU_BATCH, 64):
        monkeypatch.setattr(loop, "CPU_BATCH", most)
        model = small_model(NAMES, dropout=0.0)
        trainer = Trainer(model, run, updates=5)
        pieces = trainer._pieces(run.train_sets["rte"], np.arange(16))
        assert (len(pieces) > 1) == (most == 64)
        assert sorted(np.concatenate(pieces)) == list(range(16))
        trainer.update("rte", np.arange(16), 0)
        ends.append((trainer.read_losses(1), model.state_dict()))
    ([(_, _, whole)], first), ([(_, _, sum_of_pieces)], second) = ends
    assert sum_of_pieces == pytest.approx(whole, rel=1e-5)
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_biases_and_layer_norms_are_not_decayed():
    model = small_model()
    decayed, plain = make_optimizer(
        model, FAST.model_copy(update={"weight_decay": 0.1})
    ).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(
        names[id(parameter)].endswith("bias") or "LayerNorm" in names[id(parameter)]
        for parameter in plain["params"]
    )
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_the_log_has_losses_and_scores_of_every_task_and_epoch(tmp_path):
    def scorer(model):
        return [dict(task="rte", split="validation", metric="accuracy", value=50.0, n=4)]

    for every_epoch, scored in ((True, [1, 2]), (False, [2])):
        model, run = small_model(), small_run(score_every_epoch=every_epoch)
        log = train(model, run, checkpoint=tmp_path / "c.pt", scorer=scorer)
        expected = {(epoch, name) for epoch in (1, 2) for name in NAMES}
        assert {(row["epoch"], row["task"]) for row in log} == expected and len(log) == 6
        assert all(row["loss"] > 0 and row["seconds"] > 0 for row in log)
        assert [row["epoch"] for row in log if row.get("value") == 50.0] == scored


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do(tmp_path):
    model = small_model(["rte"])
    model.heads["rte"].weight.data.fill_(float("nan"))
    message = r"the loss is nan on rte in batch 1: lower train.learning_rate \(0.003\)"
    with pytest.raises(UserError, match=message):
        train(model, small_run(16, ["rte"]), checkpoint=tmp_path / "c.pt")


def test_losses_read_several_at_a_time_are_those_of_every_update(tmp_path, monkeypatch):
    class Patient(Trainer):
        def __init__(self, *given):
            super().__init__(*given)
            self.read_every = 4

    run = small_run(checkpoint_seconds=0.02)
    model, log = train_small(tmp_path / "a", run)
    monkeypatch.setattr(loop, "Trainer", Patient)
    other, same = train_small(tmp_path / "b", run)
    assert same_weights(model, other)
    assert [row["loss"] for row in log] == [row["loss"] for row in same]
    model = small_model(["rte"])
    trainer = Patient(model, run, 9)
    for number in range(3):
        if number == 1:
            model.heads["rte"].weight.data.fill_(float("nan"))
        trainer.update("rte", np.arange(8), number)
    with pytest.raises(UserError, match="the loss is nan on rte in batch 7: "):
        trainer.read_losses(8)


def test_a_run_stopped_in_its_second_epoch_ends_with_the_same_bits(tmp_path, monkeypatch):
    run = small_run(soft=["mnli"], checkpoint_seconds=1e-9)
    run = replace(run, distil=Distil(annealing=True))
    undisturbed, log = train_small(tmp_path / "a", run)
    with stopped_at_save(17, monkeypatch) as epochs:
        train_small(tmp_path / "b", run)
    assert epochs[-1] == 1
    resumed, log_resumed = train_small(tmp_path / "b", run)
    assert same_weights(undisturbed, resumed)
    assert [row["loss"] for row in log] == [row["loss"] for row in log_resumed]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run = small_run(checkpoint_seconds=1e-9)
    train_small(tmp_path, run)
    with pytest.raises(UserError, match="of another model"):
        train(small_model(["rte"]), small_run(16, ["rte"]), checkpoint=tmp_path / "checkpoint.pt")


KILLED = """
from pathlib import Path
from small_training import small_run, train_small
run = small_run(200, soft=["mnli"], epochs=6, checkpoint_seconds=0.02)
train_small(Path("."), run)[0].save(Path("end.safetensors"))
"""


@pytest.mark.slow
def test_a_killed_training_resumed_equals_an_undisturbed_one_to_the_last_bit(tmp_path):
    undisturbed, _ = train_small(tmp_path / "a", small_run(200, soft=["mnli"], epochs=6))
    folder, command = tmp_path / "b", [sys.executable, "-c", KILLED]
    folder.mkdir()
    options = {"cwd": folder, "env": ENVIRONMENT, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **options)
    while not (folder / "checkpoint.pt").exists():
        assert process.poll() is None, "the run ended before it wrote a checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "end.safetensors").exists()
    subprocess.run(command, check=True, **options)
    resumed = small_model()
    resumed.load(Path(folder, "end.safetensors"))
    assert same_weights(undisturbed, resumed)


def test_a_task_of_groups_is_ranked(tmp_path):
    groups = np.arange(30) // 2  # labels alternate: one candidate in two is correct
    task = tasks.as_ranking(tasks.get("qnli"))
    examples = random_examples(tasks.get("qnli"), 30, group_ids=groups).replace(task=task)
    run = TrainingRun({task.name: examples}, FAST.model_copy(update={"epochs": 40}), seed=0)
    model = small_model([task])
    train(model, run, checkpoint=tmp_path / "c.pt")
    scores = predict(model, examples)[:, 0].reshape(15, 2)
    assert (scores.argmax(axis=1) == tasks.get("qnli").positive_label).all()


TAGS = tasks.Task("tags", "Tags", "tokens", ("words",), ("O", "B-X", "I-X"), ("entity_f1",))
SPAN = tasks.Task("span", "Span", "span", ("a", "b"), ("start", "end"), ("exact_match",))


@pytest.mark.parametrize("task", [TAGS, SPAN], ids=lambda task: task.name)
def test_overfits_tasks_with_a_label_for_each_word(task, tmp_path):
    examples = random_examples(task, 30)
    run = TrainingRun({task.name: examples}, FAST.model_copy(update={"epochs": 60}), seed=0)
    model = small_model([task])
    train(model, run, checkpoint=tmp_path / "c.pt")
    outputs = probabilities(task, predict(model, examples), examples.idx)
    found, labels = metrics.predicted(task, outputs, examples.idx), examples.labels
    cut = np.concatenate(examples.split["words"]) < 0
    assert cut.sum() == 10
    assert (found == labels)[~cut].mean() > 0.98
    assert np.ptp(predict(model, examples)[cut]) == 0  # nothing is known of a word that is cut off
    row = score_rows(task, "train", outputs, labels, examples.idx)[0][0]
    assert row["n"] == 30
    assert row["value"] > (95 if task is SPAN else 70)
    part = predict(model, examples, rows=range(7, 19))
    np.testing.assert_allclose(
        part, predict(model, examples)[examples.units(range(7, 19))], atol=1e-5
    )
