"""Settings of distillation: how soft targets enter the loss."""

from typing import Literal

from pydantic import Field, model_validator

from mtkd.settings import Settings, Share, TaskName


class Distil(Settings):
    """Soft targets and how they enter the loss (section 3)."""

    teachers: list[TaskName] = Field(["mnli", "qqp", "rte", "qnli"], min_length=1)
    hard_weight: Share = Field(0.5, description="weight of Eq. 2; Eq. 4 has the rest")
    hard_weight_of: dict[TaskName, Share] = Field({}, exclude_if=lambda given: not given, description="tasks with another weight of Eq. 2")
    temperature: float = Field(1.0, gt=0)
    loss: Literal["cross-entropy", "kl", "logits"] = Field(
        "cross-entropy", exclude_if=lambda loss: loss == "cross-entropy",
        description="on soft targets: Eq. 4, the divergence from them, or the squared distance to the teacher's mean logits")
    annealing: bool = Field(False, exclude_if=lambda on: not on,
                            description="the weight of Eq. 2 grows from 0 to 1 over the training (BAM, Clark et al. 2019)")

    @model_validator(mode="after")
    def _consistent(self):
        if self.loss == "logits" and self.temperature != 1:
            raise ValueError(f"temperature: logits are matched as they are (it is {self.temperature:g}): set it to 1 with loss: logits")
        if self.annealing and self.hard_weight_of:
            raise ValueError("hard_weight_of: annealing sets the weight of every task: give one of the two")
        return self
