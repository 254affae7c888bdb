"""Train on, and score, the same texts with mtkd, with transformers, and with a plain loop.

A contender is a function of a workload; it prepares itself and returns a function that runs one
round and returns its seconds. Imports, building models and, for training, tokenizing are not
counted; scoring starts from texts. All use the GPU where there is one and it is not hidden.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
)
from transformers.utils import logging
from workload import BATCH_SIZE, DROPOUT, MAX_LENGTH, Workload

from mtkd.config.training import Train
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.tasks import Task
from mtkd.training.loop import TrainingRun, seed_everything, train
from mtkd.training.losses import hard_loss
from mtkd.training.precision import number_format
from mtkd.training.predict import predict, probabilities
from mtkd.training.soft_targets import average_members

LEARNING_RATE, WARMUP, MEMBERS = 1e-4, 0.1, 3
Round = Callable[[int], float]

logging.set_verbosity_error()
logging.disable_progress_bar()


def device() -> torch.device:
    """Return where to compute; asked in the contender's process, as CUDA does not survive forks."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _model(load: Workload, chosen: list[Task]) -> MultiTaskModel:
    encoder = load_encoder(load.encoder, dropout=DROPOUT)
    return MultiTaskModel(encoder, chosen, {task.name: DROPOUT for task in chosen})


def train_mtkd(load: Workload) -> Round:
    """Train as a study does: Algorithm 1 over all tasks, bf16, batches of similar length."""
    splits = load.train_texts()
    examples = {task.name: load.examples(task, splits[task.name]) for task in load.tasks}
    settings = Train(
        optimizer="adamw",
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        epochs=1,
        warmup_ratio=WARMUP,
        length_bucket=50,
    )

    def one_round(turn: int) -> float:
        seed_everything(turn)
        model = _model(load, load.tasks)
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            run = TrainingRun(examples, settings, seed=turn)
            train(model, run, checkpoint=Path(scratch, "checkpoint"))
            return time.perf_counter() - started

    return one_round


class Clock(TrainerCallback):
    """Seconds between the beginning and the end of training, without building the optimizer."""

    seconds = 0.0

    def on_train_begin(self, *args, **kwargs):
        self.started = time.perf_counter()

    def on_train_end(self, *args, **kwargs):
        self.seconds += time.perf_counter() - self.started


def train_trainer(load: Workload, tuned: bool) -> Round:
    """Train by transformers' Trainer, one task after another; optimizers persist between rounds.

    `tuned` is with what its documentation offers for speed: bf16 where the device has it, grouping
    by length, a fused optimizer.
    """
    bf16 = number_format(device().type) == torch.bfloat16
    more = {"bf16": bf16, "train_sampling_strategy": "group_by_length"} if tuned else {}
    more |= {"optim": "adamw_torch_fused"} if tuned else {}
    arguments = TrainingArguments(
        output_dir=str(load.folder / "trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=device().type == "cpu",
        **more,
    )
    splits, clock = load.train_texts(), Clock()
    trainers = [
        Trainer(
            _classifier(load, task),
            arguments,
            train_dataset=_tokenized(load, task, splits[task.name]),
            processing_class=load.tokenizer,
            callbacks=[clock],
        )
        for task in load.tasks
    ]

    def one_round(turn: int) -> float:
        clock.seconds = 0.0
        for trainer in trainers:
            trainer.train()
        return clock.seconds

    return one_round


def _classifier(load: Workload, task: Task) -> nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(
        load.encoder, num_labels=task.num_outputs, dtype=torch.float32
    )


def _tokenized(load: Workload, task: Task, split: datasets.Dataset) -> datasets.Dataset:
    """Tokenize as the library's examples do: one column per output, padded by the collator."""

    def encode(rows: dict) -> dict:
        columns = (rows[column] for column in task.columns)
        return load.tokenizer(*columns, truncation=True, max_length=MAX_LENGTH)

    encoded = split.map(encode, batched=True, remove_columns=[*task.columns, "idx"])
    return encoded.rename_column("label", "labels")


def train_plain_loop(load: Workload) -> Round:
    """Train by a plain PyTorch loop, as in the authors' repository: batches in file order, fp32."""
    random, texts_of = np.random.default_rng(0), load.train_texts()
    splits = {task.name: _tokenized(load, task, texts_of[task.name]) for task in load.tasks}
    encoder = BertModel.from_pretrained(load.encoder, dtype=torch.float32).to(device())
    width = encoder.config.hidden_size
    heads = nn.ModuleDict({task.name: nn.Linear(width, task.num_outputs) for task in load.tasks})
    heads.to(device())
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    starts = range(0, load.updates // load.num_tasks * BATCH_SIZE, BATCH_SIZE)
    batches = [(task, start) for task in load.tasks for start in starts]
    dropout = nn.Dropout(DROPOUT)

    def one_round(turn: int) -> float:
        encoder.train()
        started = time.perf_counter()
        for index in random.permutation(len(batches)):
            task, start = batches[index]
            rows = splits[task.name][start : start + BATCH_SIZE]
            labels = torch.tensor(rows.pop("labels"), device=device())
            padded = load.tokenizer.pad(rows, return_tensors="pt").to(device())
            logits = heads[task.name](dropout(encoder(**padded).last_hidden_state[:, 0]))
            hard_loss(task, logits, labels).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if device().type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return one_round


def score_mtkd(load: Workload) -> Round:
    """Compute soft targets as stage 03 does: from texts to three models' mean probabilities."""
    task, split = load.scored_texts()
    models = [_model(load, [task]).to(device()) for _ in range(MEMBERS)]

    def one_round(turn: int) -> float:
        started = time.perf_counter()
        examples = load.examples(task, split)
        logits = [predict(model, examples, "bf16") for model in models]
        average_members([probabilities(task, member) for member in logits])
        return time.perf_counter() - started

    return one_round


def score_pipeline(load: Workload) -> Round:
    """Score by `pipeline("text-classification")`, three models, at the fastest batch size."""
    task, split = load.scored_texts()
    first, second = task.columns
    pairs = [{"text": row[first], "text_pair": row[second]} for row in split]
    tokenizer = load.tokenizer
    pipes = [
        pipeline(
            "text-classification",
            model=_classifier(load, task),
            tokenizer=tokenizer,
            device=device(),
        )
        for _ in range(MEMBERS)
    ]
    options = {"top_k": None, "truncation": True, "max_length": MAX_LENGTH}

    def seconds(models: list, rows: list, size: int) -> float:
        started = time.perf_counter()
        for model in models:
            list(model((row for row in rows), batch_size=size, **options))
        return time.perf_counter() - started

    seconds(pipes[:1], pairs[:64], 1)
    fastest = min((1, 8, 32), key=lambda size: seconds(pipes[:1], pairs[:64], size))
    return lambda turn: seconds(pipes, pairs, fastest)


CONTENDERS: dict[str, Callable[[Workload], Round]] = {
    "train:mtkd": train_mtkd,
    "train:trainer": partial(train_trainer, tuned=False),
    "train:trainer-tuned": partial(train_trainer, tuned=True),
    "train:plain-loop": train_plain_loop,
    "score:mtkd": score_mtkd,
    "score:pipeline": score_pipeline,
}
