"""Algorithm 1 as it is run: it learns, repeats itself, resumes to the last bit, and stops on a loss that is not finite."""

import os
import signal
import subprocess
import sys
import time

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import BertConfig, BertModel

from mtkd import tasks
from mtkd.config.distillation import Distil
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.models.multitask import MultiTaskModel, TransformerEncoder
from mtkd.training.loop import seed_everything, train
from mtkd.training.predict import predict, probabilities, score_rows

VOCABULARY = 120
FAST = Train(learning_rate=3e-3, batch_size=8, epochs=2, precision="fp32", checkpoint_seconds=1000)


def made(task: tasks.Task, count: int, seed: int = 0, soft_targets: bool = False) -> Examples:
    """Random word pieces with a label each: nothing to generalise, all to memorise."""
    random = np.random.default_rng(seed)
    pieces = [[2, *random.integers(5, VOCABULARY, random.integers(4, 12)), 3] for _ in range(count)]
    labels = random.uniform(0, 5, count) if task.regression else np.arange(count) % task.num_outputs
    split = datasets.Dataset.from_dict(
        {
            "label": labels.astype("float32" if task.regression else "int64"),
            "idx": np.arange(count),
            "input_ids": pieces,
            "segment_start": [len(found) // 2 for found in pieces],
        }
    ).cast_column("input_ids", datasets.List(datasets.Value("int32")))
    targets = (
        random.dirichlet(np.ones(task.num_outputs), count).astype("float32")
        if soft_targets
        else None
    )
    return Examples(task, split, "made", soft_targets=targets)


def model_of(
    names: list[str], seed: int = 0, dropout: float = 0.0, width: int = 32
) -> MultiTaskModel:
    seed_everything(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    encoder = TransformerEncoder(BertModel(config, add_pooling_layer=False))
    return MultiTaskModel(
        encoder, [tasks.get(name) for name in names], dict.fromkeys(names, dropout)
    )


def trained(
    tmp_path,
    names=("mnli", "rte", "stsb"),
    seed=0,
    settings=FAST,
    distil=None,
    soft_targets=(),
    count=40,
    model=None,
):
    model = model or model_of(list(names), seed, dropout=0.1)
    examples = {
        name: made(tasks.get(name), count, soft_targets=name in soft_targets) for name in names
    }
    log = train(
        model, examples, settings, seed=seed, checkpoint=tmp_path / "checkpoint", distil=distil
    )
    return model, log


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(
        torch.equal(left, right)
        for left, right in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", [task.name for task in tasks.GLUE.values() if task.train])
def test_overfits_32_examples_of_every_task(name, tmp_path):
    task, examples = tasks.get(name), made(tasks.get(name), 32)
    model = model_of([name])
    train(
        model,
        {name: examples},
        FAST.model_copy(update={"epochs": 100, "learning_rate": 5e-3}),
        seed=0,
        checkpoint=tmp_path / "c",
    )
    rows, _ = score_rows(
        task, "train", probabilities(task, predict(model, examples)), examples.labels
    )
    assert min(row["value"] for row in rows) > 95


def test_a_seed_repeats_itself_and_another_does_not(tmp_path):
    first, log = trained(tmp_path / "a")
    again, log_again = trained(tmp_path / "b")
    other, _ = trained(tmp_path / "c", seed=1)
    assert same(first, again)
    assert [row["loss"] for row in log] == [row["loss"] for row in log_again]
    assert not same(first, other)


def test_soft_targets_change_the_student_and_a_hard_weight_of_one_does_not(tmp_path):
    plain, _ = trained(tmp_path / "a")
    taught, _ = trained(tmp_path / "b", soft_targets=("mnli",))
    ignored, _ = trained(tmp_path / "c", soft_targets=("mnli",), distil=Distil(hard_weight=1.0))
    assert not same(plain, taught)
    assert same(plain, ignored)


def test_the_log_has_losses_of_every_task_and_epoch(tmp_path):
    _, log = trained(tmp_path)
    assert {(row["epoch"], row["task"]) for row in log} == {
        (epoch, name) for epoch in (1, 2) for name in ("mnli", "rte", "stsb")
    }
    assert all(row["loss"] > 0 for row in log)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do(tmp_path):
    model = model_of(["rte"])
    model.heads["rte"].weight.data.fill_(float("nan"))
    with pytest.raises(
        UserError, match=r"loss on RTE is nan at step 1 of epoch 1; lower train.learning_rate"
    ):
        train(model, {"rte": made(tasks.get("rte"), 16)}, FAST, seed=0, checkpoint=tmp_path)


def test_an_accelerator_of_another_precision_in_this_process_is_refused(tmp_path):
    AcceleratorState._reset_state()
    Accelerator(cpu=True, mixed_precision="bf16")  # as a Trainer with bf16=True leaves behind
    try:
        with pytest.raises(
            UserError,
            match=r"^shared: this process already has an Accelerator of another precision.*of its own\.$",
        ):
            train(
                model_of(["rte"]),
                {"rte": made(tasks.get("rte"), 16)},
                FAST,
                seed=0,
                checkpoint=tmp_path,
                title="shared",
            )
    finally:
        AcceleratorState._reset_state()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_training as t
settings = t.FAST.model_copy(update=dict(epochs=6, checkpoint_seconds=0.02))
model, log = t.trained(Path({folder!r}), settings=settings, soft_targets=("mnli",), count=200)
model.save(Path({folder!r}, "end.safetensors"))
"""


def test_a_killed_training_resumed_equals_an_undisturbed_one_to_the_last_bit(tmp_path):
    settings = FAST.model_copy(update={"epochs": 6})
    undisturbed, _ = trained(tmp_path / "a", settings=settings, soft_targets=("mnli",), count=200)
    folder = tmp_path / "b"
    folder.mkdir()
    script = KILLED.format(tests=os.path.dirname(__file__), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while not list(folder.glob("checkpoint/0*")):
        assert process.poll() is None, "the run ended before it wrote a checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "end.safetensors").exists()
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)
    resumed = model_of(["mnli", "rte", "stsb"])
    resumed.load(folder / "end.safetensors")
    assert same(undisturbed, resumed)
