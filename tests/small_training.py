"""A model and examples that are trained in a second, also in subprocesses of tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from mtkd import tasks
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.models.multitask import MultiTaskModel, TransformerEncoder
from mtkd.training import loop
from mtkd.training.loop import TrainingRun, seed_everything, train

VOCABULARY = 120
FAST = Train(learning_rate=3e-3, batch_size=8, epochs=2, precision="fp32", checkpoint_seconds=1000)
NAMES = ("mnli", "rte", "stsb")
# In it a subprocess finds this module.
_PATHS = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(_PATHS)}


def random_examples(
    task: tasks.Task, count: int, idx=None, fingerprint: str = "random", **arrays
) -> Examples:
    """Random word pieces with a label each: nothing to generalise, all to memorise."""
    random = np.random.default_rng(0)
    pieces = [[2, *random.integers(5, VOCABULARY, random.integers(4, 12)), 3] for _ in range(count)]
    labels = random.uniform(0, 5, count) if task.regression else np.arange(count) % task.num_outputs
    labels = labels.astype("float32" if task.regression else "int64")
    words = [list(range(1, len(ids) - 1)) for ids in pieces]  # the last word of every third is cut
    for cut in words[::3]:
        cut[-1] = -1
    if task.kind == "tokens":
        labels = [random.integers(0, task.num_outputs, len(one)).tolist() for one in words]
    elif task.kind == "span":
        labels = [[0, tasks.START, *[0] * (len(one) - 4), tasks.END, 0] for one in words]
    elif task.generates:
        labels = [[*ids[1:-1][: task.max_target], ids[-1]] for ids in pieces]
    columns = {
        "label": labels,
        "idx": np.arange(count) if idx is None else idx,
        "input_ids": pieces,
        "segment_start": [len(ids) // 2 for ids in pieces],
    }
    integers = datasets.List(datasets.Value("int32"))
    columns |= {"words": words} if task.by_word else {}
    split = datasets.Dataset.from_dict(columns).cast_column("input_ids", integers)
    return Examples(task, split, fingerprint, **arrays)


def small_model(
    names=NAMES, seed: int = 0, dropout: float = 0.0, layers: int = 1, pooling: str = "cls"
) -> MultiTaskModel:
    """A small BERT with a head for each of these tasks, GLUE's by their names."""
    known = [tasks.get(one) if isinstance(one, str) else one for one in names]
    seed_everything(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    encoder = TransformerEncoder(BertModel(config, add_pooling_layer=False), pooling)
    return MultiTaskModel(encoder, known, {task.name: dropout for task in known})


def small_run(count: int = 40, names=NAMES, soft=(), **settings) -> TrainingRun:
    """A run on `count` random examples of each task, with soft targets of those in `soft`."""
    sets = {}
    for task in map(tasks.get, names):
        targets = np.random.default_rng(1).dirichlet(np.ones(task.num_outputs), count)
        given = targets.astype("float32") if task.name in soft else None
        sets[task.name] = random_examples(task, count, soft_targets=given)
    return TrainingRun(sets, FAST.model_copy(update=settings), seed=0)


def train_small(folder: Path, run: TrainingRun, **changes) -> tuple[MultiTaskModel, list[dict]]:
    """Train a small model with dropout; `changes` are those of the run."""
    run = replace(run, **changes)
    model = small_model(tuple(run.train_sets), run.seed, dropout=0.1)
    return model, train(model, run, checkpoint=folder / "checkpoint.pt")


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether all weights are equal to the last bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


@contextmanager
def stopped_at_save(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Interrupt a training at its checkpoint of that number; gives the epochs of all of them."""
    epochs, save = [], loop.save_checkpoint

    def stop(path, state):
        save(path, state)
        epochs.append(state["epoch"])
        if len(epochs) == count:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_checkpoint", stop)
        yield epochs
