"""Settings of distillation, and of the variants that an ablation compares."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from mtkd.config.base import Count, Fraction, Positive, Seeds, Settings, Size, TaskNames, field
from mtkd.config.checks import require, require_distinct, require_known
from mtkd.config.training import Combine
from mtkd.tasks import RANKED

Loss = Literal["cross-entropy", "kl", "logits"]
Source = Literal["ensemble", "cross_fit", "unlabelled", "self_distillation"]
Labels = Literal["soft", "hard", "mt-dnn", "gold"]
Folds = Annotated[int, Field(ge=2, lt=2**63)]
Generations = Annotated[int, Field(ge=1, le=2)]
VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$", max_length=40)]


class Unlabelled(Settings):
    """Texts beyond a task's training set that the student learns from, with targets of their own.

    A task of one text uses the first text of a pair.
    """

    snli: Size = field(0, "Most pairs of SNLI's training set.")
    left_out_train: Size = field(0, "Most of the task's training examples beyond data.max_train.")
    other_tasks: Size = field(0, "Most pairs of the other tasks in multi-task training.")
    labels: Labels = field(
        "soft",
        "Targets of these texts: the ensemble's probabilities or its most probable class, an "
        "MT-DNN's probabilities (before fine-tuning, first seed of candidates), or their own.",
    )
    extra_updates: bool = field(False, "Whether these texts add updates, or share the others'.")

    @property
    def name(self) -> str:
        """A name of the texts and what labels them, such as `snli-100-mt-dnn`.

        An ensemble's soft and hard labels are made of the same logits, so they share a name.
        """
        amounts = self.model_dump(exclude={"extra_updates", "labels"})
        words = [f"{source}-{amount}" for source, amount in amounts.items() if amount]
        return "-".join(words if self.labels in ("soft", "hard") else [*words, self.labels])

    @model_validator(mode="after")
    def _not_empty(self):
        some = self.snli or self.left_out_train or self.other_tasks
        require(some, "there is no text: give snli, left_out_train or other_tasks a number")
        others = self.labels == "gold" and (self.snli or self.other_tasks)
        require(not others, "labels: gold is for left_out_train alone: leave out the other texts")
        return self


class Distil(Settings):
    """Soft targets, and how they enter the loss (MT-DNN_KD, section 3)."""

    teachers: TaskNames = field(["mnli", "qqp", "rte", "qnli"], "Tasks with a teacher.")
    hard_weight: Fraction = field(0.5, "Weight of the loss on labels, Eq. 2; Eq. 4 has the rest.")
    hard_weight_of: dict[str, Fraction] = field({}, "Weight of labels for these tasks.")
    temperature: Positive = field(1.0, "Softens logits and soft targets (arXiv:1503.02531).")
    loss: Loss = field("cross-entropy", "Eq. 4, KL divergence, or squared error of logits.")
    annealing: bool = field(False, "Whether hard_weight grows from 0 to 1 (arXiv:1907.04829).")
    unlabelled: Unlabelled | None = field(None, "Texts beside the training sets; null: none.")

    @model_validator(mode="after")
    def _consistent(self):
        plain = self.loss != "logits" or self.temperature == 1
        require(plain, f"temperature: it must be 1 with loss: logits (it is {self.temperature:g})")
        alone = not (self.annealing and self.hard_weight_of)
        require(alone, "hard_weight_of: annealing sets all weights: give one of the two")
        labels = self.unlabelled.labels if self.unlabelled else "soft"
        plain = labels in ("soft", "mt-dnn") or (self.temperature == 1 and self.loss != "logits")
        needs = f"labels: {labels} needs temperature: 1 and another loss than logits"
        require(plain, f"unlabelled.{needs}")
        return self


class Variant(Settings):
    """One variant of distillation: what is given replaces the study's setting."""

    hard_weight: Fraction | None = field(None, "See distil; null: as there.")
    hard_weight_of: dict[str, Fraction] | None = field(None, "See distil; null: as there.")
    temperature: Positive | None = field(None, "See distil; null: as there.")
    loss: Loss | None = field(None, "See distil; null: as there.")
    annealing: bool | None = field(None, "See distil; null: as there.")
    ensemble_size: Count | None = field(None, "Members of an ensemble; null: as in candidates.")
    teachers: TaskNames | None = field(None, "Tasks with a teacher; null: `distil.teachers`.")
    epochs: Count | None = field(None, "Passes of the student's training; null: train.epochs.")
    combine: Combine | None = field(
        None, "See train; null: as there.", exclude_if=lambda combine: combine is None
    )
    source: Source | None = field(
        None, "Ensembles, cross-fitted ones, ensembles on further texts, or an earlier student."
    )
    folds: Folds | None = field(None, "Folds of cross_fit, scored by models of the others.")
    unlabelled: Unlabelled | None = field(None, "The texts of source: unlabelled.")
    generations: Generations | None = field(None, "Of self_distillation; 1 learns from MT-DNN.")
    control: str | None = field(None, "Another variant to compare this one with, too.")

    @model_validator(mode="after")
    def _consistent(self):
        fields = [("cross_fit", "folds"), ("unlabelled", "unlabelled")]
        for source, name in [*fields, ("self_distillation", "generations")]:
            together = (self.source == source) == (getattr(self, name) is not None)
            require(together, f"source: {source} and the field {name} go together")
        alone = self.source not in ("self_distillation", "cross_fit") or not self.teachers
        require(alone, f"teachers: source: {self.source} decides on them: leave teachers out")
        alone = self.source != "self_distillation" or not self.ensemble_size
        require(alone, "ensemble_size: with source: self_distillation there are no members")
        require(self.changes, "it changes nothing: give it a setting, or leave it out")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """Return the settings that replace the study's."""
        return self.model_dump(exclude_defaults=True, exclude={"control"})

    def distil(self, distil: Distil, multitask: list[str]) -> Distil:
        """Return the study's settings with this variant's; `ValidationError` where they clash."""
        changed = self.model_dump(include=Distil.model_fields.keys(), exclude_none=True)
        if self.teachers:
            changed["teachers"] = with_rankings(self.teachers, multitask)
        if self.source == "self_distillation":
            changed["teachers"] = multitask
        if self.source not in (None, "unlabelled"):
            changed["unlabelled"] = None
        return Distil.model_validate(distil.model_dump() | changed)


def with_rankings(teachers: list[str], multitask: list[str]) -> list[str]:
    """Return the tasks with a teacher, with the rankings in multi-task training that are theirs."""
    ranked = [name + RANKED for name in teachers if name + RANKED in multitask]
    return list(dict.fromkeys([*teachers, *ranked]))


# `:mtl` marks systems before fine-tuning; papermill would pass the others as values, not as text.
RESERVED = ("mtl", "true", "false", "null")


class Ablation(Settings):
    """Students distilled in other ways, compared with MT-DNN_KD before fine-tuning."""

    seeds: Seeds | None = field(None, "Seeds of the students, some of the study's; null: all.")
    variants: dict[VariantName, Variant] = field(..., "By name; null: none.", min_length=1)

    @field_validator("variants", mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        drop = isinstance(given, dict)
        return {name: each for name, each in given.items() if each is not None} if drop else given

    @model_validator(mode="after")
    def _consistent(self):
        for name, variant in self.variants.items():
            require(name not in RESERVED, f"variants: the name '{name}' is reserved: take another")
            controls = [variant.control] if variant.control is not None else []
            others = sorted(self.variants.keys() - {name})
            require_known(f"variants.{name}.control", controls, others, "is not another variant")
        return self


def check_distillation(study: Any) -> None:
    """Raise `ValueError` where distillation or a variant does not fit the rest of a study."""
    _check_distil("distil", study.distil, study.candidates.ensemble_size, study)
    if study.ablation is None:
        return
    seeds = study.ablation.seeds or ()
    require_known("ablation.seeds", seeds, study.seeds, "is not one of the study's seeds")
    for name, variant in study.ablation.variants.items():
        where = f"ablation.variants.{name}"
        try:
            distil = variant.distil(study.distil, study.multitask)
        except ValidationError as error:
            text = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where}: {text}") from None
        new = variant.changes != {"source": "ensemble"} or study.distil.unlabelled
        require(new, f"{where}: it changes nothing: there is no distil.unlabelled to leave out")
        _check_distil(where, distil, variant.ensemble_size or 1, study)


def _check_distil(where: str, distil: Distil, size: int, study: Any) -> None:
    most, tasks = len(study.candidate_models), sorted(study.multitask)
    name = "candidates" if where == "distil" else where
    fits = f"{size} is more than the candidates there are ({most})"
    require(size <= most, f"{name}.ensemble_size: {fits}")
    left_out = distil.unlabelled and distil.unlabelled.left_out_train
    name = f"{where}.unlabelled.left_out_train"
    require(study.data.limited or not left_out, f"{name}: it needs a limit: set data.max_train")
    name = f"{where}.teachers"
    require_known(name, distil.teachers, tasks, "is not trained in this study")
    require_distinct(name, distil.teachers)
    words = [one for one in distil.teachers if distil.unlabelled and study.task(one).by_word]
    alone = f"{', '.join(words)} has a label for each word, and takes no unlabelled texts"
    require(not words, f"{where}.teachers: {alone}: leave it out")
    plain = distil.loss != "logits" and distil.temperature == 1 and not distil.unlabelled
    for task in map(study.task, () if plain else distil.teachers):
        why = "type text is taught by probabilities of its own texts, at temperature 1"
        mend = "leave it out, or keep loss, temperature and unlabelled as they are by default"
        require(not task.generates, f"{name}: {task.name}: {why}: {mend}")
    name = f"{where}.hard_weight_of"
    require_known(name, distil.hard_weight_of, distil.teachers, "has no teacher")
