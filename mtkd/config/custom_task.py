"""A task of the user's own: where its examples are, what their columns mean, how it is scored."""

from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from mtkd.config.base import Settings, field
from mtkd.config.checks import require, require_distinct, require_known
from mtkd.tasks import GLUE, RANKED, Kind, Metric, Task

METRICS: dict[str, tuple[Metric, ...]] = {
    "single": ("accuracy",),
    "pair": ("accuracy",),
    "ranking": ("accuracy",),
    "similarity": ("pearson", "spearman"),
    "tokens": ("entity_f1", "accuracy"),
    "span": ("exact_match", "overlap_f1"),
    "text": ("rouge_l",),
}
MEASURES = METRICS | dict.fromkeys(("single", "pair", "ranking"), ("accuracy", "f1", "matthews"))
WORDS = ("tokens", "span")  # types with a label for each word
RESERVED_COLUMNS = ("label", "idx", "word_starts")

CustomTaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


def _class_name(label: Any) -> Any:
    truth = isinstance(label, bool)
    require(not truth, "YAML reads yes, no, true and false as truth values: quote such labels")
    require(not isinstance(label, date), f"YAML reads {label} as a date: quote such labels")
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label) if isinstance(label, int | float) else label


ClassName = Annotated[str, BeforeValidator(_class_name)]
Range = Annotated[tuple[float, float], Field(strict=False)]
Pieces = Annotated[int, Field(ge=1, le=512)]
Beams = Annotated[int, Field(ge=1, le=64)]


class CustomTask(Settings):
    """Examples in files, or in a data set of the hub."""

    type: Kind = field(
        ...,
        "Text and class, pair and class, pair and score, candidates, words and tags, question and "
        "text with the answer in it, or one or two texts and a text to write.",
    )
    train: str = field(..., ".csv, .tsv, .jsonl or .parquet file, or the hub's split.")
    dev: str | float | None = field(None, "File, split, or fraction of train to hold out.")
    test: str | None = field(None, "File or split, its labels may be missing; null: none.")
    hub: str | None = field(None, "Hub id or directory of a data set; null: files.")
    config: str | None = field(None, "Configuration of the hub's data set.")
    columns: list[str] = field(..., "The text column, or the two.", min_length=1, max_length=2)
    label: str = field("label", "The column of the class, score, tags, answer, or text to write.")
    answer_start: str | None = field(
        None, "The column of the answer's first character; null: where the text first has it."
    )
    labels: list[ClassName] = field(
        [], "Classes or tags by number; a ranking's: wrong, right candidate."
    )
    range: Range = field((0, 5), "Lowest and highest score of a similarity.")
    metrics: list[Metric] = field(
        [],
        "Default: accuracy; of a similarity pearson and spearman, of tags like B-PER entity_f1, of "
        "a span exact_match and overlap_f1, of a text rouge_l.",
    )
    max_target: Pieces = field(32, "Most word pieces of a text to write; the rest is cut off.")
    beam: Beams = field(1, "Beams of the search for a text to write; 1: greedy.")
    quotes: bool | None = field(None, 'Whether " encloses a field; null: in .csv only.')

    @property
    def classes(self) -> list[str]:
        """Return the class names in the order of their numbers."""
        return self.labels or {"ranking": ["0", "1"], "span": ["start", "end"]}.get(self.type, [])

    @property
    def splits(self) -> dict[str, str]:
        """Return the file or the hub's split of each split; a dev fraction is left out."""
        named = {"train": self.train, "validation": self.dev, "test": self.test}
        return {split: source for split, source in named.items() if isinstance(source, str)}

    def task(self, name: str) -> Task:
        """Return the task under that name."""
        return Task(
            name,
            title=name,
            kind=self.type,
            columns=tuple(self.columns),
            labels=tuple(self.classes),
            metrics=tuple(self.metrics) or self._default_metrics,
            test=("test",) if self.test else (),
            range=self.range,
            max_target=self.max_target if self.type == "text" else 0,
            beam=self.beam,
        )

    @property
    def _default_metrics(self) -> tuple[Metric, ...]:
        if self.type != "tokens":
            return METRICS[self.type]
        entities = any(label.startswith("B-") for label in self.labels)
        return ("entity_f1",) if entities else ("accuracy",)

    @model_validator(mode="after")
    def _consistent(self):
        columns, count = self.columns, 1 if self.type in ("single", "tokens") else 2
        wanted = f"type {self.type} has {'one text column' if count == 1 else 'two text columns'}"
        fits = len(columns) == count or self.type == "text"
        require(fits, f"columns: {wanted}, not {len(columns)}")
        require_distinct("columns and label", [*columns, self.label])
        for column in columns:
            require(column not in RESERVED_COLUMNS, f"columns: '{column}' is reserved: rename it")
        require(self.dev is not None, "dev: name a dev split, or a fraction of train, such as 0.1")
        inside = isinstance(self.dev, str) or 0 < self.dev < 1
        require(inside, f"dev: a fraction of train lies between 0 and 1 (it is {self.dev})")
        require(self.hub or not self.config, "config: give it together with hub")
        spans = self.type == "span" or not self.answer_start
        require(spans, "answer_start: it is for type span: leave it out")
        texts = self.type == "text" or (self.max_target, self.beam) == (32, 1)
        require(texts, "max_target, beam: they are for type text: leave them out")
        require(not (self.hub and self.type in WORDS), f"hub: type {self.type} is read from files")
        self._check_scoring()
        return self

    def _check_scoring(self) -> None:
        if self.type == "similarity":
            require(not self.labels, "labels: a similarity has scores, not classes: leave them out")
            low, high = self.range
            require(low < high, f"range: {low:g} is not below {high:g}")
        elif self.type in ("span", "text"):
            has = {"span": "a start and an end", "text": "word pieces"}[self.type]
            require(not self.labels, f"labels: a {self.type} has {has}: leave them out")
        else:
            require(len(self.classes) >= 2, f"labels: name at least two (they are {self.labels})")
            require_distinct("labels", self.classes)
            fits = self.type != "ranking" or len(self.classes) == 2
            require(fits, "labels: a ranking has two, a wrong candidate's and a right one's")
        known, why = MEASURES[self.type], f"does not measure type {self.type}"
        require_known("metrics", self.metrics, known, why)
        fits = "f1" not in self.metrics or len(self.classes) == 2
        require(fits, "metrics: f1 is for two classes: with more, take accuracy or matthews")


def apply_defaults(settings: Any) -> Any:
    """Replace a study's default tasks by its own tasks, where it has no others."""
    own = settings.get("own_tasks") if isinstance(settings, dict) else None
    if not isinstance(own, dict) or not own:
        return settings
    settings = {"tasks": list(own), **settings}
    tasks, excluded = settings["tasks"], settings.get("exclude_from_multitask")
    if not isinstance(tasks, list) or set(map(str, tasks)) & set(GLUE):
        return settings
    trained = [name for name in tasks if not isinstance(excluded, list) or name not in excluded]
    for section, name in (("candidates", "select_on"), ("distil", "teachers")):
        if isinstance(chosen := settings.get(section, {}), dict):
            settings[section] = {name: trained, **chosen}
    return settings


def check_task_names(study: Any) -> None:
    """Raise `ValueError` where a study names an unknown task, or its own task as one of GLUE's."""
    for name in study.own_tasks:
        require(name not in GLUE, f"own_tasks: '{name}' is a task of GLUE: choose another name")
        ends = f"own_tasks.{name}: names that end in {RANKED} are of rankings: choose another"
        require(not name.endswith(RANKED), ends)
    fields = {
        "tasks": study.tasks,
        "ranking": study.ranking,
        "rank_in_multitask": study.rank_in_multitask,
        "exclude_from_multitask": study.exclude_from_multitask,
        "candidates.select_on": study.candidates.select_on,
        "mkd.tasks": study.mkd.tasks or () if study.mkd else (),
    }
    known = [*GLUE, *study.own_tasks]
    for where, names in fields.items():
        require_known(where, names, known, "is an unknown task")
    fields = {
        "distil.teachers": study.distil.teachers,
        "model.head_dropout_of": study.model.head_dropout_of,
        "model.heads": study.model.heads,
        "distil.hard_weight_of": study.distil.hard_weight_of,
    }
    for where, names in fields.items():
        require_known(where, names, [*known, *study.rankings], "is an unknown task")
    for name, kind in study.model.heads.items():
        task, needs = study.task(name), "two texts with one label, which"
        fits = kind == "linear" or (len(task.columns) == 2 and not task.by_unit)
        require(fits, f"model.heads: {kind} is for {needs} {name} has not: leave it out")
    for where, trained in (("ranking", study.trainable), ("rank_in_multitask", study.multitask)):
        for name in getattr(study, where):
            ranks = study.task(name).kind == "ranking" and name in trained
            require(ranks, f"{where}: {name} is no task of type ranking that this study trains")
