"""Logits and scores of a model on a split."""

import numpy as np
import torch
from torch import nn

from mtkd import metrics
from mtkd.data.batches import Examples, by_length
from mtkd.tasks import Task


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples, precision: str = "fp32") -> np.ndarray:
    """Logits (n, classes) of a split's examples, or scores (n, 1), in the split's order, fp32."""
    device = next(model.parameters()).device
    model.eval()
    outputs = np.empty((len(examples), examples.task.outputs), dtype=np.float32)
    for rows in by_length(examples.lengths):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs[rows] = model(examples.batch(rows).to(device)).cpu().numpy()
    return outputs


def probabilities(task: Task, logits: np.ndarray) -> np.ndarray:
    """Class probabilities (n, classes) by softmax (Eq. 1); a regression's scores (n, 1) as they are."""
    if task.regression:
        return logits
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def score_rows(task: Task, split: str, outputs: np.ndarray, labels: np.ndarray) -> tuple[list[dict], list[str]]:
    """A row a metric (task, split, metric, value, n), and notes."""
    values, notes = metrics.score(task, outputs, labels)
    return [dict(task=task.name, split=split, metric=name, value=round(value, 4), n=len(labels)) for name, value in values.items()], notes
