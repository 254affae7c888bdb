"""Ways to combine tasks that Algorithm 1 of MT-DNN_KD has not: weights of their losses, and PCGrad.

They start from the gradients of a mini-batch, which `mtkd.training.loop` computes in any case, and
make those of an update: a weighted loss has the weighted gradients.
"""

from functools import reduce
from itertools import compress
from operator import mul
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from mtkd.tasks import Task

if TYPE_CHECKING:
    from mtkd.training.loop import TrainingRun

Gradients = list[torch.Tensor | None]  # of each parameter; None: the task does not use it


class Combiner:
    """Collect the gradients of mini-batches and combine them to those of an update.

    Under `task_weights: uncertainty`, a task has a log variance s that is learned, from 0 on: its
    loss becomes exp(-s) loss + s / 2, or exp(-s) loss / 2 + s / 2 for a regression (Kendall et al.
    2018, arXiv:1705.07115, section 3.2). They are in the optimizer, without weight decay.

    Attributes:
        updates: Number of them; the last may be of fewer mini-batches than the others.
        log_variances: Parameters () by task; none without `task_weights: uncertainty`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        run: "TrainingRun",
        batches: int,
        accelerator: Accelerator,
    ):
        self.settings, self.seed, self.batches = run.settings.combine, run.seed, batches
        self.updates = -(-batches // self.settings.batches_per_update)
        uncertain = self.settings.task_weights == "uncertainty"
        zeros = {task: nn.Parameter(torch.zeros(())) for task in run.train_sets if uncertain}
        self.log_variances = nn.ParameterDict(zeros).to(accelerator.device)
        group = {"params": list(self.log_variances.values()), "weight_decay": 0.0}
        optimizer.add_param_group(group | {"lr": self.settings.variance_learning_rate})
        self.factors = {name: self._factor(sets.task) for name, sets in run.train_sets.items()}
        self.parameters = list(model.parameters())
        self.scaler = accelerator.scaler
        self.gradients: dict[str, Gradients] = {}
        self.collected = 0

    def _factor(self, task: Task) -> float:
        """Return the fixed factor on a task's loss."""
        if not task.regression:
            return 1.0
        return self.settings.regression_weight * (0.5 if self.log_variances else 1.0)

    @torch.no_grad()
    def add(self, task: str, loss: torch.Tensor, done: int) -> bool:
        """Add a mini-batch; return whether the parameters then have the gradients of an update.

        Before, they have those of the mini-batch's loss (); where more mini-batches are to come,
        they have none afterwards. `done` mini-batches came before.
        """
        weight = self.factors[task]
        if task in self.log_variances:
            weight = weight * torch.exp(-self.log_variances[task])
            slope = 0.5 - weight * loss
            self.log_variances[task].grad = self.scaler.scale(slope) if self.scaler else slope
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad *= weight
        if self.settings.batches_per_update == 1:
            return True
        parameters = [*self.parameters, *self.log_variances.values()]
        self._collect(task, parameters)
        if self.collected < self.settings.batches_per_update and done + 1 < self.batches:
            return False
        gradients = list(self.gradients.values())
        random = np.random.default_rng([self.seed, done])
        summed = project(gradients, random) if len(gradients) > 1 else gradients[0]
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = None if gradient is None else gradient / self.collected
        self.gradients, self.collected = {}, 0
        return True

    def _collect(self, task: str, parameters: list[nn.Parameter]) -> None:
        """Move gradients to the sum of the task's; under `gradients: mean`, to that of all."""
        key = task if self.settings.gradients == "pcgrad" else ""
        new = [parameter.grad for parameter in parameters]
        old = self.gradients.get(key, [None] * len(new))
        self.gradients[key] = list(map(_add, old, new))
        self.collected += 1
        for parameter in parameters:
            parameter.grad = None

    def describe(self, rows: list[dict]) -> list[dict]:
        """Return the training's log with the tasks' log variances, where there are any."""
        values = {task: value.item() for task, value in self.log_variances.items()}
        if not values:
            return rows
        return [row | {"log_variance": values.get(row["task"])} for row in rows]


def project(tasks: list[Gradients], random: np.random.Generator) -> Gradients:
    """Return the sum of the tasks' gradients without their conflicts (PCGrad).

    From each task's gradient, its projection on another's is taken away where the two point away
    from each other, for all others in random order (Yu et al. 2020, arXiv:2001.06782, Algorithm 1).
    So it is for shared parameters, those with a gradient of every task, which are one vector; the
    gradients of the others, such as heads, are summed.
    """
    columns = list(zip(*tasks, strict=True))
    shared = [all(gradient is not None for gradient in column) for column in columns]
    vectors = [[part.flatten() for part in compress(task, shared)] for task in tasks]
    dots = torch.stack([_dot(one, other) for one in vectors for other in vectors])
    with np.errstate(invalid="ignore"):  # in fp16 gradients may overflow: no update is made then
        weights = projection_weights(dots.view(len(tasks), -1).cpu().numpy(), random)
    return [
        sum(map(mul, weights, column)) if common else reduce(_add, column)
        for column, common in zip(columns, shared, strict=True)
    ]


def projection_weights(dots: np.ndarray, random: np.random.Generator) -> list[float]:
    """Return the weights with which PCGrad adds the tasks' gradients up, by their dots (t, t).

    A projection takes a multiple of another task's gradient away, so the end is a weighted sum.
    """
    weights = np.eye(len(dots))
    for task, row in enumerate(weights):
        for other in random.permutation(len(dots)):
            dot = row @ dots[other]
            if other != task and dot < 0:
                row[other] -= dot / dots[other, other]
    return weights.sum(axis=0).tolist()


def _dot(one: list[torch.Tensor], other: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(map(torch.dot, one, other))).double().sum()


def _add(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return other if one is None else one if other is None else one + other
