"""Algorithm 1: multi-task training by one-task mini-batches; fine-tuning is the same with a single task."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from transformers import get_linear_schedule_with_warmup, set_seed

from mtkd.config.distillation import Distil
from mtkd.config.training import Train
from mtkd.data.dataset import Batch, Examples
from mtkd.data.sampler import plan_epoch
from mtkd.errors import UserError
from mtkd.models import fast_cpu as processor
from mtkd.progress import bar
from mtkd.training import checkpoint as checkpoints
from mtkd.training.losses import ranking_loss, task_loss

Scorer = Callable[[nn.Module], list[dict]]


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch. Call it before a model is built: new heads are drawn from these states."""
    set_seed(seed)


def optimizer_of(model: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """Adamax (section 4.1), or AdamW; biases and LayerNorms are not decayed."""
    # Fused: one pass over the weights; the plain one's square roots of zeros (word pieces not seen yet) take half a small model's step.
    kind = {"adamax": torch.optim.Adamax, "adamw": partial(torch.optim.AdamW, fused=True)}[
        settings.optimizer
    ]
    plain = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return kind(groups, lr=settings.learning_rate)


def plan(
    examples: dict[str, Examples], settings: Train, seed: int, epoch: int
) -> list[tuple[str, np.ndarray]]:
    """The batches of one epoch: lines 1 and 2 of Algorithm 1 under the study's settings."""
    lengths = {name: split.lengths for name, split in examples.items()}
    groups = {
        name: split.group_ids for name, split in examples.items() if split.group_ids is not None
    }
    return plan_epoch(
        lengths,
        batch_size=settings.batch_size,
        seed=seed,
        epoch=epoch,
        sampling=settings.sampling,
        temperature=settings.sampling_temperature,
        bucket=settings.length_bucket,
        epoch_sizes={name: split.epoch_size for name, split in examples.items()},
        groups=groups,
    )


def train(
    model: nn.Module,
    examples: dict[str, Examples],
    settings: Train,
    *,
    seed: int,
    checkpoint: Path,
    distil: Distil | None = None,
    scorer: Scorer | None = None,
    title: str = "training",
) -> list[dict]:
    """Trains `model` in place by Algorithm 1 and returns its log.

    `examples` holds the tasks' train splits; one that carries soft targets (under `distil.loss: logits`, its teacher's
    logits) is trained on the average of Eq. 2 and the loss on these. `scorer` gives dev scores, after every epoch or after
    the last. The log has a row an epoch and task, or an epoch, task and score:
    epoch, task, loss (mean over the epoch's batches), split, metric, value, and the training's seconds so far. Every
    `settings.checkpoint_seconds` the state goes to `checkpoint`; a run that finds one there goes on from it and ends
    with the same weights to the last bit. Raises `UserError` when the loss is not finite.

    Called in every process of a group (`mtkd.training.distributed`), a step is that of the whole mini-batch: each takes its part of
    the rows, losses are means over all of them, and the model ends the same everywhere. The first process alone scores,
    shows progress and writes the checkpoint; all read it.
    """
    distil = distil or Distil()
    processor.keep_memory()
    # A head of another task has no gradient, in any process.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    try:  # its settings hold for a whole process
        accelerator = Accelerator(
            mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[unused]
        )
    except ValueError:
        raise UserError(
            f"{title}: this process already has an Accelerator of another precision or device (a Trainer with bf16=True "
            "makes one), and train.precision would not hold; train in a process or kernel of its own."
        ) from None
    rank, processes = accelerator.process_index, accelerator.num_processes
    optimizer = optimizer_of(model, settings)
    steps = [len(plan(examples, settings, seed, epoch)) for epoch in range(settings.epochs)]
    warmup = math.ceil(settings.warmup_ratio * sum(steps))
    scheduler = get_linear_schedule_with_warmup(optimizer, warmup, sum(steps))
    shared, optimizer = accelerator.prepare(model, optimizer)
    tasks = {name: split.task for name, split in examples.items()}
    position, log = {"epoch": 0, "step": 0, "done": 0, "seconds": 0.0, "losses": {}}, []
    with accelerator.main_process_first():  # it may remove a damaged one
        found = checkpoints.load(checkpoint, model=model, optimizer=optimizer, scheduler=scheduler)
    if found:
        position, log = found
    started, saved = time.perf_counter() - position["seconds"], time.perf_counter()
    with bar(
        title, total=sum(steps), done=position["done"], hidden=not accelerator.is_main_process
    ) as progress:
        for epoch in range(position["epoch"], settings.epochs):
            losses = position["losses"] if epoch == position["epoch"] else {}
            first = position["step"] if epoch == position["epoch"] else 0
            batches = plan(examples, settings, seed, epoch)
            for step in range(first, len(batches)):
                task, rows = batches[step]
                own = rows[rank::processes]
                # A process without rows (a last batch may be small) computes on another's, with no weight.
                batch = examples[task].batch(own if len(own) else rows[:1]).to(accelerator.device)
                update = sum(steps[:epoch]) + step
                if processes > 1:
                    torch.manual_seed(_dropout_seed(seed, rank, update))
                loss = step_on(
                    shared,
                    batch,
                    tasks[task],
                    optimizer,
                    accelerator,
                    settings,
                    distil,
                    len(own) / len(rows),
                    update / max(1, sum(steps) - 1),
                )
                scheduler.step()
                if not math.isfinite(loss):
                    raise UserError(
                        f"{title}: the loss on {tasks[task].title} is {loss} at step {step + 1} of epoch {epoch + 1}; lower "
                        f"train.learning_rate (it is {settings.learning_rate:g}) or use train.precision: fp32."
                    )
                total, count = losses.get(task, (0.0, 0))
                losses[task] = [total + loss, count + 1]
                progress.step(examples=len(rows), loss=loss)
                due = (
                    accelerator.is_main_process
                    and time.perf_counter() - saved > settings.checkpoint_seconds
                )
                if due and step + 1 < len(batches):
                    position = {
                        "epoch": epoch,
                        "step": step + 1,
                        "done": sum(steps[:epoch]) + step + 1,
                        "losses": losses,
                        "seconds": time.perf_counter() - started,
                    }
                    checkpoints.save(
                        checkpoint,
                        model=model,
                        optimizer=optimizer,
                        scheduler=scheduler,
                        position=position,
                        log=log,
                    )
                    saved = time.perf_counter()
            own_scorer = scorer if accelerator.is_main_process else None
            log += _epoch_rows(
                epoch, settings, losses, model, own_scorer, round(time.perf_counter() - started, 2)
            )
    return log


def step_on(
    model: nn.Module,
    batch: Batch,
    task,
    optimizer,
    accelerator: Accelerator,
    settings: Train,
    distil: Distil,
    share: float = 1.0,
    done: float = 0.0,
) -> float:
    """Lines 3 to 5 of Algorithm 1: loss, gradient, update. Heads of other tasks have no gradient and stay as they are.

    `share` is this process's part of the mini-batch's examples, `done` how far the training is (0 at its first update, 1 at
    its last). Returns the mini-batch's loss.
    """
    model.train()
    with torch.autocast(
        accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"
    ):
        logits = model(batch)
    if batch.group_ids is None:
        loss = task_loss(
            task, logits, batch.labels, batch.soft_targets, distil, done, batch.label_mask
        )
    else:
        loss = ranking_loss(task, logits[:, 0], batch.labels, batch.group_ids)
    # Gradients are averaged over the processes: so weighted, the average is the mini-batch's.
    accelerator.backward(loss * (share * accelerator.num_processes))
    accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return accelerator.reduce(loss.detach() * share, "sum").item()


def _dropout_seed(seed: int, rank: int, step: int) -> int:
    """Each process and step draws from a stream of its own, so a resumed process needs no state but the step."""
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0])


def _epoch_rows(
    epoch: int,
    settings: Train,
    losses: dict,
    model: nn.Module,
    scorer: Scorer | None,
    seconds: float,
) -> list[dict]:
    last = epoch + 1 == settings.epochs
    scores = scorer(model) if scorer and (last or settings.score_every_epoch) else []
    means = {task: total / count for task, (total, count) in losses.items()}
    rows: Iterator[dict] = (
        {"epoch": epoch + 1, "task": task, "loss": loss, "seconds": seconds}
        for task, loss in means.items()
    )
    scored = {row["task"] for row in scores}
    return [
        *(row for row in rows if row["task"] not in scored),
        *(
            {"epoch": epoch + 1, "loss": means.get(row["task"]), "seconds": seconds, **row}
            for row in scores
        ),
    ]
