"""Predictions of a model on a split, and their scores."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mtkd.data.dataset import Examples
from mtkd.data.sampler import length_batches
from mtkd.tasks import TOP, Task
from mtkd.training import metrics
from mtkd.training.precision import autocast

# Padded word pieces of a batch. Few on a CPU: they fit a core's cache and pad a small split little.
CPU_BATCH, GPU_BATCH = 2048, 8192


@torch.inference_mode()
def predict(
    model: nn.Module, examples: Examples, precision: str = "fp32", rows: range | None = None
) -> np.ndarray:
    """Return the logits (u, classes), or scores (u, 1), of examples in their order, in fp32.

    Of the pieces of texts to write, which have a whole vocabulary each, it is `most_probable`.
    u is the number of their labels (see `mtkd.data.dataset.Batch`). `rows` are consecutive
    examples; None: all.
    """
    device, rows = next(model.parameters()).device, rows or range(len(examples))
    lengths = examples.lengths[rows.start : rows.stop]
    if examples.task.generates:
        lengths = np.maximum(lengths, examples.counts[rows.start : rows.stop])
    outputs = np.empty((len(examples.units(rows)), examples.task.num_outputs), dtype=np.float32)
    model.eval()
    read = model if not examples.task.generates else lambda batch: most_probable(model(batch))
    batches = [*length_batches(lengths, CPU_BATCH if device.type == "cpu" else GPU_BATCH)]
    # Around the loop, so that weights are cast once and not for every batch.
    with autocast(device.type, precision):
        logits = [read(examples.batch(batch + rows.start).to(device)) for batch in batches]
    places = examples.units(np.concatenate(batches) + rows.start) - examples.units(rows)[:1]
    outputs[places] = torch.cat(logits).cpu().numpy()
    return outputs


def most_probable(logits: torch.Tensor) -> torch.Tensor:
    """Return numbers and log-probabilities of the `TOP` most probable word pieces: (u, 2 * TOP).

    `logits` are (u, vocabulary). fp32 holds numbers up to 2^24.
    """
    logs, numbers = F.log_softmax(logits, dim=1).topk(TOP)
    return torch.cat([numbers.float(), logs], dim=1)


def probabilities(task: Task, logits: np.ndarray, idx: np.ndarray | None = None) -> np.ndarray:
    """Return the softmax of logits (..., classes) (MT-DNN_KD, Eq. 1); scores (..., 1) unchanged.

    A span's (..., u, 2) are normalised over the words of each example, a ranking's (..., u, 1) over
    the candidates of each question; `idx` (u,) says which. Of texts to write, see `most_probable`;
    these are unchanged, too.
    """
    if task.regression or task.generates:
        return logits
    if task.grouped:
        return group_softmax(idx, logits)
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def group_softmax(groups: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (..., u, c) over the rows of each group (u,)."""
    _, group = np.unique(groups, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def each(reduce: np.ufunc, values: np.ndarray) -> np.ndarray:
        return reduce.reduceat(values[..., order, :], starts, axis=-2)[..., group, :]

    powers = np.exp(logits - each(np.maximum, logits))
    return powers / each(np.add, powers)


def score_rows(
    task: Task, split: str, outputs: np.ndarray, labels: np.ndarray, idx: np.ndarray | None = None
) -> tuple[list[dict], list[str]]:
    """Return a row per metric (task, split, metric, value in percent, n examples), and notes.

    Arguments as of `metrics.score`.
    """
    values, notes = metrics.score(task, outputs, labels, idx)
    row = {"task": task.name, "split": split, "n": len(labels if idx is None else np.unique(idx))}
    return [row | {"metric": name, "value": round(values[name], 4)} for name in values], notes
