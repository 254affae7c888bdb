"""Train on, and score, the same texts with mtkd, with transformers, and with a plain loop.

The texts are made up with GLUE's statistics: an example's number of word pieces follows each task's
log-normal law (measured on its training set), words follow Zipf's law p(r) ~ 1 / (r + 2.7). Each
word is one piece, and there are as many as in BERT's vocabulary.

A contender is a function of a workload and the processor threads it may use; it prepares itself and
returns a function that runs one round and returns its seconds. Imports, building models and, for
training, tokenizing are not counted; scoring starts from texts.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
)
from transformers.utils import logging

from mtkd import tasks
from mtkd.config.training import Train
from mtkd.data.dataset import Examples, tokenize
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.tasks import Task
from mtkd.training.loop import TrainingRun, seed_everything, train
from mtkd.training.losses import hard_loss
from mtkd.training.predict import predict, probabilities
from mtkd.training.soft_targets import average_members

BATCH_SIZE, LEARNING_RATE, WARMUP, DROPOUT, MAX_LENGTH = 32, 1e-4, 0.1, 0.1, 128
SPECIAL, VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), 30522
MEMBERS, SCORED = 3, "mnli"
SHAPES = {"tiny": (1, 32, 2), "mini": (4, 256, 4), "small": (4, 512, 8)}  # layers, width, heads
# Mean and standard deviation of the logarithm of an example's word pieces.
LENGTHS = {"cola": (2.43, 0.33), "mrpc": (4.07, 0.26), "mnli": (3.67, 0.48), "qnli": (3.99, 0.35)}
Round = Callable[[int], float]

logging.set_verbosity_error()
logging.disable_progress_bar()
datasets.disable_progress_bars()


@dataclass(frozen=True)
class Workload:
    """A round: `updates` batches of training over the first `num_tasks` tasks, or scoring."""

    folder: Path  # takes the encoder
    shape: str
    updates: int
    num_tasks: int
    scored: int  # examples

    @property
    def tasks(self) -> list[Task]:
        return [tasks.get(name) for name in list(LENGTHS)[: self.num_tasks]]

    @property
    def encoder(self) -> Path:
        return self.folder / self.shape

    @cached_property
    def tokenizer(self) -> BertTokenizerFast:
        return BertTokenizerFast.from_pretrained(self.encoder)

    def train_texts(self) -> dict[str, datasets.Dataset]:
        each, rest = divmod(self.updates, self.num_tasks)
        if rest or not each:
            raise SystemExit(f"--updates must be a multiple of the {self.num_tasks} tasks")
        return {task.name: texts(task, each * BATCH_SIZE) for task in self.tasks}

    def scored_texts(self) -> tuple[Task, datasets.Dataset]:
        return tasks.get(SCORED), texts(tasks.get(SCORED), self.scored, seed=1)

    def examples(self, task: Task, split: datasets.Dataset) -> Examples:
        pieces = tokenize(split, task, self.tokenizer, MAX_LENGTH)
        return Examples(task, pieces, "bench", self.tokenizer.pad_token_id)

    def write_encoder(self) -> None:
        """Write an encoder with random weights, and its tokenizer."""
        layers, hidden, heads = SHAPES[self.shape]
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=DROPOUT,
        )
        BertModel(config).save_pretrained(self.encoder)
        pieces = [*SPECIAL, *words()]
        tokenizer = BertTokenizerFast(vocab={piece: index for index, piece in enumerate(pieces)})
        tokenizer.model_max_length = MAX_LENGTH
        tokenizer.save_pretrained(self.encoder)


def words() -> list[str]:
    """Return made-up words of four letters, as many as BERT has word pieces."""
    letters = np.array(list("abcdefghijklmnopqrst"))
    numbers = np.arange(VOCABULARY - len(SPECIAL))[:, None]
    return ["".join(row) for row in letters[numbers // len(letters) ** np.arange(4) % len(letters)]]


def texts(task: Task, count: int, seed: int = 0) -> datasets.Dataset:
    """Return examples of a task: its text columns, label and idx."""
    random = np.random.default_rng([seed, list(LENGTHS).index(task.name)])
    pair, known = len(task.columns) == 2, np.array(words())
    chances = 1 / (np.arange(len(known)) + 2.7)
    lengths = random.lognormal(*LENGTHS[task.name], count).round()
    sizes = np.clip(lengths, 5 if pair else 3, MAX_LENGTH).astype(int) - (3 if pair else 2)
    rows: dict[str, list] = {column: [] for column in task.columns}
    for size in sizes:
        drawn = random.choice(known, size, p=chances / chances.sum())
        cut = max(1, round(0.6 * size)) if pair else size
        for column, part in zip(task.columns, (drawn[:cut], drawn[cut:]), strict=False):
            rows[column].append(" ".join(part))
    labels = random.integers(0, task.num_outputs, count)
    return datasets.Dataset.from_dict({**rows, "label": labels, "idx": np.arange(count)})


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

    `tuned` is with what its documentation offers for speed: bf16, grouping by length, a fused
    optimizer.
    """
    more = {"bf16": True, "train_sampling_strategy": "group_by_length"} if tuned else {}
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
        use_cpu=True,
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
    encoder = BertModel.from_pretrained(load.encoder, dtype=torch.float32)
    width = encoder.config.hidden_size
    heads = nn.ModuleDict({task.name: nn.Linear(width, task.num_outputs) for task in load.tasks})
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
            labels = torch.tensor(rows.pop("labels"))
            padded = load.tokenizer.pad(rows, return_tensors="pt")
            logits = heads[task.name](dropout(encoder(**padded).last_hidden_state[:, 0]))
            hard_loss(task, logits, labels).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - started

    return one_round


def score_mtkd(load: Workload) -> Round:
    """Compute soft targets as stage 03 does: from texts to three models' mean probabilities."""
    task, split = load.scored_texts()
    models = [_model(load, [task]) for _ in range(MEMBERS)]

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
        pipeline("text-classification", model=_classifier(load, task), tokenizer=tokenizer)
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
