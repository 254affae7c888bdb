"""A training shared by two processes (gloo): the loss curve of one, unused heads, an error told once, kill and resume."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from conftest import TINY, mtkd
from safetensors.torch import load_file
from test_training import FAST, made, model_of, trained

from mtkd import tasks
from mtkd.artifacts import file_hash
from mtkd.errors import UserError
from mtkd.training import distributed as parallel
from mtkd.training.loop import train

# 41 rows in batches of 8: the last batch of every task has one row, so the second process has none.
SETTINGS = FAST.model_copy(update={"epochs": 4})


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """New processes find this module, so a fork server imports it once for all."""
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    )


def curve(folder: Path) -> None:
    """Trains three tasks' heads of four without dropout; writes the log and the weights."""
    names = ["mnli", "rte", "stsb"]
    model = model_of([*names, "cola"])
    examples = {name: made(tasks.get(name), 41, soft_targets=name == "mnli") for name in names}
    log = train(model, examples, SETTINGS, seed=0, checkpoint=folder / "checkpoint")
    write(folder, model, log)


def long(folder: Path, seconds: float) -> None:
    """Trains with dropout, a checkpoint every so many seconds."""
    settings = SETTINGS.model_copy(update={"checkpoint_seconds": seconds})
    write(
        folder, *trained(folder, settings=settings, soft_targets=("mnli",), count=400)
    )  # long enough to be killed before its end


def write(folder: Path, model: torch.nn.Module, log: list[dict]) -> None:
    rank = PartialState().process_index
    model.save(folder / f"model-{rank}.safetensors")
    (folder / f"log-{rank}.json").write_text(json.dumps(log))


def with_a_bad_target(folder: Path) -> None:
    """Trains where the second process alone has a soft target that is not a number."""
    examples = made(tasks.get("rte"), 64, soft_targets=True)
    if PartialState().process_index == 1:
        examples.soft_targets[:] = float("nan")
    train(model_of(["rte"]), {"rte": examples}, FAST, seed=0, checkpoint=folder, title="shared")


def told_by_the_first_alone(folder: Path) -> None:
    """The first process ends on an error while the second waits for it."""
    if PartialState().is_main_process:
        raise UserError("the first process alone met this.")
    torch.distributed.barrier()


def script(code: str, folder: Path) -> subprocess.Popen:
    code = f"from pathlib import Path; import test_parallel as t; folder = Path({str(folder)!r}); {code}"
    return subprocess.Popen([sys.executable, "-c", code])


def same_weights(one: Path, other: Path) -> bool:
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def test_two_processes_of_notebook_launcher_give_the_loss_curve_of_one(tmp_path):
    free = "rdzv_backend='c10d', rdzv_endpoint='localhost:0'"
    launched = f"import accelerate; accelerate.notebook_launcher(t.curve, (folder,), num_processes=2, {free})"
    assert script(launched, tmp_path).wait() == 0
    (tmp_path / "one").mkdir()
    curve(tmp_path / "one")
    two, one = (
        json.loads(path.read_text())
        for path in (tmp_path / "log-0.json", tmp_path / "one" / "log-0.json")
    )
    assert [(row["epoch"], row["task"]) for row in two] == [
        (row["epoch"], row["task"]) for row in one
    ] and len(one) == 12
    assert (
        max(abs(left["loss"] - right["loss"]) for left, right in zip(two, one, strict=True)) < 1e-5
    )
    assert same_weights(tmp_path / "model-0.safetensors", tmp_path / "model-1.safetensors")
    untrained = model_of(["mnli", "rte", "stsb", "cola"]).state_dict()
    assert torch.equal(
        load_file(tmp_path / "model-0.safetensors")["heads.cola.weight"],
        untrained["heads.cola.weight"],
    )


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_one_sentence(tmp_path):
    with pytest.raises(
        UserError,
        match=r"^shared: the loss on RTE is nan at step 1 of epoch 1; lower train.learning_rate",
    ):
        parallel.run(with_a_bad_target, tmp_path, processes=2)


def test_an_error_of_one_process_is_told_and_ends_the_waiting_others(tmp_path):
    with pytest.raises(UserError, match=r"^the first process alone met this.$"):
        parallel.run(told_by_the_first_alone, tmp_path, processes=2)


def test_two_processes_killed_and_resumed_end_with_the_weights_of_two_undisturbed(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    parallel.run(long, whole, 1000, processes=2)
    process = script("t.parallel.run(t.long, folder, 0.1, processes=2)", broken)
    while not list(broken.glob("checkpoint/0*[0-9]")):
        assert process.poll() is None, "the run ended before it wrote a checkpoint"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = None
    while written != (written := sorted(path.name for path in broken.glob("checkpoint/*"))):
        time.sleep(2)  # the others end with it
    assert not (broken / "log-0.json").exists()
    parallel.run(long, broken, 1000, processes=2)
    assert same_weights(whole / "model-0.safetensors", broken / "model-0.safetensors")
    assert same_weights(whole / "model-1.safetensors", broken / "model-0.safetensors")
    loss = [
        [row["loss"] for row in json.loads((folder / "log-0.json").read_text())]
        for folder in (whole, broken)
    ]
    assert loss[0] == loss[1]


def test_a_notebook_and_torchrun_share_a_stage_of_a_study_and_give_the_same_weights(tmp_path):
    environment = {"MTKD_WORK": str(tmp_path / "w")}
    chosen = [
        "train.num_processes=2",
        "train.epochs=1",
        "tasks=[rte,stsb,mnli]",
        "distil.teachers=[mnli]",
        "data.scale=0.02",
    ]
    done = mtkd(
        "notebook",
        "02_mtdnn",
        tmp_path / "out.ipynb",
        "--log",
        tmp_path / "run.log",
        "-p",
        f"study={TINY}",
        "-p",
        f"overrides={';'.join(chosen)}",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    place = tmp_path / "w" / "tiny" / "mtdnn" / "uncased-0.1-s0"
    record, weights = (
        json.loads((place / "record.json").read_text()),
        file_hash(place / "model.safetensors"),
    )
    assert record["inputs"]["train"]["num_processes"] == 2
    assert len(re.findall(r"100%", (tmp_path / "run.log").read_text())) >= 1
    shutil.rmtree(place)
    sets = [part for choice in chosen for part in ("--set", choice)]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
        sys.executable,
        "-c",
        "from mtkd.cli import main; main()",
        "stage",
        str(TINY),
        "02_mtdnn.uncased-0.1-s0",
        *sets,
    ]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert file_hash(place / "model.safetensors") == weights


def test_a_group_that_is_not_led_or_of_another_size_is_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        UserError,
        match="This is one of 4 processes that share a training; of all commands only 'mtkd stage' does that",
    ):
        parallel.run(print, processes=1)
    monkeypatch.setattr(parallel, "_line", object())
    with pytest.raises(
        UserError,
        match=r"among 2 processes \(train.num_processes\) and 4 were started: start 2, or set train.num_processes=4",
    ):
        parallel.run(print, processes=2)


def test_a_stage_that_a_study_has_not_is_told():
    done = mtkd("stage", TINY, "02_mtdnn.latin-0.1-s0")
    assert (
        done.returncode == 2
        and "Study tiny has no stage '02_mtdnn.latin-0.1-s0' to compute: its stages are 00_data"
        in done.stderr
    )
