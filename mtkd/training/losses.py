"""Losses of multi-task training and distillation (MT-DNN_KD, section 3, with its variants).

Logits are (b, classes), or scores (b, 1) for a regression; b is the size of the mini-batch. Every
loss is a scalar, the mean over the batch.
"""

import torch
import torch.nn.functional as F

from mtkd.config.distillation import Distil
from mtkd.tasks import Task


def hard_loss(task: Task, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy with the correct labels (b,) (MT-DNN_KD, Eq. 2).

    For a regression, mean squared error of the scores.
    """
    if task.regression:
        return F.mse_loss(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def soft_loss(
    task: Task,
    logits: torch.Tensor,
    soft_targets: torch.Tensor,
    temperature: float = 1.0,
    kind: str = "cross-entropy",
) -> torch.Tensor:
    """Cross entropy with a teacher's class probabilities (MT-DNN_KD, Eq. 4).

    With a temperature other than 1, both distributions are softened and the loss is scaled by its
    square (Hinton et al. 2015, section 2), so that gradients keep their size. For a regression,
    mean squared error of the scores.

    Args:
        task: of the batch.
        logits: (b, classes) of the student.
        soft_targets: (b, classes), rows sum to 1: the ensemble's averaged probabilities (Eq. 3);
            for the kind "logits" the teacher's logits, for a regression its scores.
        temperature: above 0.
        kind: "cross-entropy", "kl" (less by the soft targets' entropy, same gradient) or "logits".
    """
    if task.regression:
        return F.mse_loss(logits, soft_targets)
    if kind == "logits":
        return logit_loss(logits, soft_targets)
    if temperature != 1:
        soft_targets = F.softmax(soft_targets.clamp_min(1e-12).log() / temperature, dim=-1)
    logits = logits / temperature
    if kind == "kl":
        log_student = F.log_softmax(logits, dim=-1)
        return temperature**2 * F.kl_div(log_student, soft_targets, reduction="batchmean")
    return temperature**2 * F.cross_entropy(logits, soft_targets)


def logit_loss(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Mean squared error with a teacher's logits (MKD; US patent 11,620,515, claim 7).

    The mean over classes, not only over examples, is this project's choice.
    """
    return F.mse_loss(logits, teacher_logits)


def ranking_loss(
    task: Task, scores: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor
) -> torch.Tensor:
    """Negative log likelihood of the correct candidate under a softmax over a query's candidates.

    MT-DNN's pairwise ranking (Liu et al. 2019, arXiv:1901.11504, section 3); mean over the queries.
    `scores`, `labels` and `groups` (the query) are (b,), one value a candidate; exactly one
    candidate of a query has the label `task.positive_label`.
    """
    _, group = groups.unique(return_inverse=True)
    lowest = scores.new_full((int(group.max()) + 1,), -torch.inf)
    top = lowest.scatter_reduce(0, group, scores.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, group, (scores - top[group]).exp())
    return (total.log() + top)[group].sub(scores)[labels == task.positive_label].mean()


def hard_weight(task: Task, distil: Distil, done: float) -> float:
    """Return the weight of Eq. 2 on a task with a teacher.

    Under teacher annealing (BAM, Clark et al. 2019, section 3.2) it is `done`, the fraction of the
    training's updates: 0 in the first, 1 in the last.
    """
    return done if distil.annealing else distil.hard_weight_of.get(task.name, distil.hard_weight)


def task_loss(
    task: Task,
    logits: torch.Tensor,
    labels: torch.Tensor,
    soft_targets: torch.Tensor | None,
    distil: Distil,
    done: float = 0.0,
    label_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Average Eq. 2 and Eq. 4 by `hard_weight` (MT-DNN_KD, Algorithm 1, line 3).

    Without soft targets it is Eq. 2 alone; for the examples without a label (`label_mask` (b,) is
    false; None: all have one) Eq. 4 alone.
    """
    if soft_targets is None:
        return hard_loss(task, logits, labels)
    if label_mask is not None and not label_mask.all():
        m, fraction = label_mask, label_mask.float().mean()
        soft = soft_loss(task, logits[~m], soft_targets[~m], distil.temperature, distil.loss)
        if not m.any():
            return soft
        both = task_loss(task, logits[m], labels[m], soft_targets[m], distil, done)
        return fraction * both + (1 - fraction) * soft
    weight, hard = hard_weight(task, distil, done), hard_loss(task, logits, labels)
    soft = soft_loss(task, logits, soft_targets, distil.temperature, distil.loss)
    return weight * hard + (1 - weight) * soft
