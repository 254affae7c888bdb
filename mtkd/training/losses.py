"""Task-specific losses: correct targets (Eq. 2), soft targets (Eq. 4) or a teacher's logits (MKD), and their weighted average."""

import torch
from torch.nn import functional as F

from mtkd.config.distillation import Distil
from mtkd.tasks import Task


def hard_loss(task: Task, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Eq. 2: cross entropy of logits (b, classes) with the gold labels (b,), mean over the batch.

    Mean squared error takes its place for a regression: scores (b, 1) against labels (b,).
    """
    if task.regression:
        return F.mse_loss(logits[:, 0], labels)
    return F.cross_entropy(logits, labels)


def ranking_loss(
    task: Task, scores: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor
) -> torch.Tensor:
    """Negative log likelihood of the right candidate of each question under a softmax over the question's candidates.

    MT-DNN's pairwise ranking (Liu et al. 2019, arXiv:1901.11504, section 3): scores (b,) of the candidates, their labels
    (b,) and question (b,), each question with exactly one candidate of the class `task.positive_label`; mean over the questions.
    """
    _, place = groups.unique(return_inverse=True)
    top = scores.new_full((int(place.max()) + 1,), -torch.inf).scatter_reduce(
        0, place, scores.detach(), "amax"
    )
    total = torch.zeros_like(top).index_add(0, place, (scores - top[place]).exp())
    return (total.log() + top)[place].sub(scores)[labels == task.positive_label].mean()


def soft_loss(
    task: Task,
    logits: torch.Tensor,
    soft: torch.Tensor,
    temperature: float = 1.0,
    kind: str = "cross-entropy",
) -> torch.Tensor:
    """Eq. 4: cross entropy of logits (b, classes) with the teacher's probabilities `soft` (b, classes), mean over the batch.

    A temperature other than the paper's 1 divides the logits of both (the teacher's are the logs of its averaged
    probabilities) and multiplies the loss by its square, after Hinton et al. (2015). Of the kind "kl" it is the
    Kullback-Leibler divergence from the soft targets: less by their entropy, on which no weight of the student has an
    influence, so the gradient is the same. Of the kind "logits", `soft` holds the teacher's logits (`logit_loss`). For a
    regression: mean squared error of the scores (b, 1).
    """
    if task.regression:
        return F.mse_loss(logits, soft)
    if kind == "logits":
        return logit_loss(logits, soft)
    if temperature != 1:
        soft = F.softmax(soft.clamp_min(1e-12).log() / temperature, dim=-1)
    if kind == "kl":
        return temperature**2 * F.kl_div(
            F.log_softmax(logits / temperature, dim=-1), soft, reduction="batchmean"
        )
    return temperature**2 * F.cross_entropy(logits / temperature, soft)


def logit_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error of logits (b, classes), or scores (b, 1), and the teacher's; mean over examples and classes.

    Claim 7 of US patent 11,620,515, whose text matches MKD: the mean over classes is this project's choice.
    """
    return F.mse_loss(logits, teacher)


def hard_weight(task: Task, distil: Distil, done: float) -> float:
    """Weight of Eq. 2 on a task with a teacher, `done` (0 to 1) of the way from the training's first update to its last.

    Under teacher annealing (BAM, Clark et al. 2019, section 3.2) it is `done` itself.
    """
    return done if distil.annealing else distil.hard_weight_of.get(task.name, distil.hard_weight)


def task_loss(
    task: Task,
    logits: torch.Tensor,
    labels: torch.Tensor,
    soft: torch.Tensor | None,
    distil: Distil,
    done: float = 0.0,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Line 3 of Algorithm 1: Eq. 2, averaged with the loss on soft targets by `hard_weight` where the task has a teacher.

    `known` (b,) tells which labels there are, None: all. An example without a label has soft targets alone, as one without
    soft targets has Eq. 2 alone; the mean is over all examples.
    """
    if soft is None:
        return hard_loss(task, logits, labels)
    if known is not None and not known.all():
        share, rest = (
            known.float().mean(),
            soft_loss(task, logits[~known], soft[~known], distil.temperature, distil.loss),
        )
        if not known.any():
            return rest
        return (
            share * task_loss(task, logits[known], labels[known], soft[known], distil, done)
            + (1 - share) * rest
        )
    weight, hard = hard_weight(task, distil, done), hard_loss(task, logits, labels)
    return weight * hard + (1 - weight) * soft_loss(
        task, logits, soft, distil.temperature, distil.loss
    )
