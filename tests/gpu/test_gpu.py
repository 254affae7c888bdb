"""Training, prediction and export on a CUDA GPU; benchmarks/gpu_study.py runs them there."""

import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from small_training import (
    ENVIRONMENT,
    random_examples,
    same_weights,
    small_model,
    small_run,
    stopped_at_save,
    train_small,
)

from mtkd import tasks
from mtkd.config.training import Combine
from mtkd.training.loop import Trainer
from mtkd.training.predict import predict

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
RTE = tasks.get("rte")
COMBINED = Combine(task_weights="uncertainty", batches_per_update=2, gradients="pcgrad")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_on_the_gpu(precision, tmp_path):
    model, log = train_small(tmp_path, small_run(soft=["mnli"], precision=precision, epochs=30))
    assert next(model.parameters()).is_cuda
    losses = {row["epoch"]: row["loss"] for row in log if row["task"] == "rte"}
    assert losses[30] < 0.3 * losses[1]


@pytest.mark.parametrize("combine", [Combine(), COMBINED])
def test_a_gpu_without_bf16_trains_in_fp16_with_a_scaled_loss(combine, tmp_path, monkeypatch):
    for module in ("loop", "precision"):
        name = f"mtkd.training.{module}.number_format"
        monkeypatch.setattr(name, lambda device: torch.float16)
    epochs = 30 * combine.batches_per_update
    run = small_run(precision="bf16", epochs=epochs, combine=combine)
    assert "scaler" in Trainer(small_model(), run, 9).parts
    _, log = train_small(tmp_path, run)
    losses = {row["epoch"]: row["loss"] for row in log if row["task"] == "rte"}
    assert losses[epochs] < 0.3 * losses[1]


def test_an_update_waits_for_the_gpu_once_at_most():
    # transformers asks in every forward pass whether a batch has padding.
    run = small_run(precision="bf16")
    model = small_model(tuple(run.train_sets), dropout=0.1)
    trainer = Trainer(model, run, 200)
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        for done in range(100):
            torch.cuda.set_sync_debug_mode("warn" if done >= 10 else "default")
            trainer.update("rte", np.arange(8), done)
    torch.cuda.set_sync_debug_mode("default")
    assert len([one for one in waits if "synchronizing" in str(one.message)]) <= 90
    assert len(trainer.read_losses(100)) == 100


@pytest.mark.parametrize(
    ("precision", "combine"), [("fp32", Combine()), ("bf16", Combine()), ("bf16", COMBINED)]
)
def test_a_training_resumed_on_the_gpu_ends_with_the_same_bits(
    precision, combine, tmp_path, monkeypatch
):
    given = {"precision": precision, "combine": combine}
    run = small_run(soft=["mnli"], checkpoint_seconds=1e-9, **given)
    undisturbed, log = train_small(tmp_path / "a", run)
    with stopped_at_save(17 if combine == Combine() else 9, monkeypatch):
        train_small(tmp_path / "b", run)
    resumed, log_resumed = train_small(tmp_path / "b", run)
    assert same_weights(undisturbed, resumed)
    assert [row["loss"] for row in log] == [row["loss"] for row in log_resumed]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_logits_of_the_gpu_are_those_of_the_processor(pooling):
    model, examples = small_model(["rte"], layers=2, pooling=pooling), random_examples(RTE, 700)
    expected = predict(model, examples)
    model.cuda()
    np.testing.assert_allclose(predict(model, examples), expected, atol=1e-4)
    half = predict(model, examples, "bf16")
    np.testing.assert_allclose(half, expected, atol=0.05)
    assert not np.array_equal(half, expected)


def test_weights_trained_on_the_gpu_are_read_on_a_processor(tmp_path):
    model, _ = train_small(tmp_path, small_run(names=["rte"]))
    model.save(tmp_path / "model.safetensors")
    other = small_model(["rte"], seed=1, dropout=0.1)
    other.load(tmp_path / "model.safetensors")
    examples = random_examples(RTE, 50)
    np.testing.assert_allclose(predict(other, examples), predict(model, examples), atol=1e-4)


def test_two_trainings_share_the_gpu(tmp_path):
    code = (
        "import sys; from pathlib import Path; from small_training import small_run, train_small\n"
        "run = small_run(epochs=20); model, _ = train_small(Path(sys.argv[1]), run)\n"
        "model.save(Path(sys.argv[1]) / 'model.safetensors')"
    )
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    started = time.perf_counter()
    processes = [
        subprocess.Popen([sys.executable, "-c", code, folder], env=ENVIRONMENT)
        for folder in folders
    ]
    assert [one.wait(timeout=240) for one in processes] == [0, 0]
    print(f"two trainings at once: {time.perf_counter() - started:.0f} s")
    first, second = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == second
