"""Losses of multi-task training and distillation (MT-DNN_KD, section 3, with its variants).

Logits are (b, classes), or scores (b, 1) for a regression; b is the size of the mini-batch, or its
number of words, or of pieces of texts to write, in a task with a label for each. Every loss is a
scalar, the mean over the batch.

With `groups` (b,), a column is normalised over the rows of a group in place of a row over its
columns: over a query's candidates in ranking, over an example's words in span extraction.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F

from mtkd.config.distillation import Distil
from mtkd.data.dataset import Batch
from mtkd.tasks import Task

PADDED = -1e9  # the logit of what a smaller group lacks: its probability is 0


def hard_loss(
    task: Task, logits: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross entropy with the correct labels (b,) (MT-DNN_KD, Eq. 2).

    For a regression, mean squared error of the scores. With groups, the mean over them: MT-DNN's
    pairwise ranking (Liu et al. 2019, arXiv:1901.11504, section 3), where one candidate of a query
    has the label `task.positive_label`; or the start and the end of a span (BERT, Devlin et al.
    2019, section 4.2).
    """
    if groups is not None:
        targets = regroup(group_targets(task, labels), groups, 0)
        return F.cross_entropy(regroup(logits, groups, PADDED), targets.argmax(1))
    if task.regression:
        return F.mse_loss(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def soft_loss(
    task: Task,
    logits: torch.Tensor,
    soft_targets: torch.Tensor,
    temperature: float = 1.0,
    kind: str = "cross-entropy",
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy with a teacher's class probabilities (MT-DNN_KD, Eq. 4).

    With a temperature other than 1, both distributions are softened and the loss is scaled by its
    square (Hinton et al. 2015, section 2), so that gradients keep their size. For a regression,
    mean squared error of the scores. Of texts to write, see `sparse_loss`.

    Args:
        task: of the batch.
        logits: (b, classes) of the student.
        soft_targets: (b, classes), rows sum to 1: the ensemble's averaged probabilities (Eq. 3);
            for the kind "logits" the teacher's logits, for a regression its scores.
        temperature: above 0.
        kind: "cross-entropy", "kl" (less by the soft targets' entropy, same gradient) or "logits".
        groups: over which probabilities are normalised, None: over the classes. Eq. 4 of words or
            candidates is this project's extension.
    """
    if task.regression and groups is None:
        return F.mse_loss(logits, soft_targets)
    if kind == "logits":
        return logit_loss(logits, soft_targets)
    if task.generates:
        return sparse_loss(logits, soft_targets, kind)
    if groups is not None:
        logits, soft_targets = regroup(logits, groups, PADDED), regroup(soft_targets, groups, 0)
    if temperature != 1:
        powers = soft_targets.clamp_min(1e-12).log() / temperature
        soft_targets = F.softmax(powers.masked_fill(logits == PADDED, -torch.inf), dim=-1)
    logits = logits / temperature
    if kind == "kl":
        log_student = F.log_softmax(logits, dim=-1)
        return temperature**2 * F.kl_div(log_student, soft_targets, reduction="batchmean")
    return temperature**2 * F.cross_entropy(logits, soft_targets)


def sparse_loss(logits: torch.Tensor, soft_targets: torch.Tensor, kind: str) -> torch.Tensor:
    """Cross entropy with the most probable word pieces of a teacher, for each piece of a text.

    It is Eq. 4 at each piece, after the correct ones before it: this project's extension, and the
    word-level distillation of Kim and Rush (2016, arXiv:1606.07947). Their sequence-level one, on
    texts that the teacher writes, is left out. The probabilities of the pieces that are kept are
    scaled to the sum 1.

    Args:
        logits: (u, vocabulary) of the student.
        soft_targets: (u, 2 * k) numbers of k pieces, which may come twice, and their
            log-probabilities (`mtkd.training.soft_targets`).
        kind: "cross-entropy" or "kl".
    """
    numbers, logs = soft_targets.chunk(2, dim=1)
    numbers, weights = numbers.long(), logs.softmax(dim=1)
    gaps = F.log_softmax(logits, dim=1).gather(1, numbers)
    if kind == "kl":  # a piece that comes twice has the sum of both probabilities
        same = numbers[:, :, None] == numbers[:, None]
        gaps = gaps - (same * weights[:, None]).sum(dim=2).log()
    return -(weights * gaps).sum(dim=1).mean()


def logit_loss(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Mean squared error with a teacher's logits (MKD; US patent 11,620,515, claim 7).

    The mean over classes, not only over examples, is this project's choice.
    """
    return F.mse_loss(logits, teacher_logits)


def regroup(values: torch.Tensor, groups: torch.Tensor, fill: float) -> torch.Tensor:
    """Return values (b, c) as a row for each group and column, groups * c rows, filled up."""
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    order = group.argsort(stable=True)
    first = (sizes.cumsum(0) - sizes)[group[order]]
    place = torch.arange(len(order), device=order.device) - first
    table = values.new_full((len(sizes), int(sizes.max()), values.shape[1]), fill)
    table = table.index_put((group[order], place), values[order])
    return table.transpose(1, 2).flatten(0, 1)


def group_targets(task: Task, labels: torch.Tensor) -> torch.Tensor:
    """Return 1 where a row is what a column asks for, and 0 elsewhere, of labels (b,): (b, c)."""
    if task.by_word:
        return torch.stack([labels & 1, labels >> 1], dim=1)
    return (labels == task.positive_label).long()[:, None]


def hard_weight(task: Task, distil: Distil, done: float) -> float:
    """Return the weight of Eq. 2 on a task with a teacher.

    Under teacher annealing (BAM, Clark et al. 2019, section 3.2) it is `done`, the fraction of the
    training's updates: 0 in the first, 1 in the last.
    """
    return done if distil.annealing else distil.hard_weight_of.get(task.name, distil.hard_weight)


def task_loss(
    task: Task, logits: torch.Tensor, batch: Batch, distil: Distil, done: float = 0.0
) -> torch.Tensor:
    """Average Eq. 2 and Eq. 4 by `hard_weight` (MT-DNN_KD, Algorithm 1, line 3).

    Without soft targets it is Eq. 2 alone; for what has no label (`batch.label_mask`) Eq. 4 alone.
    """
    labels, targets, groups = batch.labels, batch.soft_targets, batch.group_ids
    if targets is None:
        return hard_loss(task, logits, labels, groups)
    how = {"temperature": distil.temperature, "kind": distil.loss, "groups": groups}
    mask, soft = batch.label_mask, partial(soft_loss, task, **how)
    if mask is not None and not mask.all():
        unlabelled = soft(logits[~mask], targets[~mask])
        if not mask.any():
            return unlabelled
        labelled = replace(batch, labels=labels[mask], soft_targets=targets[mask], label_mask=None)
        both, fraction = task_loss(task, logits[mask], labelled, distil, done), mask.float().mean()
        return fraction * both + (1 - fraction) * unlabelled
    weight, hard = hard_weight(task, distil, done), hard_loss(task, logits, labels, groups)
    return weight * hard + (1 - weight) * soft(logits, targets)
