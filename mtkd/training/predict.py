"""Predictions of a model on a split, and their scores."""

import numpy as np
import torch
from torch import nn

from mtkd.data.dataset import Examples
from mtkd.data.sampler import length_batches
from mtkd.tasks import Task
from mtkd.training import metrics

# Padded word pieces of a batch. Few on a CPU: they fit a core's cache and pad a small split little.
CPU_BATCH, GPU_BATCH = 2048, 8192


@torch.inference_mode()
def predict(
    model: nn.Module, examples: Examples, precision: str = "fp32", rows: range | None = None
) -> np.ndarray:
    """Return the logits (n, classes), or scores (n, 1), of examples in their order, in fp32.

    `rows` are consecutive; None: all.
    """
    device, rows = next(model.parameters()).device, rows or range(len(examples))
    lengths = examples.lengths[rows.start : rows.stop]
    outputs = np.empty((len(rows), examples.task.num_outputs), dtype=np.float32)
    model.eval()
    batches = [*length_batches(lengths, CPU_BATCH if device.type == "cpu" else GPU_BATCH)]
    # Around the loop, so that weights are cast once and not for every batch.
    with torch.autocast(device.type, half_precision(device.type), enabled=precision == "bf16"):
        logits = [model(examples.batch(batch + rows.start).to(device)) for batch in batches]
    outputs[np.concatenate(batches)] = torch.cat(logits).cpu().numpy()
    return outputs


def half_precision(device: str) -> torch.dtype:
    """Return what `precision: bf16` means on a kind of device: fp16 on a GPU without bf16."""
    if device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def probabilities(task: Task, logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (..., classes) (MT-DNN_KD, Eq. 1); scores (..., 1) unchanged."""
    if task.regression:
        return logits
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def score_rows(
    task: Task, split: str, outputs: np.ndarray, labels: np.ndarray
) -> tuple[list[dict], list[str]]:
    """Return a row per metric (task, split, metric, value in percent, n), and notes."""
    values, notes = metrics.score(task, outputs, labels)
    row = {"task": task.name, "split": split, "n": len(labels)}
    return [row | {"metric": name, "value": round(values[name], 4)} for name in values], notes
