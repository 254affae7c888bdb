"""The contenders: functions that build what a round needs and give the function that does a round.

Seconds are those of the work: imports, building models and, for training, tokenising are left out; scoring and prediction
start from texts.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

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
from work import BATCH, DROPOUT, LEARNING_RATE, MAX_LENGTH, WARMUP, Work, flops

from mtkd import tasks
from mtkd.config.training import Train
from mtkd.data.dataset import Batch
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.models.small_transformer import keep_layers
from mtkd.training.loop import seed_everything, train
from mtkd.training.losses import hard_loss
from mtkd.training.predict import predict, probabilities
from mtkd.training.soft_targets import ensemble

Round = Callable[[int], dict]
MEMBERS, SCORED = 3, "mnli"
SIDE = "train:mtkd", "score:mtkd"  # they run side by side, a process a core


def wait(work: Work) -> float:
    """The clock, once the device has done what it was given."""
    if work.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def model_of(work: Work, some: list) -> MultiTaskModel:
    return MultiTaskModel(
        load_encoder(work.encoder, dropout=DROPOUT), some, {task.name: DROPOUT for task in some}
    ).to(work.device)


def train_mtkd(work: Work, options) -> Round:
    """mtkd as a study runs it: Algorithm 1 over all tasks, bf16, batches of like length."""
    examples = {
        task.name: work.examples(task, work.train_texts()[task.name]) for task in work.tasks
    }
    settings = Train(
        optimizer="adamw",
        learning_rate=LEARNING_RATE,
        batch_size=BATCH,
        epochs=1,
        warmup=WARMUP,
        bucket=50,
    )
    operations = sum(flops(work.shape, split.lengths, training=True) for split in examples.values())

    def once(turn: int) -> dict:
        seed_everything(turn)
        model = model_of(work, work.tasks)
        with tempfile.TemporaryDirectory() as scratch:
            started = wait(work)
            train(model, examples, settings, seed=turn, checkpoint=Path(scratch))
            seconds = wait(work) - started
        return {
            "examples": BATCH * work.updates,
            "seconds": seconds,
            "flops": operations,
            "updates": work.updates,
        }

    return once


class Clock(TrainerCallback):
    """Seconds between a training's beginning and its end: building the optimizer and saving are left out."""

    def __init__(self, work: Work):
        self.work, self.seconds = work, 0.0

    def on_train_begin(self, *about, **more):
        self.started = wait(self.work)

    def on_train_end(self, *about, **more):
        self.seconds += wait(self.work) - self.started


def arguments(work: Work, tuned: bool, options, **more) -> TrainingArguments:
    given = {"num_train_epochs": 1, "learning_rate": LEARNING_RATE} | more
    if tuned:
        given |= {
            "bf16": True,
            "train_sampling_strategy": "group_by_length",
            "optim": "adamw_torch_fused",
            "dataloader_num_workers": options.workers,
            "torch_compile": options.compile,
        }
    return TrainingArguments(
        output_dir=str(work.folder / "trainer"),
        per_device_train_batch_size=BATCH,
        warmup_steps=WARMUP,
        weight_decay=0.0,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=work.device == "cpu",
        **given,
    )


def tokenised(work: Work, task, texts):
    """As the library's examples do it: a column for each of the tokenizer's outputs, padded by the collator."""
    found = texts.map(
        lambda rows: work.tokenizer(
            *(rows[column] for column in task.columns), truncation=True, max_length=MAX_LENGTH
        ),
        batched=True,
        remove_columns=[*task.columns, "idx"],
    )
    return found.rename_column("label", "labels")


def classifier(work: Work, task):
    return AutoModelForSequenceClassification.from_pretrained(
        work.encoder, num_labels=task.num_outputs, dtype=torch.float32
    )


def trainer_of(work: Work, tuned: bool, options) -> Round:
    """transformers' Trainer, one task after another; optimizers with their state are kept from round to round."""
    clock, trainers = Clock(work), []
    for task in work.tasks:
        split = tokenised(work, task, work.train_texts()[task.name])
        trainers.append(
            Trainer(
                classifier(work, task),
                arguments(work, tuned, options),
                train_dataset=split,
                processing_class=work.tokenizer,
                callbacks=[clock],
            )
        )

    def once(turn: int) -> dict:
        clock.seconds = 0.0
        updates = sum(trainer.train().global_step for trainer in trainers)
        return {"examples": BATCH * work.updates, "seconds": clock.seconds, "updates": updates}

    return once


def train_authors(work: Work, options) -> Round:
    """A plain PyTorch loop: batches in file order, merged and shuffled, padded to the longest, fp32."""
    random = np.random.default_rng(0)
    splits = {
        task.name: tokenised(work, task, texts)
        for task, texts in zip(work.tasks, work.train_texts().values(), strict=True)
    }
    encoder = BertModel.from_pretrained(work.encoder, dtype=torch.float32).to(work.device)
    heads = nn.ModuleDict(
        {task.name: nn.Linear(encoder.config.hidden_size, task.num_outputs) for task in work.tasks}
    ).to(work.device)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    dropout = nn.Dropout(DROPOUT)

    def once(turn: int) -> dict:
        batches = [
            (task, start)
            for task in work.tasks
            for start in range(0, len(splits[task.name]), BATCH)
        ]
        encoder.train()
        started = wait(work)
        for place in random.permutation(len(batches)):
            task, start = batches[place]
            rows = splits[task.name][start : start + BATCH]
            labels = torch.tensor(rows.pop("labels"), device=work.device)
            padded = work.tokenizer.pad(rows, return_tensors="pt").to(work.device)
            logits = heads[task.name](dropout(encoder(**padded).last_hidden_state[:, 0]))
            hard_loss(task, logits, labels).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return {
            "examples": BATCH * len(batches),
            "seconds": wait(work) - started,
            "updates": len(batches),
        }

    return once


def scored_texts(work: Work):
    return tasks.get(SCORED), work.texts(tasks.get(SCORED), BATCH * work.updates, seed=1)


def score_mtkd(work: Work, options) -> Round:
    """The soft-target pass as the teachers' stage does it: from texts to the average of three models' probabilities."""
    task, texts = scored_texts(work)
    models = [model_of(work, [task]) for _ in range(MEMBERS)]

    def once(turn: int) -> dict:
        started = wait(work)
        examples = work.examples(task, texts)
        soft = ensemble([probabilities(task, predict(model, examples, "bf16")) for model in models])
        return {"examples": len(soft), "seconds": wait(work) - started}

    return once


def score_trainer(work: Work, options) -> Round:
    """Trainer.predict in bf16, from texts, three models."""
    task, texts = scored_texts(work)
    given = arguments(work, True, options, per_device_eval_batch_size=64)
    trainers = [
        Trainer(classifier(work, task), given, processing_class=work.tokenizer)
        for _ in range(MEMBERS)
    ]

    def once(turn: int) -> dict:
        started = wait(work)
        split = tokenised(work, task, texts).remove_columns("labels")
        found = [trainer.predict(split).predictions for trainer in trainers]
        soft = ensemble([probabilities(task, logits) for logits in found])
        return {"examples": len(soft), "seconds": wait(work) - started}

    return once


def score_pipeline(work: Work, options) -> Round:
    """A loop over pipeline("text-classification"), three models, with the batch size that is fastest here."""
    task, texts = scored_texts(work)
    first, second = task.columns
    given = [{"text": row[first], "text_pair": row[second]} for row in texts]
    pipes = [
        pipeline(
            "text-classification",
            model=classifier(work, task),
            tokenizer=work.tokenizer,
            device=work.device,
        )
        for _ in range(MEMBERS)
    ]

    def scored(pipe, rows: list, size: int) -> list:
        return list(
            pipe(
                (row for row in rows),
                batch_size=size,
                top_k=None,
                truncation=True,
                max_length=MAX_LENGTH,
            )
        )

    def timed(size: int) -> float:
        started = wait(work)
        scored(pipes[0], given[:64], size)
        return wait(work) - started

    best = 1

    def once(turn: int) -> dict:
        nonlocal best
        if turn == 0:
            timed(1)
            best = min((1, 8, 32), key=timed)
        started = wait(work)
        found = [scored(pipe, given, best) for pipe in pipes]
        return {"examples": len(found[0]), "seconds": wait(work) - started, "batch": best}

    return once


def predict_student(work: Work, options) -> Round:
    """A saved student (every other layer of the encoder) loaded back: from a text to its probabilities, one by one and by 32."""
    task, texts = scored_texts(work)

    def student() -> MultiTaskModel:
        encoder = load_encoder(work.encoder, dropout=0.0)
        return MultiTaskModel(
            keep_layers(encoder, list(range(0, encoder.model.config.num_hidden_layers, 2))),
            [task],
            {task.name: 0.0},
        )

    path = work.folder / f"student-{work.shape}.safetensors"
    student().save(path)
    model = student()
    model.load(path)
    model.to(work.device).eval()
    rows = list(zip(*(texts[column] for column in task.columns), strict=True))[: 4 * BATCH]

    def answer(some: list) -> None:
        pieces = work.tokenizer(
            some, truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
        ).to(work.device)
        probabilities(
            task, model(Batch(task.name, **pieces, labels=torch.zeros(len(some)))).cpu().numpy()
        )

    @torch.inference_mode()
    def seconds(size: int) -> list[float]:
        found = []
        for start in range(0, len(rows), size):
            started = wait(work)
            answer(rows[start : start + size])
            found.append(wait(work) - started)
        return found

    def once(turn: int) -> dict:
        single, batched = seconds(1), seconds(BATCH)
        return {
            "examples": len(rows),
            "seconds": sum(single),
            "batched_seconds": sum(batched),
            "latency_ms": 1000 * statistics.median(single),
        }

    return once


SYSTEMS: dict[str, Callable[..., Round]] = {
    "train:mtkd": train_mtkd,
    "train:mtkd:alone": train_mtkd,
    "train:trainer": lambda work, options: trainer_of(work, False, options),
    "train:trainer-tuned": lambda work, options: trainer_of(work, True, options),
    "train:authors-loop": train_authors,
    "score:mtkd": score_mtkd,
    "score:trainer-tuned": score_trainer,
    "score:pipeline": score_pipeline,
    "predict:student": predict_student,
}


def matrix_rate(device: str, dtype: torch.dtype = torch.bfloat16) -> float:
    """The fastest of a few square matrix products, in operations a second."""
    best = 0.0
    for size in (1024, 2048) if device == "cpu" else (4096, 8192):
        one, other = (
            torch.randn(size, size, device=device).to(dtype),
            torch.randn(size, size, device=device).to(dtype),
        )
        for _ in range(6):
            started = time.perf_counter()
            one @ other
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def serve(line: Connection, system: str, work: Work, options, log: str) -> None:
    """In a process of its own: prepares and says "ready", then answers each message, the number of a round (0 warms up) or
    "rate", with the round's examples, seconds (building is left out) and memory (the process's peak, MB); None ends it."""
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(options.side_threads if system in SIDE else options.threads)
    os.environ["MTKD_LOG"] = os.devnull
    seed_everything(0)
    once = SYSTEMS[system](work, options)
    line.send("ready")
    while (told := line.recv()) is not None:
        found = {"rate": matrix_rate(work.device)} if told == "rate" else once(told)
        line.send(found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
