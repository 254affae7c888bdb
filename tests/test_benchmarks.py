"""The benchmark: its ratios come from its rounds, and the whole of it runs at the smallest size."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers import ROOT, some_examples
from transformers import BertConfig, BertModel

from mtkd import tasks
from mtkd.config.training import Train
from mtkd.data import synthetic as synthetic
from mtkd.models.multitask import MultiTaskModel, TransformerEncoder
from mtkd.training.cost import flops as counted

sys.path.insert(0, str(ROOT / "benchmarks"))
import growth
from bench import by_shape, ratios
from by_stage import Ledger
from quality import both_forms, by_mtkd, by_trainer, prepare
from work import LENGTHS, VOCABULARY, Work, flops

KEYS = {
    "train_vs_trainer",
    "train_vs_trainer_tuned",
    "train_vs_authors_loop",
    "score_vs_pipeline",
    "matrix_share",
}


@pytest.fixture(autouse=True)
def no_precision_left():
    """A Trainer with bf16 sets the precision of every later Accelerator of its process."""
    yield
    AcceleratorState._reset_state()


def rows(shape: str, turn: int, **seconds: float) -> list[dict]:
    """A round in which each system did 100 examples in these seconds."""
    found = [
        {
            "shape": shape,
            "turn": turn,
            "system": name.replace("__", ":").replace("_", "-"),
            "examples": 100,
            "seconds": value,
        }
        for name, value in seconds.items()
    ]
    found[0] |= {"flops": 600.0, "rate": 1000.0}
    return found


def test_ratios_are_worked_out_by_hand():
    training = {"train__trainer": 4.0, "train__trainer_tuned": 2.0, "train__authors_loop": 8.0}
    rounds = rows("mini", 1, train__mtkd=1.0, **training, score__mtkd=1.0, score__pipeline=6.0)
    rounds += rows("mini", 2, train__mtkd=2.0, **training, score__mtkd=1.0, score__pipeline=5.0)
    rounds += rows("mini", 3, train__mtkd=0.5, **training, score__mtkd=1.0, score__pipeline=9.0)
    rounds += rows("small", 1, train__mtkd=2.0, **training)
    shapes = by_shape(rounds)
    assert shapes["mini"] == {
        "train_vs_trainer": 4,
        "train_vs_trainer_tuned": 2,
        "train_vs_authors_loop": 8,
        "score_vs_pipeline": 6,
        "matrix_share": pytest.approx(0.6),
    }
    # Training: the least favourable shape; the share of the matrix rate: the last shape, 600 operations in 2 s at 1000 a second.
    assert ratios(rounds) == {
        "train_vs_trainer": 2,
        "train_vs_trainer_tuned": 1,
        "train_vs_authors_loop": 4,
        "score_vs_pipeline": 6,
        "matrix_share": pytest.approx(0.3),
    }


def test_operations_are_those_that_torch_counts_without_padding():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=128,
    )
    task, examples = tasks.get("rte"), some_examples(tasks.get("rte"), 1)
    model = MultiTaskModel(
        TransformerEncoder(BertModel(config, add_pooling_layer=False)), [task], {"rte": 0.0}
    )
    head = 2 * 32 * task.num_outputs
    assert (
        flops("tiny", examples.lengths, training=False)
        == counted(model, [examples.batch(np.array([0]))]) - head
    )
    assert flops("tiny", examples.lengths, training=True) == 3 * flops(
        "tiny", examples.lengths, training=False
    )


def test_the_texts_have_glues_lengths_and_are_one_piece_a_word(tmp_path):
    work = Work(tmp_path, "tiny", updates=8, of=8, device="cpu")
    work.prepare()
    for task in work.tasks:
        lengths = np.log(work.examples(task, work.texts(task, 400)).lengths)
        mean, deviation = LENGTHS[task.name]
        assert abs(lengths.mean() - mean) < 0.12, task.name  # clipped at both ends
        assert lengths.std() < deviation * 1.15
    tokenizer = json.loads((work.encoder / "tokenizer.json").read_text())
    assert len(tokenizer["model"]["vocab"]) == VOCABULARY


def test_the_benchmark_runs_at_the_smallest_size(tmp_path):
    small = [
        "--shapes",
        "tiny",
        "--score-shapes",
        "tiny",
        "--updates",
        "4",
        "--of",
        "4",
        "--scored",
        "64",
        "--rounds",
        "2",
    ]
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "bench.py",
            *small,
            "--threads",
            "1",
            "--out",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert set(found["ratios"]) == KEYS
    assert all(value > 0 for value in found["ratios"].values())
    assert {"machine", "versions", "commit", "settings", "rounds"} <= set(found)
    systems = {row["system"] for row in found["rounds"]}
    assert len(found["rounds"]) == 2 * len(systems)
    # The same work: as many examples and updates for each, twice as many where two runs stand side by side.
    sides = found["settings"]["side"]
    for row in found["rounds"]:
        times = sides if row["system"] in ("train:mtkd", "score:mtkd") else 1
        if row["system"].startswith("train"):
            assert (row["examples"], row["updates"]) == (4 * 32 * times, 4 * times)
        elif row["system"].startswith("score"):
            assert row["examples"] == 64 * times
    assert found["ratios"] == ratios(found["rounds"])
    assert (tmp_path / "speed.png").stat().st_size > 5000 and (tmp_path / "speed.svg").is_file()
    assert "mtkd, bf16, side by side" in done.stdout


def test_both_systems_of_the_quality_check_are_scored_by_their_own_labels(tmp_path):
    """Each learns 64 examples by heart; scored in another's order they would be at chance."""
    work, task = prepare(tmp_path, layers=1, hidden=64), tasks.get("sst2")
    rows = synthetic.generate(seed=0, scale=0.2)[task.name]["train"].select(range(64))
    sets, splits = both_forms(work, task, {"train": rows, "validation": rows})
    settings = Train(
        optimizer="adamw",
        learning_rate=2e-3,
        epochs=20,
        batch_size=8,
        bucket=8,
        score_every_epoch=False,
    )
    for outputs, labels in (
        by_mtkd(work, task, sets, 0, settings),
        by_trainer(work, task, splits, 0, settings),
    ):
        assert (outputs.argmax(1) == labels).mean() > 0.9


def test_a_point_of_growth_goes_through_every_phase(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "growth.py", "point", "examples", "300", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = pd.DataFrame(json.loads(done.stdout.splitlines()[-1]))
    assert list(found["phase"]) == list(growth.PHASES) and set(found["size"]) == {300}
    assert (found["cpu_seconds"] > 0).all() and (found["resident_mb"] >= found["own_mb"]).all()
    assert "at most" in growth.figure(found).get_label()


def test_a_part_within_another_is_booked_once(monkeypatch):
    clock = iter(
        [0.0, 1.0, 3.0, 6.0, 10.0]
    )  # made, outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr("by_stage.time.process_time", lambda: next(clock))
    ledger = Ledger()
    inner = ledger.of("inner", lambda: 7)
    assert (
        ledger.of("outer", lambda: inner() + ledger.of("inner", lambda: 1, within="outer")())() == 8
    )
    assert ledger.seconds == {"outer": 6.0, "inner": 3.0}
