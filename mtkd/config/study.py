"""A study: every number that a run depends on, validated before anything is computed."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from mtkd import paths, tasks
from mtkd.config import custom_task as own
from mtkd.config import distillation as levers
from mtkd.config.base import Seed, Settings, TaskName
from mtkd.config.distillation import Ablation, Distil, Unlabelled, Variant
from mtkd.config.experiments import Adaptation, Resources, Serving, Tuning
from mtkd.config.mkd import LstmStudent, Mkd, TransformerStudent
from mtkd.config.training import Candidates, Data, Encoder, FineTune, Model, Pretrain, Train
from mtkd.config.yaml import no_numbers, parsed
from mtkd.errors import UserError
from mtkd.tasks import Task


class Study(Settings):
    """A file of `studies/`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)
    about: str = ""
    tasks: list[TaskName] = Field(list(tasks.GLUE), min_length=1, description="what is scored")
    exclude_from_multitask: list[TaskName] = Field(
        ["wnli"], description="scored, but kept out of multi-task training"
    )
    own_tasks: dict[own.Name, own.OwnTask] = Field(
        {}, description="tasks beside GLUE's; alone, all of them are trained and have teachers"
    )
    data: Data = Data()
    encoders: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Encoder] = Field(min_length=1)
    student_encoder: str = Field("uncased", description="encoder of bert, mt-dnn and mt-dnn-kd")
    model: Model = Model()
    train: Train = Train()
    finetune: FineTune = FineTune()
    candidates: Candidates = Candidates()
    distil: Distil = Distil()
    seeds: list[Seed] = Field([0], min_length=1, description="of bert, mt-dnn and mt-dnn-kd")
    test_predictions: list[Literal["bert", "mt-dnn", "mt-dnn-kd"]] = Field(
        ["bert", "mt-dnn", "mt-dnn-kd"],
        description="systems whose fine-tuned models (first seed) predict the test sets",
    )
    threads: int = Field(1, ge=1, description="processor threads a run")
    resources: Resources = Resources()
    ranking: list[TaskName] = Field(
        [],
        exclude_if=lambda names: not names,
        description="tasks of questions and candidates that a ranking head learns too (`mtkd.stages.ranking`)",
    )
    mkd: Mkd | None = Field(
        None, description="the second paper's students; None: not in this study"
    )
    ablation: Ablation | None = Field(
        None, exclude_if=lambda given: given is None, description="other ways to distil; None: none"
    )
    adaptation: Adaptation | None = Field(
        None,
        exclude_if=lambda section: section is None,
        description="fine-tuning on shares of SNLI; None: not in this study",
    )
    _folder: Path = PrivateAttr(
        default_factory=Path
    )  # of the study's file, from which its own tasks' files are seen

    @model_validator(mode="before")
    @classmethod
    def _own_tasks_first(cls, given: Any) -> Any:
        return own.with_defaults(given)

    @model_validator(mode="after")
    def _consistent(self):
        own.check_names(self)
        trained = set(self.multitask)
        if not trained:
            raise ValueError("tasks: no task is left for multi-task training")
        if missing := [name for name in self.candidates.select_on if name not in trained]:
            raise ValueError(
                f"candidates.select_on: {', '.join(missing)} is not trained in this study "
                f"(tasks: {', '.join(sorted(trained))})"
            )
        if self.student_encoder not in self.encoders:
            raise ValueError(
                f"student_encoder: '{self.student_encoder}' is not one of encoders ({', '.join(self.encoders)})"
            )
        levers.check(self)
        once = {
            "tasks": self.tasks,
            "seeds": self.seeds,
            "candidates.dropouts": self.candidates.dropouts,
            "candidates.select_on": self.candidates.select_on,
            "exclude_from_multitask": self.exclude_from_multitask,
            "ranking": self.ranking,
        }
        for field, values in once.items():
            if len(set(values)) != len(values):
                raise ValueError(f"{field}: a value stands twice")
        if self.mkd:
            self._consistent_mkd(trained)
        if self.adaptation:
            self.adaptation.check(self.seeds)
        return self

    def _consistent_mkd(self, trained: set[str]) -> None:
        if missing := [name for name in self.mkd.tasks or () if name not in trained]:
            raise ValueError(
                f"mkd.tasks: {', '.join(missing)} has no teacher in this study: a teacher's logits are those of the tasks of "
                f"multi-task training ({', '.join(self.multitask)})"
            )
        if (name := self.mkd.teacher_encoder) and name not in self.encoders:
            raise ValueError(
                f"mkd.teacher_encoder: '{name}' is not one of encoders ({', '.join(self.encoders)})"
            )
        if taken := {"bert", "mt-dnn", "mt-dnn-kd"} & set(self.mkd.students):
            raise ValueError(f"mkd.students: {', '.join(taken)} is another system's name")

    def task(self, name: str) -> Task:
        """The task of that name: one of the study's own, or of GLUE."""
        return self.own_tasks[name].task(name) if name in self.own_tasks else tasks.get(name)

    def place(self, path: str) -> Path:
        """A file of an own task, seen from the study's folder."""
        return self._folder / path

    @property
    def multitask(self) -> list[str]:
        """Tasks of Algorithm 1: those with a train set that are not kept out."""
        return [name for name in self.trainable if name not in self.exclude_from_multitask]

    @property
    def trainable(self) -> list[str]:
        """Tasks that have a train set."""
        return [name for name in self.tasks if self.task(name).train]

    @property
    def finetuning(self) -> Train:
        """Settings of per-task fine-tuning."""
        changed = {
            key: value
            for key, value in self.finetune.model_dump().items()
            if key != "new_head" and value is not None
        }
        return self.train.model_copy(update=changed)

    @property
    def member_finetuning(self) -> Train:
        """Settings of the fine-tuning of an ensemble's members."""
        return self.finetuning.model_copy(
            update={"epochs": self.candidates.epochs or self.finetuning.epochs}
        )


def studies_folder() -> Path:
    return Path(os.environ.get("MTKD_STUDIES", paths.home() / "studies"))


def _with(settings: dict, override: str) -> None:
    """Sets `a.b.c=value` in nested settings; the value is YAML."""
    key, equals, text = override.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not all([*path, last]):
        raise UserError(f"--set {override}: write it as field=value, such as --set train.epochs=2.")
    for part in path:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise UserError(f"--set {override}: '{part}' holds a value, not settings.")
    try:
        settings[last] = parsed(text)
    except ValueError as error:
        raise UserError(
            f"--set {override}: the value is not readable YAML ({error}); write it as in a study."
        ) from None


def load(study: "str | Path | Study", overrides: list[str] | str = ()) -> Study:
    """Reads a study by its name in `studies/`, or by its file; `overrides` are `field.of.a.field=value`, or one text of them
    parted by semicolons.

    An unknown key or a bad value is a `UserError` that names the field, the value and what is allowed.
    """
    if isinstance(study, Study):
        return study
    if isinstance(overrides, str):
        overrides = [text.strip() for text in overrides.split(";") if text.strip()]
    path = Path(study)
    if path.suffix not in (".yaml", ".yml"):
        path = studies_folder() / f"{study}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in studies_folder().glob("*.yaml"))) or "none"
        raise UserError(
            f"There is no study '{study}' ({path}): the studies here are {known}; or give the path of a .yaml file."
        )
    try:
        settings = parsed(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # no UTF-8 too
        raise UserError(f"{path} is not a readable YAML file: {error}; correct it there.") from None
    if not isinstance(settings, dict):
        raise UserError(
            f"{path} holds no settings: a study is a YAML mapping of fields, such as 'name: {path.stem}'."
        )
    for override in overrides:
        _with(settings, override)
    settings.setdefault("name", path.stem)
    found = check(settings, path)
    found._folder = path.parent
    return found


def check(settings: dict[str, Any], where: Any = "the study") -> Study:
    """Validates settings; `where` is named in the message."""
    try:
        found = Study.model_validate(settings)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(lines) + ".") from None
    for field, told in no_numbers(settings, found.model_dump()):
        raise UserError(f"{where}: {field}: {told}.")
    return found


def _explain(problem: dict) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{field}'; known there: {', '.join(_fields_at(problem['loc'][:-1]))}"
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{field}: {text}" if field else text
    value = problem["input"]
    return f"{field}: {text[0].lower() + text[1:]} (it is {json.dumps(value, default=str)[:80]})"


def _fields_at(path: tuple) -> list[str]:
    """Names of the fields that a place in a study may have."""
    fields = {
        (): Study,
        ("data",): Data,
        ("model",): Model,
        ("train",): Train,
        ("finetune",): FineTune,
        ("candidates",): Candidates,
        ("distil",): Distil,
        ("resources",): Resources,
    }
    fields |= {
        ("mkd",): Mkd,
        ("mkd", "finetune"): FineTune,
        ("mkd", "serving"): Serving,
        ("ablation",): Ablation,
        ("adaptation",): Adaptation,
        ("adaptation", "train"): Tuning,
        ("distil", "unlabelled"): Unlabelled,
    }
    if path[:2] == ("ablation", "variants"):
        return list((Unlabelled if path[-1] == "unlabelled" else Variant).model_fields)
    if path in fields:
        return list(fields[path].model_fields)
    if path[:1] == ("own_tasks",):
        return list(own.OwnTask.model_fields)
    if path[:1] == ("mkd",):
        kind = LstmStudent if "lstm" in path[-1:] else TransformerStudent
        return list((Train if path[-1] == "train" else kind).model_fields)
    return list((Pretrain if path and path[-1] == "pretrain" else Encoder).model_fields)
