"""A study: every number that a run depends on, validated before anything is computed."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from mtkd import levers, own, tasks
from mtkd.errors import UserError
from mtkd.levers import Ablation, Distil, Unlabelled, Variant
from mtkd.sections import Adaptation, Resources, Serving, Tuning
from mtkd.settings import Dropout, Seed, Settings, Share, TaskName
from mtkd.tasks import Task
from mtkd.yaml_text import no_numbers, parsed


class Data(Settings):
    """Where the examples come from and how many are used."""

    source: Literal["embedded", "glue"] = Field("glue", description="the generated suite, or real GLUE")
    hub: str = Field("nyu-mll/glue", description="hub id, or a directory in the hub's layout; MTKD_GLUE overrides it")
    seed: Seed = Field(0, description="of the generated suite, and of the choice of examples under max_train")
    scale: float = Field(1.0, gt=0, description="size of the generated suite")
    max_train: int | None = Field(None, ge=16, description="at most so many train examples a task (None: all)")
    max_dev: int | None = Field(None, ge=16, description="at most so many dev examples a split (None: all)")
    held_back: float | None = Field(None, gt=0, lt=1, exclude_if=lambda share: share is None,
                                    description="share of each GLUE train set that takes the dev sets' place: to choose settings by")
    max_length: int = Field(512, ge=8, description="word pieces of an example; longer ones lose their end (4.1)")


class Pretrain(Settings):
    """Masked-LM pre-training of a small BERT, where no checkpoint is to be had."""

    cased: bool = False
    vocabulary: int = Field(12000, ge=50)
    layers: int = Field(4, ge=1)
    hidden: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    intermediate: int | None = Field(None, ge=8, description="None: four times hidden")
    positions: int = Field(512, ge=8)
    rows: Literal["packed", "lines"] = Field("packed", description="running text cut into windows, or a line of text a window")
    window: int = Field(64, ge=8, description="word pieces a window")
    long_window: int | None = Field(128, description="window of the last part of the training (None: the same)")
    long_share: Share = 0.1
    tokens: int = Field(10_000_000, ge=1, description="word pieces trained on, all windows counted")
    sentences: int = Field(60_000, ge=100, description="sentences of generated text (embedded suite only)")
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(6e-4, gt=0)
    warmup: Share = 0.05
    weight_decay: float = Field(0.01, ge=0)
    mask_probability: float = Field(0.15, gt=0, lt=1)
    guide_steps: int = Field(1200, ge=0, description="steps with guided attention (Deshpande & Narasimhan 2020)")
    guide_weight: float = Field(0.5, ge=0)
    initializer_range: float = Field(0.02, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    start_from: str | None = Field(None, description="another encoder of the study, or a directory, to start from")
    checkpoint_seconds: float = Field(60, gt=0)


class Encoder(Settings):
    """A pre-trained BERT: a checkpoint (hub id or directory), or the recipe to pre-train one."""

    checkpoint: str | None = Field(None, description="hub id or directory; MTKD_ENCODER_<NAME> overrides it")
    pretrain: Pretrain | None = Field(None, description="used where there is no checkpoint or it cannot be reached")

    @model_validator(mode="after")
    def _one_source(self):
        if self.checkpoint is None and self.pretrain is None:
            raise ValueError("give a checkpoint, a pretrain recipe, or both")
        return self


class Model(Settings):
    """Shared encoder and task heads (section 2)."""

    representation: Literal["cls", "pooled", "mean"] = Field(
        "cls", description="what a head sees: [CLS] as it is (Eq. 1), after BERT's pooler, or the mean over the word pieces")
    head_dropout: Dropout = 0.1
    head_dropout_of: dict[TaskName, Dropout] = Field({"mnli": 0.3, "cola": 0.05, "sst2": 0.05}, description="section 4.1")
    encoder_dropout: Dropout = Field(0.1, description="of every run but the candidates")


class Train(Settings):
    """One training run; the defaults are section 4.1's."""

    optimizer: Literal["adamax", "adamw"] = "adamax"
    learning_rate: float = Field(5e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(5, ge=1)
    warmup: Share = 0.1
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    sampling: Literal["proportional", "sqrt", "temperature"] = Field("proportional", description="share of a task's batches")
    temperature: float = Field(2.0, ge=1, description="of sampling: temperature; size ** (1 / temperature)")
    bucket: int = Field(8, ge=1, description="batches sorted by length together: more pad less, but re-shuffle small tasks less")
    precision: Literal["bf16", "fp32"] = "bf16"
    score_every_epoch: bool = Field(True, description="dev scores after every epoch, not only after the last")
    # Dropout and rounding depend on it: more than one make another output, and one makes what it always made.
    processes: int = Field(1, ge=1, exclude_if=lambda count: count == 1, description="that share each mini-batch, one a GPU")
    checkpoint_seconds: float = Field(60, gt=0)


class FineTune(Settings):
    """Where per-task fine-tuning differs from multi-task training."""

    learning_rate: float | None = Field(None, gt=0, description="None: as in training")
    epochs: int | None = Field(None, ge=1, description="None: as in training")
    fresh_head: bool = Field(False, description="MT-DNN and MT-DNN_KD start from a new head (for teachers: candidates.fresh_head)")


class Candidates(Settings):
    """The single MT-DNNs from which the teachers' members are chosen (section 4.1)."""

    dropouts: list[Dropout] = Field([0.1, 0.2, 0.3], min_length=1)
    keep: int = Field(3, ge=1)
    select_on: list[TaskName] = Field(["mnli", "rte"], min_length=1)
    epochs: int | None = Field(None, ge=1, exclude_if=lambda given: given is None,
                               description="of a member's fine-tuning; None: finetune.epochs")
    fresh_head: bool = Field(True, exclude_if=lambda fresh: fresh,
                             description="a member's fine-tuning starts from a new head (section 3), or from its multi-task head")
    seed: Seed = 0


class LstmStudent(Settings):
    """A bi-attentive LSTM student (`mtkd.models.lstm`)."""

    kind: Literal["lstm"]
    embeddings: Literal["own", "teacher", "vectors"] = Field(
        "own", description="drawn anew, the teacher's word-piece table projected down, or word vectors from a file")
    vectors: str | None = Field(None, description="file of word vectors in GloVe's text format (embeddings: vectors)")
    width: int = Field(128, ge=1, description="of the embeddings; that of the file where vectors are read")
    hidden: int = Field(128, ge=1, description="of each direction of both BiLSTMs")
    layers: int = Field(1, ge=1, description="of the shared BiLSTM")
    output: int = Field(256, ge=1, description="of the shared representation that the task layers see")
    dropout: Dropout = 0.1
    train: Train | None = Field(None, description="None: mkd.train")

    @model_validator(mode="after")
    def _a_file(self):
        if (self.embeddings == "vectors") != (self.vectors is not None):
            raise ValueError("embeddings: vectors and the file vectors go together: give both or neither")
        return self


class TransformerStudent(Settings):
    """A small Transformer student: layers of the teacher or its encoder, a checkpoint, or a shape drawn anew."""

    kind: Literal["transformer"]
    start: Literal["teacher", "encoder", "checkpoint", "new"] = Field(
        "encoder", description="weights: of the refined teacher, of the encoder before it was refined, of a checkpoint, or drawn anew")
    keep: list[Annotated[int, Field(ge=0)]] | None = Field(None, min_length=1, description="layers kept of teacher or encoder, from 0")
    checkpoint: str | None = Field(None, description="hub id or directory of a BERT with the teacher's word pieces (start: checkpoint)")
    layers: int = Field(2, ge=1, description="start: new")
    hidden: int = Field(128, ge=8, description="start: new")
    heads: int = Field(2, ge=1, description="start: new")
    intermediate: int | None = Field(None, ge=8, description="start: new; None: four times hidden")
    dropout: Dropout = Field(0.1, description="of its layers and attention")
    train: Train | None = Field(None, description="None: mkd.train")

    @model_validator(mode="after")
    def _one_start(self):
        if (self.start == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("start: checkpoint and the field checkpoint go together: give both or neither")
        if (self.start in ("teacher", "encoder")) != (self.keep is not None):
            raise ValueError("keep: name the layers kept where the student starts from teacher or encoder, and only there")
        if self.start == "new" and self.hidden % self.heads:
            raise ValueError(f"hidden: {self.hidden} is not a multiple of heads ({self.heads})")
        return self


class Mkd(Settings):
    """MKD (Liu et al. 2020): students distilled from the logits of one multi-task teacher."""

    teacher: Literal["mt-dnn", "ensemble"] = Field("mt-dnn", description="vanilla MT-DNN at candidates.seed, or the tasks' ensembles")
    teacher_encoder: str | None = Field(None, description="the MT-DNN teacher's; students read its word pieces; None: student_encoder")
    tasks: list[TaskName] | None = Field(None, min_length=1, description="None: all tasks of multi-task training")
    hard_weight: Share = Field(0.0, description="weight of the hard targets; the teacher's logits have the rest")
    also_hard_weight: Share | None = Field(None, description="multi-task distillation once more with this weight, reported beside")
    seeds: list[int] | None = Field(None, min_length=1, description="None: the study's")
    train: Train = Field(Train(optimizer="adamw", learning_rate=1e-3), description="of all students and controls")
    finetune: FineTune | None = Field(None, description="per-task fine-tuning on hard targets after multi-task training; None: none")
    students: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")],
                   Annotated[LstmStudent | TransformerStudent, Field(discriminator="kind")]] = Field(min_length=1)  # fmt: skip
    serving: Serving = Serving()


class Study(Settings):
    """A file of `studies/`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)
    about: str = ""
    tasks: list[TaskName] = Field(list(tasks.GLUE), min_length=1, description="what is scored")
    single_only: list[TaskName] = Field(["wnli"], description="scored, but kept out of multi-task training")
    own_tasks: dict[own.Name, own.OwnTask] = Field({}, description="tasks beside GLUE's; alone, all of them are trained and have teachers")
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
        ["bert", "mt-dnn", "mt-dnn-kd"], description="systems whose fine-tuned models (first seed) predict the test sets")
    threads: int = Field(1, ge=1, description="processor threads a run")
    resources: Resources = Resources()
    ranking: list[TaskName] = Field([], exclude_if=lambda names: not names,
                                    description="tasks of questions and candidates that a ranking head learns too (`mtkd.ranking`)")
    mkd: Mkd | None = Field(None, description="the second paper's students; None: not in this study")
    ablation: Ablation | None = Field(None, exclude_if=lambda given: given is None, description="other ways to distil; None: none")
    adaptation: Adaptation | None = Field(None, exclude_if=lambda section: section is None,
                                          description="fine-tuning on shares of SNLI; None: not in this study")
    _folder: Path = PrivateAttr(default_factory=Path)  # of the study's file, from which its own tasks' files are seen

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
            raise ValueError(f"candidates.select_on: {', '.join(missing)} is not trained in this study "
                             f"(tasks: {', '.join(sorted(trained))})")  # fmt: skip
        if self.student_encoder not in self.encoders:
            raise ValueError(f"student_encoder: '{self.student_encoder}' is not one of encoders ({', '.join(self.encoders)})")
        levers.check(self)
        once = {"tasks": self.tasks, "seeds": self.seeds, "candidates.dropouts": self.candidates.dropouts,
                "candidates.select_on": self.candidates.select_on, "single_only": self.single_only, "ranking": self.ranking}  # fmt: skip
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
            raise ValueError(f"mkd.tasks: {', '.join(missing)} has no teacher in this study: a teacher's logits are those of the tasks of "
                             f"multi-task training ({', '.join(self.multitask)})")
        if (name := self.mkd.teacher_encoder) and name not in self.encoders:
            raise ValueError(f"mkd.teacher_encoder: '{name}' is not one of encoders ({', '.join(self.encoders)})")
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
        return [name for name in self.trainable if name not in self.single_only]

    @property
    def trainable(self) -> list[str]:
        """Tasks that have a train set."""
        return [name for name in self.tasks if self.task(name).train]

    @property
    def finetuning(self) -> Train:
        """Settings of per-task fine-tuning."""
        changed = {key: value for key, value in self.finetune.model_dump().items() if key != "fresh_head" and value is not None}
        return self.train.model_copy(update=changed)

    @property
    def member_finetuning(self) -> Train:
        """Settings of the fine-tuning of an ensemble's members."""
        return self.finetuning.model_copy(update={"epochs": self.candidates.epochs or self.finetuning.epochs})


def home() -> Path:
    """The folder that studies, artifacts and reports lie in: this one where it has `studies/`, else the checkout.

    So a notebook opened in `notebooks/` finds what the command line made.
    """
    checkout = Path(__file__).resolve().parent.parent
    return checkout if not Path("studies").is_dir() and (checkout / "studies").is_dir() else Path()


def studies_folder() -> Path:
    return Path(os.environ.get("MTKD_STUDIES", home() / "studies"))


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
        raise UserError(f"--set {override}: the value is not readable YAML ({error}); write it as in a study.") from None


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
        raise UserError(f"There is no study '{study}' ({path}): the studies here are {known}; or give the path of a .yaml file.")
    try:
        settings = parsed(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # no UTF-8 too
        raise UserError(f"{path} is not a readable YAML file: {error}; correct it there.") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds no settings: a study is a YAML mapping of fields, such as 'name: {path.stem}'.")
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
    fields = {(): Study, ("data",): Data, ("model",): Model, ("train",): Train, ("finetune",): FineTune,
              ("candidates",): Candidates, ("distil",): Distil, ("resources",): Resources}  # fmt: skip
    fields |= {("mkd",): Mkd, ("mkd", "finetune"): FineTune, ("mkd", "serving"): Serving, ("ablation",): Ablation,
               ("adaptation",): Adaptation, ("adaptation", "train"): Tuning, ("distil", "unlabelled"): Unlabelled}  # fmt: skip
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
