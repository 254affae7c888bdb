"""A training shared by two processes: the result of one, unused heads, errors, resume."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState, notebook_launcher
from safetensors.torch import load_file
from small_training import (
    ENVIRONMENT,
    NAMES,
    random_examples,
    small_model,
    small_run,
    train_small,
)

from mtkd import tasks
from mtkd.config.training import Combine
from mtkd.errors import UserError
from mtkd.training import distributed
from mtkd.training.distributed import lead_group, run_on_all
from mtkd.training.layerwise import RelationLoss
from mtkd.training.loop import TrainingRun, train

RANKED = tasks.as_ranking(tasks.get("qnli"))
HEADS = (*NAMES, "cola", RANKED)


def curve(folder: Path) -> None:
    """Train four tasks' heads of five without dropout; write the log and the weights."""
    # 41 rows in batches of 8: the last batch of a task has one row, so the second process has none.
    run, model = small_run(41, soft=["mnli"], epochs=4), small_model(HEADS)
    groups = np.repeat(np.arange(20), [3, 2] * 10)  # labels alternate: one or two are right
    candidates = random_examples(tasks.get("qnli"), 50, group_ids=groups).replace(task=RANKED)
    run = replace(run, train_sets=run.train_sets | {RANKED.name: candidates})
    log = train(model, run, checkpoint=folder / "checkpoint.pt")
    write(folder, model, log)


def layerwise(folder: Path) -> None:
    """Train as `curve` does, with a teacher's relations."""
    run, model = small_run(41, soft=["mnli"], epochs=2), small_model(HEADS)
    teacher = small_model(HEADS, seed=1, layers=2)
    run = replace(run, extra_loss=RelationLoss(model, teacher))
    write(folder, model, train(model, run, checkpoint=folder / "checkpoint.pt"))


def combined(folder: Path) -> None:
    """Train as `curve` does, with learned weights and PCGrad."""
    combine = Combine(task_weights="uncertainty", batches_per_update=4, gradients="pcgrad")
    run, model = small_run(41, soft=["mnli"], epochs=2, combine=combine), small_model(HEADS)
    write(folder, model, train(model, run, checkpoint=folder / "checkpoint.pt"))


def long(folder: Path, seconds: str) -> None:
    """Train with dropout, with a checkpoint every so many seconds."""
    run = small_run(400, soft=["mnli"], epochs=4, checkpoint_seconds=float(seconds))
    write(folder, *train_small(folder, run))


def bad_target(folder: Path) -> None:
    """Train where the second process alone has soft targets of nan."""
    value = float("nan") if PartialState().process_index else 0.5
    targets = np.full((64, 2), value, dtype="float32")
    examples = random_examples(tasks.get("rte"), 64, soft_targets=targets)
    run = TrainingRun({"rte": examples}, small_run().settings, seed=0, title="shared")
    train(small_model(["rte"]), run, checkpoint=folder / "checkpoint.pt")


def write(folder: Path, model: torch.nn.Module, log: list[dict]) -> None:
    rank = PartialState().process_index
    model.save(folder / f"model-{rank}.safetensors")
    (folder / f"log-{rank}.json").write_text(json.dumps(log))


def shared(function, *args):
    """What the first process does: something alone, and then a training with all."""
    return run_on_all(function, *args, num_processes=2)


def start(kind: str, *args) -> subprocess.Popen:
    """This file's main program in two processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher = torchrun if kind == "torchrun" else []
    command = [sys.executable, *launcher, __file__, kind, *map(str, args)]
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command, env=ENVIRONMENT, **options)


def losses(path: Path) -> list[float]:
    return [row["loss"] for row in json.loads(path.read_text())]


def run_in_two_and_one(kind: str, training: Callable[[Path], None], folder: Path) -> None:
    """Run a training of this module in two processes, and in this one in the folder `one`."""
    process = start(kind, training.__name__, folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    (folder / "one").mkdir()
    training(folder / "one")


def same_files(one: Path, other: Path) -> bool:
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchrun", "notebook"])
def test_two_processes_give_the_loss_curve_of_one(tmp_path, kind):
    run_in_two_and_one(kind, curve, tmp_path)
    two, one = losses(tmp_path / "log-0.json"), losses(tmp_path / "one" / "log-0.json")
    assert len(one) == 16 and two == pytest.approx(one, abs=1e-5)
    first = tmp_path / "model-0.safetensors"
    assert same_files(first, tmp_path / "model-1.safetensors")
    untrained = small_model(HEADS).state_dict()["heads.cola.weight"]
    assert torch.equal(load_file(first)["heads.cola.weight"], untrained)


@pytest.mark.slow
def test_two_processes_share_a_layerwise_loss(tmp_path):
    run_in_two_and_one("torchrun", layerwise, tmp_path)
    two, one = losses(tmp_path / "log-0.json"), losses(tmp_path / "one" / "log-0.json")
    assert len(one) == 6 and two == pytest.approx(one, abs=1e-3)


@pytest.mark.slow
def test_two_processes_combine_tasks_as_one_does(tmp_path):
    run_in_two_and_one("torchrun", combined, tmp_path)
    paths = [tmp_path / "log-0.json", tmp_path / "one" / "log-0.json"]
    for field in ("loss", "log_variance"):
        two, one = ([row[field] for row in json.loads(path.read_text())] for path in paths)
        assert len(one) == 6 and two == pytest.approx(one, abs=1e-4)
    first = tmp_path / "model-0.safetensors"
    assert same_files(first, tmp_path / "model-1.safetensors")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_ends_all(tmp_path):
    process = start("torchrun", "bad_target", tmp_path)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "UserError: shared: the loss is nan on rte in batch 1" in errors


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_with_the_weights_of_two_undisturbed(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    assert start("torchrun", "long", whole, 1000).wait() == 0
    process = start("torchrun", "long", broken, 0.1)
    while not (broken / "checkpoint.pt").exists():
        assert process.poll() is None, "the run ended before it wrote a checkpoint"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for child in Path("/proc").glob("[0-9]*/cmdline"):  # torchrun's workers have their own sessions
        if str(broken).encode() in child.read_bytes():
            os.kill(int(child.parent.name), signal.SIGKILL)
    assert not (broken / "log-0.json").exists()
    assert start("torchrun", "long", broken, 1000).wait() == 0
    for rank in (0, 1):
        assert same_files(whole / "model-0.safetensors", broken / f"model-{rank}.safetensors")
    assert losses(whole / "log-0.json") == losses(broken / "log-0.json")


def test_one_process_calls_the_function():
    assert run_on_all(sum, [1, 2], num_processes=1) == 3
    assert lead_group(sum, [1, 2]) == 3


def test_a_group_of_another_size_is_refused(monkeypatch):
    message = r"num_processes is 2 and the number of processes 1: .*torchrun --nproc-per-node 2"
    with pytest.raises(UserError, match=message):
        run_on_all(print, num_processes=2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="4 processes run this command, and only 'mtkd stage'"):
        run_on_all(print, num_processes=4)
    monkeypatch.setattr(distributed, "_calls", object())
    with pytest.raises(UserError, match=r"set train.num_processes=4, or start the stage"):
        run_on_all(print, num_processes=2)


if __name__ == "__main__":
    kind, function, folder, *args = sys.argv[1:]
    call = (globals()[function], Path(folder), *args)
    if kind == "notebook":
        free = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
        notebook_launcher(call[0], call[1:], num_processes=2, **free)
    else:
        lead_group(shared, *call)
