"""Settings of distillation: how soft targets enter the loss, and the variants of both that an ablation compares."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mtkd.config.base import Seed, Settings, Share, TaskName

Loss = Literal["cross-entropy", "kl", "logits"]


class Unlabelled(Settings):
    """Texts beside a task's train set: its ensemble scores them, and the student learns from that alone.

    A task of one text reads the first of a pair.
    """

    snli: int = Field(0, ge=0, description="pairs of SNLI's train set (MTKD_SNLI), at most so many")
    left_out_train: int = Field(
        0,
        ge=0,
        description="examples of the task's own train set beyond data.max_train, at most so many",
    )
    other_tasks: int = Field(
        0,
        ge=0,
        description="examples of the other tasks of multi-task training with two texts, at most so many",
    )
    extra_updates: bool = Field(
        False, description="make more updates for these texts; False: as many as without them"
    )

    @model_validator(mode="after")
    def _some(self):
        if not (self.snli or self.left_out_train or self.other_tasks):
            raise ValueError(
                "there is no text: give snli, left_out_train or other_tasks a number of examples"
            )
        return self


class Distil(Settings):
    """Soft targets and how they enter the loss (section 3)."""

    teachers: list[TaskName] = Field(["mnli", "qqp", "rte", "qnli"], min_length=1)
    hard_weight: Share = Field(0.5, description="weight of Eq. 2; Eq. 4 has the rest")
    hard_weight_of: dict[TaskName, Share] = Field(
        {}, exclude_if=lambda given: not given, description="tasks with another weight of Eq. 2"
    )
    temperature: float = Field(1.0, gt=0)
    loss: Loss = Field(
        "cross-entropy",
        exclude_if=lambda loss: loss == "cross-entropy",
        description="on soft targets: Eq. 4, the divergence from them, or the squared distance to the teacher's mean logits",
    )
    annealing: bool = Field(
        False,
        exclude_if=lambda on: not on,
        description="the weight of Eq. 2 grows from 0 to 1 over the training (BAM, Clark et al. 2019)",
    )
    unlabelled: Unlabelled | None = Field(
        None,
        exclude_if=lambda given: given is None,
        description="texts beside the train sets of the tasks with a teacher (section 5 leaves it open); None: none",
    )

    @model_validator(mode="after")
    def _consistent(self):
        if self.loss == "logits" and self.temperature != 1:
            raise ValueError(
                f"temperature: logits are matched as they are (it is {self.temperature:g}): set it to 1 with loss: logits"
            )
        if self.annealing and self.hard_weight_of:
            raise ValueError(
                "hard_weight_of: annealing sets the weight of every task: give one of the two"
            )
        return self


class Variant(Settings):
    """One way to distil: what is given takes the place of the study's own setting."""

    hard_weight: Share | None = None
    hard_weight_of: dict[TaskName, Share] | None = None
    temperature: float | None = Field(None, gt=0)
    loss: Loss | None = None
    annealing: bool | None = None
    ensemble_size: int | None = Field(
        None, ge=1, description="members of each ensemble; None: candidates.ensemble_size"
    )
    teachers: list[TaskName] | None = Field(
        None,
        min_length=1,
        exclude_if=lambda given: given is None,
        description="tasks with a teacher; None: distil.teachers",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda given: given is None,
        description="of the student; None: train.epochs",
    )
    source: Literal["ensemble", "cross_fit", "unlabelled", "self_distillation"] | None = Field(
        None,
        description="of soft targets: the ensembles on the train sets alone, cross-fitted ones there, the ensembles on more texts "
        "too, or a model like the student; None: as the study's",
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="source: cross_fit; who scores one of so many parts of a train set is trained without it",
    )
    unlabelled: Unlabelled | None = Field(None, description="source: unlabelled")
    generations: Literal[1, 2] | None = Field(
        None,
        description="source: self_distillation; taught on all tasks by the vanilla MT-DNN, or by the student that this one taught",
    )
    control: str | None = Field(
        None,
        exclude_if=lambda given: given is None,
        description="another variant: this one is compared with it too",
    )

    @model_validator(mode="after")
    def _consistent(self):
        of = {"cross_fit": "folds", "unlabelled": "unlabelled", "self_distillation": "generations"}
        for source, field in of.items():
            if (self.source == source) != (getattr(self, field) is not None):
                raise ValueError(
                    f"source: {source} and the field {field} go together: give both or neither"
                )
        if self.source in ("self_distillation", "cross_fit") and self.teachers:
            raise ValueError(
                f"teachers: with source: {self.source} they are "
                f"{'those of all tasks' if self.source == 'self' else 'those of distil.teachers'}: leave it out"
            )
        if self.source == "self_distillation" and self.ensemble_size:
            raise ValueError(
                "ensemble_size: a model like the student has no members: leave it out with source: self_distillation"
            )
        if not self.changes:
            raise ValueError("it changes nothing: give it a setting, or leave it out")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """What is given in the place of the study's own settings."""
        return self.model_dump(exclude_defaults=True, exclude={"control"})

    def distil(self, given: Distil, multitask: list[TaskName]) -> Distil:
        """The study's settings with this variant's; `ValueError` where they contradict each other."""
        changed = {
            name: value
            for name in Distil.model_fields
            if (value := getattr(self, name, None)) is not None
        }
        changed |= {"teachers": multitask} if self.source == "self_distillation" else {}
        changed |= {} if self.source in (None, "unlabelled") else {"unlabelled": None}
        try:
            return Distil.model_validate(given.model_dump() | changed)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$", max_length=40)]
TAKEN = (
    "mtl",
    "true",
    "false",
    "null",
)  # the first marks every system before fine-tuning; a notebook would not read the others as names


class Ablation(Settings):
    """Students distilled in other ways than MT-DNN_KD, compared with it before fine-tuning."""

    seeds: list[Seed] | None = Field(None, min_length=1, description="None: the study's")
    variants: dict[VariantName, Variant] = Field(
        min_length=1, description="null in the place of one leaves it out"
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _given(cls, variants: Any) -> Any:
        return (
            {name: variant for name, variant in variants.items() if variant is not None}
            if isinstance(variants, dict)
            else variants
        )

    @model_validator(mode="after")
    def _names(self):
        if taken := [name for name in TAKEN if name in self.variants]:
            raise ValueError(
                f"variants: '{taken[0]}' has a meaning of its own: give the variant another name"
            )
        for name, variant in self.variants.items():
            if variant.control is not None and variant.control not in self.variants.keys() - {name}:
                raise ValueError(
                    f"variants.{name}.control: '{variant.control}' is not another variant: name one of "
                    f"{', '.join(sorted(self.variants.keys() - {name})) or 'them (there is none)'}"
                )
        return self


def check(study: Any) -> None:
    """`ValueError` where distillation or a variant does not fit the rest of a study."""
    candidates = len(study.encoders) * len(study.candidates.dropouts)
    sizes, distils = (
        {"candidates.ensemble_size": study.candidates.ensemble_size},
        {"distil": study.distil},
    )
    if study.ablation and (
        alone := [seed for seed in study.ablation.seeds or () if seed not in study.seeds]
    ):
        raise ValueError(
            f"ablation.seeds: {alone[0]} is not one of seeds ({', '.join(map(str, study.seeds))}): no MT-DNN_KD would stand "
            "beside its students"
        )
    for name, variant in study.ablation.variants.items() if study.ablation else ():
        where = f"ablation.variants.{name}"
        try:
            distils[where] = variant.distil(study.distil, study.multitask)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if variant.changes == {"source": "ensemble"} and not study.distil.unlabelled:
            raise ValueError(
                f"{where}: it changes nothing: the study has no distil.unlabelled to leave out"
            )
        sizes[f"{where}.ensemble_size"] = variant.ensemble_size or study.candidates.ensemble_size
    for where, keep in sizes.items():
        if keep > candidates:
            raise ValueError(
                f"{where}: {keep} is more than the candidates there are ({candidates})"
            )
    for where, distil in distils.items():
        if distil.unlabelled and distil.unlabelled.left_out_train and not study.data.max_train:
            raise ValueError(
                f"{where}.unlabelled.left_out_train: nothing of the train sets is left out: set data.max_train, or leave left_out_train out"
            )
        if missing := [name for name in distil.teachers if name not in study.multitask]:
            raise ValueError(
                f"{where}.teachers: {', '.join(missing)} is not trained in this study "
                f"(tasks: {', '.join(sorted(study.multitask))})"
            )
        if len(set(distil.teachers)) != len(distil.teachers):
            raise ValueError(f"{where}.teachers: a value stands twice")
        if missing := [name for name in distil.hard_weight_of if name not in distil.teachers]:
            raise ValueError(
                f"{where}.hard_weight_of: {', '.join(missing)} has no teacher (teachers: {', '.join(distil.teachers)})"
            )
