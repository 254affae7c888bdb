"""Logits and scores of a model on a split."""

import numpy as np
import torch
from torch import nn

from mtkd.data.dataset import Examples
from mtkd.data.sampler import by_length
from mtkd.tasks import Task
from mtkd.training import metrics

PIECES = {
    "cpu": 2048
}  # padded word pieces a batch: what fits a core's cache, and pads a small split little


@torch.inference_mode()
def predict(
    model: nn.Module, examples: Examples, precision: str = "fp32", part: range | None = None
) -> np.ndarray:
    """Logits (n, classes) of a split's examples (or of a part of them), or scores (n, 1), in the split's order, fp32."""
    device, part = next(model.parameters()).device, part or range(len(examples))
    model.eval()
    outputs = np.empty((len(part), examples.task.num_outputs), dtype=np.float32)
    with torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16"
    ):  # weights are cast once, not every batch
        for rows in by_length(
            examples.lengths[part.start : part.stop], PIECES.get(device.type, 8192)
        ):
            outputs[rows] = model(examples.batch(rows + part.start).to(device)).cpu().numpy()
    return outputs


def probabilities(task: Task, logits: np.ndarray) -> np.ndarray:
    """Class probabilities (n, classes) by softmax (Eq. 1); a regression's scores (n, 1) as they are."""
    if task.regression:
        return logits
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def score_rows(
    task: Task, split: str, outputs: np.ndarray, labels: np.ndarray
) -> tuple[list[dict], list[str]]:
    """A row a metric (task, split, metric, value, n), and notes."""
    values, notes = metrics.score(task, outputs, labels)
    return [
        dict(task=task.name, split=split, metric=name, value=round(value, 4), n=len(labels))
        for name, value in values.items()
    ], notes
