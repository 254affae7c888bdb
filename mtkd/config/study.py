"""A study: every number that a run depends on, validated before anything is computed."""

import json
import reprlib
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from mtkd import paths
from mtkd.config import yaml
from mtkd.config.base import Seeds, Settings, ShortName, TaskNames, field
from mtkd.config.checks import require, require_distinct, require_known
from mtkd.config.custom_task import CustomTask, CustomTaskName, apply_defaults, check_task_names
from mtkd.config.distillation import Ablation, Distil, check_distillation, with_rankings
from mtkd.config.experiments import Adaptation, Resources, Tuning
from mtkd.config.mkd import Mkd
from mtkd.config.training import Candidate, Candidates, Data, Encoder, FineTune, Model, Train
from mtkd.errors import UserError
from mtkd.tasks import GLUE, RANKED, Task, as_ranking, get

SYSTEMS = ("bert", "mt-dnn", "mt-dnn-kd")
System = Literal["bert", "mt-dnn", "mt-dnn-kd"]
StudyName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]


class Study(Settings):
    """A file of `studies/`."""

    name: StudyName = field(..., "Name in paths and reports; default: the file's.")
    about: str = field("", "One line for the report.")
    tasks: TaskNames = field(list(GLUE), "Tasks that are scored; default: all own_tasks, or GLUE.")
    exclude_from_multitask: list[str] = field(["wnli"], "Tasks only for per-task fine-tuning.")
    own_tasks: dict[CustomTaskName, CustomTask] = field(
        {}, "Custom tasks by name; without tasks of GLUE, all of them have a teacher."
    )
    data: Data = field(Data(), "The examples, and how many of them are used.")
    encoders: dict[ShortName, Encoder] = field(..., "The pre-trained encoders.", min_length=1)
    student_encoder: str = field(
        "uncased", "Encoder of `bert`, `mt-dnn` and `mt-dnn-kd`; default: the only one, or uncased."
    )
    model: Model = field(Model(), "Shared encoder and task heads.")
    train: Train = field(Train(), "Multi-task training.")
    finetune: FineTune = field(FineTune(), "Per-task fine-tuning, where it differs from `train`.")
    bert: Tuning = field(Tuning(), "Fine-tuning of `bert`, where it differs from `finetune`.")
    candidates: Candidates = field(Candidates(), "The models from which ensembles are chosen.")
    distil: Distil = field(Distil(), "Soft targets, and how they enter the loss.")
    seeds: Seeds = field([0], "Seeds of `bert`, `mt-dnn` and `mt-dnn-kd`.")
    test_predictions: list[System] = field(
        list(SYSTEMS), "Systems whose first seed predicts the test sets."
    )
    threads: Annotated[int, Field(ge=1, lt=2**31)] = field(1, "Processor threads per run.")
    resources: Resources = field(Resources(), "What a job requests from a cluster.")
    ranking: list[str] = field([], "Ranking tasks for which a ranking head is trained, too.")
    rank_in_multitask: list[str] = field(
        [], "Ranking tasks that multi-task training also learns to rank, as a second task of each."
    )
    mkd: Mkd | None = field(None, "Students of MKD; null: none.")
    ablation: Ablation | None = field(None, "Variants of distillation; null: none.")
    adaptation: Adaptation | None = field(None, "Fine-tuning on fractions of SNLI; null: none.")
    _folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, settings: Any) -> Any:
        encoders = settings.get("encoders") if isinstance(settings, dict) else None
        if isinstance(encoders, dict) and len(encoders) == 1:
            settings = {"student_encoder": next(iter(encoders)), **settings}
        return apply_defaults(settings)

    @model_validator(mode="after")
    def _consistent(self):
        check_task_names(self)
        require(self.multitask, "tasks: no task is left for multi-task training")
        trained, why = sorted({*self.multitask} - {*self.rankings}), "is not trained in this study"
        require_known("candidates.select_on", self.candidates.select_on, trained, why)
        encoders = [self.student_encoder]
        if self.mkd:
            require_known("mkd.tasks", self.mkd.tasks or (), trained, why)
            taught = self._taught_by_logits(self.mkd.tasks or self.multitask)
            fits = taught == (self.mkd.tasks or taught) != []
            why = "type text keeps no logits for students to learn from"
            require(fits, f"mkd.tasks: {why}: leave out such tasks, or mkd if there is no other")
            encoders.append(self.mkd.teacher_encoder or self.student_encoder)
            for name in SYSTEMS:
                require(name not in self.mkd.students, f"mkd.students: {name} is another system")
        why = "is not one of encoders"
        require_known("student_encoder", encoders[:1], self.encoders, why)
        require_known("mkd.teacher_encoder", encoders[1:], self.encoders, why)
        if self.rankings:
            teachers = with_rankings(self.distil.teachers, self.multitask)
            self.__dict__["distil"] = self.distil.model_copy(update={"teachers": teachers})
        check_distillation(self)
        if self.adaptation:
            self.adaptation.check(self.seeds)
        for name in ("tasks", "seeds", "exclude_from_multitask", "ranking", "rank_in_multitask"):
            require_distinct(name, getattr(self, name))
        why = "is not one of the study's tasks"
        require_known("data.max_train_of", self.data.max_train_of, self.tasks, why)
        selected = self.candidates.selection_examples and not self.data.limited
        name = "candidates.selection_examples"
        require(not selected, f"{name}: it needs a limit: set data.max_train")
        for name in ("dropouts", "seeds", "select_on"):
            require_distinct(f"candidates.{name}", getattr(self.candidates, name))
        self._resolve_defaults()
        return self

    def _taught_by_logits(self, names: list[str]) -> list[str]:
        return [name for name in names if not self.task(name).generates]

    def _resolve_defaults(self) -> None:
        seeds = {"seeds": self.seeds}
        classified = [name for name in self.multitask if name not in self.rankings]
        taught = self._taught_by_logits(classified)
        mkd = {"tasks": taught, "teacher_encoder": self.student_encoder} | seeds
        for name, defaults in (("mkd", mkd), ("ablation", seeds), ("adaptation", seeds)):
            if (section := getattr(self, name)) is not None:
                missing = {key: defaults[key] for key in defaults if getattr(section, key) is None}
                self.__dict__[name] = section.model_copy(update=missing)

    def task(self, name: str) -> Task:
        """Return the task of that name: one of the study's own, or of GLUE, or its ranking."""
        if name in self.rankings:
            return as_ranking(self.task(name.removesuffix(RANKED)))
        return self.own_tasks[name].task(name) if name in self.own_tasks else get(name)

    def resolve(self, path: str) -> Path:
        """Return the path of a file that the study names, relative to the study's folder."""
        return self._folder / Path(path).expanduser()

    def resolve_checkpoint(self, checkpoint: str) -> str:
        """Return the absolute path of a checkpoint's folder, or the hub id that it is instead."""
        folder = self.resolve(checkpoint).absolute()
        is_path = folder.is_dir() or checkpoint.startswith((".", "/", "~"))
        return str(folder) if is_path else checkpoint

    def require(self, section: Literal["mkd", "ablation", "adaptation"]) -> Any:
        """Return that section of the study; `UserError` where it has none."""
        if getattr(self, section) is None:
            raise UserError(f"Study {self.name} has no section '{section}': add one.")
        return getattr(self, section)

    @property
    def trainable(self) -> list[str]:
        """Return the tasks that have a training set."""
        return [name for name in self.tasks if self.task(name).train]

    @property
    def multitask(self) -> list[str]:
        """Return the tasks of multi-task training (MT-DNN_KD, Algorithm 1), rankings last."""
        trained = [name for name in self.trainable if name not in self.exclude_from_multitask]
        return [*trained, *self.rankings]

    @property
    def finetuned(self) -> list[str]:
        """Return the tasks that systems are fine-tuned on, one at a time."""
        return [*self.trainable, *self.rankings]

    @property
    def rankings(self) -> list[str]:
        """Return the second tasks of those in `rank_in_multitask`, such as `qnli_ranked`."""
        return [name + RANKED for name in self.rank_in_multitask]

    @property
    def candidate_models(self) -> list[Candidate]:
        """Return the single MT-DNNs, by encoder, dropout and seed (MT-DNN_KD, section 4.1)."""
        given = self.candidates
        return [Candidate(*one) for one in product(self.encoders, given.dropouts, given.seeds)]

    @property
    def finetuning(self) -> Train:
        """Return the settings of per-task fine-tuning."""
        changed = self.finetune.model_dump(exclude={"new_head"}, exclude_none=True)
        return self.train.for_one_task.model_copy(update=changed)

    def finetuning_of(self, system: str) -> Train:
        """Return the settings of a system's per-task fine-tuning; a baseline may have its own."""
        changed = self.bert.model_dump(exclude_none=True) if system == "bert" else {}
        return self.finetuning.model_copy(update=changed)

    @property
    def member_finetuning(self) -> Train:
        """Return the settings of the fine-tuning of an ensemble's members."""
        epochs = self.candidates.epochs or self.finetuning.epochs
        return self.finetuning.model_copy(update={"epochs": epochs})


def load(study: str | Path | Study, overrides: Iterable[str] = ()) -> Study:
    """Read a study by its name in `studies/`, or by the path of its file (see `mtkd.paths`).

    Args:
        study: A name or a path; a study that was read already is returned as it is.
        overrides: Texts `field.of.field=value`; the values are YAML.

    Raises:
        UserError: The field, its value and what is allowed, on one line.
    """
    if isinstance(study, Study):
        return study
    if not isinstance(study, str | Path):  # papermill's -p takes 2024_1 for a number
        raise UserError(f"The study is {study!r}, not a text: papermill's -r gives it as it is.")
    if isinstance(overrides, str) or not all(isinstance(one, str) for one in overrides):
        raise UserError(
            f"The overrides are {overrides!r}, not a list of texts: give ['train.epochs=2']; to "
            "papermill, -y \"overrides: ['train.epochs=2']\"."
        )
    path: Path | None = Path(study)
    if path.suffix not in (".yaml", ".yml"):
        path = paths.studies().get(str(study))
    elif not path.is_file():
        path = paths.find(str(study))  # examples/own.yaml, from anywhere
    if path is None or not path.is_file():
        known = ", ".join(paths.studies()) or "none"
        raise UserError(f"There is no study '{study}': give a .yaml file or one of {known}.")
    try:
        settings = yaml.parse(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # also UnicodeDecodeError
        raise UserError(f"{path} is not a readable YAML file: {error}; correct it.") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds no settings: write fields, such as 'name: {path.stem}'.")
    for override in overrides:
        set_field(settings, override)
    settings.setdefault("name", path.stem)
    loaded = check(settings, path)
    loaded._folder = path.parent
    return loaded


def set_field(settings: dict, override: str) -> None:
    """Set `a.b.c=value` in nested settings; the value is YAML without a comment."""
    field, equals, text = override.partition("=")
    *path, last = field.strip().split(".")
    if not equals or not all([*path, last]):
        raise UserError(f"--set {override}: write field=value, such as --set train.epochs=2.")
    for part in path:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise UserError(f"--set {override}: '{part}' holds a value, not settings.")
    try:
        settings[last] = yaml.parse(text)
    except ValueError as error:
        raise UserError(f"--set {override}: the value is not readable YAML ({error}).") from None
    if yaml.has_comment(text):
        raise UserError(
            f"--set {override}: YAML takes what is behind the # for a comment: put the value in "
            f"quotes, as in --set '{field}=\"run #2\"'."
        )


def check(settings: dict[str, Any], where: Any = "the study") -> Study:
    """Validate settings; a `UserError` begins with `where`."""
    try:
        return Study.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(map(_explain, error.errors()))
        raise UserError(f"{where}: {problems}.") from None


def _explain(problem: Any) -> str:
    field = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    if field and text.startswith("unknown field '"):
        return text.replace("'", f"'{field}.", 1)
    if problem["type"] == "value_error":
        return f"{field}: {text}" if field else text
    value, plain = problem["input"], (str, int, float, type(None))
    shown = json.dumps(value) if isinstance(value, plain) else reprlib.repr(value)
    return f"{field}: {text[0].lower() + text[1:]} (it is {shown[:80]})"
