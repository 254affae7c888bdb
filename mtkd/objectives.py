"""Task-specific losses: correct targets (Eq. 2), soft targets (Eq. 4) or a teacher's logits (MKD), and their weighted average."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from mtkd.study import Distil
from mtkd.tasks import Task


def hard_loss(task: Task, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Eq. 2: cross entropy of logits (b, classes) with the gold labels (b,), mean over the batch.

    Mean squared error takes its place for a regression: scores (b, 1) against labels (b,).
    """
    if task.regression:
        return F.mse_loss(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def ranking_loss(task: Task, scores: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of the right candidate of each question under a softmax over the question's candidates.

    MT-DNN's pairwise ranking (Liu et al. 2019, arXiv:1901.11504, section 3): scores (b,) of the candidates, their labels
    (b,) and question (b,), each question with exactly one candidate of the class `task.right`; mean over the questions.
    """
    _, place = groups.unique(return_inverse=True)
    top = scores.new_full((int(place.max()) + 1,), -torch.inf).scatter_reduce(0, place, scores.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, place, (scores - top[place]).exp())
    return (total.log() + top)[place].sub(scores)[labels == task.right].mean()


def soft_loss(task: Task, logits: torch.Tensor, soft: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Eq. 4: cross entropy of logits (b, classes) with the teacher's probabilities `soft` (b, classes), mean over the batch.

    A temperature other than the paper's 1 divides the logits of both (the teacher's are the logs of its averaged
    probabilities) and multiplies the loss by its square, after Hinton et al. (2015). For a regression: mean squared
    error of the scores (b, 1).
    """
    if task.regression:
        return F.mse_loss(logits, soft)
    if temperature != 1:
        soft = F.softmax(soft.clamp_min(1e-12).log() / temperature, dim=-1)
    return temperature**2 * F.cross_entropy(logits / temperature, soft)


@dataclass(frozen=True)
class MatchLogits:
    """MKD's objective in place of Eq. 4: `soft` then holds the teacher's logits; hard targets have `hard_weight`."""

    hard_weight: float = 0.0


def logit_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error of logits (b, classes), or scores (b, 1), and the teacher's; mean over examples and classes.

    Claim 7 of US patent 11,620,515, whose text matches MKD: the mean over classes is this project's choice.
    """
    return F.mse_loss(logits, teacher)


def task_loss(task: Task, logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor | None,
              distil: Distil | MatchLogits) -> torch.Tensor:  # fmt: skip
    """Line 3 of Algorithm 1: Eq. 2, averaged with Eq. 4 (or MKD's loss) by `distil.hard_weight` where the task has a teacher."""
    hard = hard_loss(task, logits, labels)
    if soft is None:
        return hard
    if isinstance(distil, MatchLogits):
        return distil.hard_weight * hard + (1 - distil.hard_weight) * logit_loss(logits, soft)
    return distil.hard_weight * hard + (1 - distil.hard_weight) * soft_loss(task, logits, soft, distil.temperature)
