"""Algorithm 1 of MT-DNN_KD: multi-task training by mini-batches of one task each.

Fine-tuning on a task is the same with that task alone.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from transformers import get_linear_schedule_with_warmup, set_seed

from mtkd.config.distillation import Distil
from mtkd.config.training import Combine, Train
from mtkd.data.dataset import Batch, Examples
from mtkd.data.sampler import count_losses, length_batches, plan_epoch, share
from mtkd.errors import UserError
from mtkd.progress import bar
from mtkd.training.checkpoint import resume, save_checkpoint
from mtkd.training.combine import Combiner
from mtkd.training.losses import task_loss
from mtkd.training.precision import autocast, number_format
from mtkd.training.predict import CPU_BATCH


@dataclass(frozen=True)
class TrainingRun:
    """What a training depends on, besides the initial weights.

    A task whose train set carries soft targets is distilled as `distil` says (under
    `distil.loss: logits` these must be logits); the others are trained on their labels. `title`
    names the run in the progress bar and in errors. `extra_loss` is added to a batch's loss, after
    the model has read the batch (`mtkd.training.layerwise`).
    """

    train_sets: dict[str, Examples]
    settings: Train
    seed: int
    distil: Distil = field(default_factory=Distil)
    title: str = "training"
    extra_loss: Callable[[Batch], torch.Tensor] | None = None


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; call it before a model is built, which draws its new heads."""
    set_seed(seed)


def train(
    model: nn.Module,
    run: TrainingRun,
    *,
    checkpoint: Path,
    scorer: Callable[[nn.Module], list[dict]] | None = None,
) -> list[dict]:
    """Train `model` in place (MT-DNN_KD, Algorithm 1).

    In a group of processes (see `mtkd.training.distributed`) each computes its part of every
    mini-batch, and all end with the same model; the first alone scores and writes the checkpoint.

    Args:
        model: maps a `Batch` to logits (b, outputs) of the batch's task.
        run: data, settings and seed.
        checkpoint: file that takes the state every `settings.checkpoint_seconds`. A run that finds
            one continues from it and ends with the same weights to the last bit.
        scorer: returns rows (task, split, metric, value) of dev scores, of every epoch or the last.

    Returns:
        The log: a row per epoch and score, or per epoch and task without one, with epoch (from 1),
        task, loss (mean over the epoch's batches), the scorer's columns, and seconds so far.

    Raises:
        UserError: the loss is not finite, or the checkpoint is of another model.
    """
    settings = run.settings
    plan = partial(plan_epoch, run.train_sets, settings, seed=run.seed)  # lines 1 and 2
    updates = [len(plan(epoch=epoch)) for epoch in range(settings.epochs)]
    trainer = Trainer(model, run, sum(updates))
    state = {"epoch": 0, "step": 0, "losses": {}, "log": [], "seconds": 0.0}
    state |= resume(checkpoint, **trainer.parts) or {}
    done = sum(updates[: state["epoch"]]) + state["step"]
    started, saved = time.perf_counter() - state["seconds"], time.perf_counter()
    with bar(run.title, sum(updates), done, hidden=not trainer.is_main) as progress:
        for epoch in range(state["epoch"], settings.epochs):
            batches, losses = plan(epoch=epoch), state["losses"]
            for step in range(state["step"], len(batches)):
                trainer.update(*batches[step], done)
                done += 1
                now, last = time.perf_counter(), step + 1 == len(batches)
                due = now - saved > settings.checkpoint_seconds
                due = due and not last and not trainer.in_update
                if due or last or len(trainer.unread) == trainer.read_every:
                    for task, size, loss in trainer.read_losses(done):
                        total, count = losses.get(task, (0.0, 0))
                        losses[task] = (total + loss, count + 1)
                        progress.step(size, loss)
                if trainer.is_main and due:
                    state |= {"epoch": epoch, "step": step + 1, "seconds": now - started}
                    trainer.save(checkpoint, state)
                    saved = time.perf_counter()
            seconds = round(time.perf_counter() - started, 2)
            scored = settings.score_every_epoch or epoch + 1 == settings.epochs
            scores = scorer(model) if scorer and scored and trainer.is_main else []
            rows = _log_rows(epoch, losses, scores, seconds)
            state["log"] += trainer.combiner.describe(rows) if trainer.combiner else rows
            state |= {"step": 0, "losses": {}}
    return state["log"]


def make_optimizer(model: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """Return Adamax (MT-DNN_KD, section 4.1) or AdamW."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.optimizer == "adamax":
        return torch.optim.Adamax(groups, lr=settings.learning_rate)
    # Fused: the plain AdamW spends half of a small model's step on square roots of zeros.
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Return the matrices, which are decayed, and the biases and LayerNorms, which are not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    decayed = {"params": matrices, "weight_decay": weight_decay}
    return [decayed, {"params": vectors, "weight_decay": 0.0}]


class Trainer:
    """The model, its optimizer and schedule, and one update of them in a group of processes.

    Losses are read `read_every` updates at a time (`read_losses`): a GPU need not be waited for in
    between. `updates` are mini-batches; settings of `combine` may make fewer updates of them.
    """

    def __init__(self, model: nn.Module, run: TrainingRun, updates: int):
        self.run, self.updates = run, updates
        # A head of another task has no gradient, in any process.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        cpu = not torch.cuda.is_available()
        half = number_format("cpu" if cpu else "cuda")
        scaled = run.settings.precision == "bf16" and half == torch.float16
        precision = "fp16" if scaled else "no"  # only to scale the loss: autocast is in `update`
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[unused])
        self.is_main = self.accelerator.is_main_process
        self.read_every, self.unread = 1 if cpu else 50, []
        optimizer = make_optimizer(model, run.settings)
        self.combiner, self.in_update = None, False  # in_update: it waits for more mini-batches
        if run.settings.combine != Combine():
            self.combiner = Combiner(model, optimizer, run, updates, self.accelerator)
            updates = self.combiner.updates
        warmup = math.ceil(run.settings.warmup_ratio * updates)
        self.scheduler = get_linear_schedule_with_warmup(optimizer, warmup, updates)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.parts = {"model": model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        if self.combiner:
            self.parts["log_variances"] = self.combiner.log_variances
        if scaled:
            self.parts["scaler"] = self.accelerator.scaler

    def update(self, task: str, rows: np.ndarray, done: int) -> None:
        """Update the model by one mini-batch (MT-DNN_KD, Algorithm 1, lines 3 to 5).

        `rows` are of the task's train set, `done` mini-batches came before. Heads of other tasks
        stay as they are. The mini-batch's loss is left for `read_losses`.
        """
        accelerator, settings = self.accelerator, self.run.settings
        rank, processes = accelerator.process_index, accelerator.num_processes
        part = share(self.run.train_sets[task], rows, rank, processes)
        if processes > 1:  # one process draws dropout from torch's state, which a checkpoint keeps
            seed = np.random.SeedSequence([self.run.seed, rank, done]).generate_state(1, np.uint64)
            torch.manual_seed(int(seed[0]))

        if not self.model.training:
            self.model.train()
        examples, total = self.run.train_sets[task], torch.zeros((), device=accelerator.device)
        # A last batch may be too small for all: a process without rows has one with weight 0.
        for piece in self._pieces(examples, part if len(part) else rows[:1]):
            batch = examples.batch(piece).to(accelerator.device)
            with autocast(accelerator.device.type, settings.precision):
                logits = self.model(batch)
                extra = self.run.extra_loss(batch) if self.run.extra_loss else None
            progress = done / max(1, self.updates - 1)
            loss = task_loss(examples.task, logits, batch, self.run.distil, progress)
            loss = loss if extra is None else loss + extra
            losses = min(count_losses(examples, piece), count_losses(examples, part))
            loss = loss * (losses / count_losses(examples, rows))
            # Gradients are averaged over the processes: the sum is to be the mini-batch's.
            accelerator.backward(loss * processes)
            total += loss.detach()
        total = accelerator.reduce(total, "sum")
        self.unread.append((task, len(rows), total))
        if self.combiner:
            self.in_update = not self.combiner.add(task, total, done)
            if self.in_update:
                return
        accelerator.clip_grad_norm_(self.model.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()

    def read_losses(self, done: int) -> list[tuple[str, int, float]]:
        """Return task, examples and loss of each mini-batch since the last time.

        `done` mini-batches came so far. Raises `UserError` if a loss is not finite.
        """
        unread, self.unread = self.unread, []
        values = torch.stack([loss for *_, loss in unread]).tolist() if unread else []
        for number, ((task, *_), value) in enumerate(zip(unread, values, strict=True), start=1):
            if not math.isfinite(value):
                rate = self.run.settings.learning_rate
                mend = f"lower train.learning_rate ({rate:g}) or use fp32"
                wrong = f"the loss is {value} on {task} in batch {done - len(unread) + number}"
                raise UserError(f"{self.run.title}: {wrong}: {mend}.")
        return [(task, size, value) for (task, size, _), value in zip(unread, values, strict=True)]

    def save(self, checkpoint: Path, position: dict) -> None:
        """Write the state of all parts, and the position in the run."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        save_checkpoint(checkpoint, position | states)

    def _pieces(self, examples: Examples, rows: np.ndarray) -> list[np.ndarray]:
        """Return the rows in pieces, one after another on a CPU where they are many word pieces.

        A piece takes less memory than the whole, fits the caches better and is padded less.
        """
        lengths, alone = examples.lengths[rows], self.accelerator.num_processes == 1
        splits = alone and self.accelerator.device.type == "cpu" and examples.group_ids is None
        if not splits or lengths.max() * len(rows) <= CPU_BATCH:
            return [rows]
        return [rows[piece] for piece in length_batches(lengths, CPU_BATCH)]


def _log_rows(epoch: int, losses: dict, scores: list[dict], seconds: float) -> list[dict]:
    means = {task: total / count for task, (total, count) in losses.items()}
    scored = {row["task"] for row in scores}
    rows = [{"task": task} for task in means if task not in scored] + scores
    about = {"epoch": epoch + 1, "seconds": seconds}
    return [about | {"loss": means.get(row["task"])} | row for row in rows]
