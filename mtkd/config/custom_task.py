"""A task of one's own in a study: where its examples lie, what their columns mean, and how it is scored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from mtkd.tasks import GLUE, Metric, Task

METRICS: dict[str, tuple[Metric, ...]] = {
    "single": ("accuracy",),
    "pair": ("accuracy",),
    "ranking": ("accuracy",),
    "similarity": ("pearson", "spearman"),
}
TAKEN = ("label", "idx")  # columns of every task

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


class OwnTask(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Examples in files, or in a data set of the hub; `train`, `dev` and `test` are then names of its splits."""

    type: Literal["single", "pair", "similarity", "ranking"] = Field(
        description="one text and a class, two texts and a class, two texts and a score, a query and a candidate that answers it or not"
    )
    train: str = Field(
        description="a .csv, .tsv, .jsonl or .parquet file, seen from the study's folder"
    )
    dev: str | float | None = Field(
        None,
        description="a file, or the share of train that is held out (drawn by data.seed), such as 0.1",
    )
    test: str | None = Field(None, description="a file; its labels may be missing")
    hub: str | None = Field(
        None, description="hub id (or directory) of a data set, in place of files"
    )
    config: str | None = Field(None, description="of the hub's data set, where it has several")
    columns: list[str] = Field(
        min_length=1, max_length=2, description="the text column, or the two"
    )
    label: str = Field("label", description="the column of the label, or of the score")
    labels: list[str] = Field(
        [],
        description="the classes; a label column of whole numbers from 0 counts in this order; of a ranking: a "
        "wrong candidate's and the right one's (none given: 0 and 1)",
    )
    range: tuple[float, float] = Field(
        (0, 5), description="least and greatest score of a similarity; numbers around 1 train best"
    )
    metrics: list[Metric] = Field(
        [], description="none given: accuracy; pearson and spearman of a similarity"
    )
    quotes: bool | None = Field(
        None,
        description='whether " encloses a field; None: in .csv it does, in .tsv it is a character',
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _words(cls, labels: Any) -> Any:
        if isinstance(labels, list) and any(isinstance(label, bool) for label in labels):
            raise ValueError(
                "YAML takes yes, no, true and false for truth values: put such labels in quotes"
            )
        return (
            [str(label) if isinstance(label, int) else label for label in labels]
            if isinstance(labels, list)
            else labels
        )

    @model_validator(mode="before")
    @classmethod
    def _labels_of_a_ranking(cls, given: Any) -> Any:
        return (
            {"labels": ["0", "1"], **given}
            if isinstance(given, dict) and given.get("type") == "ranking"
            else given
        )

    @model_validator(mode="after")
    def _consistent(self):
        if len(self.columns) != (1 if self.type == "single" else 2):
            raise ValueError(
                f"columns: type {self.type} has {'one text column' if self.type == 'single' else 'two text columns'}, "
                f"these are {len(self.columns)}"
            )
        if len({*self.columns, self.label}) <= len(self.columns):
            raise ValueError("columns and label: a column stands twice")
        if taken := [column for column in self.columns if column in TAKEN]:
            raise ValueError(
                f"columns: '{taken[0]}' is a column of every task here: rename that text column"
            )
        if self.dev is None:
            raise ValueError(
                "dev: there is no dev split to score on: name one, or hold out a share of train, such as dev: 0.1"
            )
        if isinstance(self.dev, float) and not 0 < self.dev < 1:
            raise ValueError(f"dev: a share of train lies between 0 and 1 (it is {self.dev:g})")
        if self.config and not self.hub:
            raise ValueError("config: it goes with hub")
        self._scored()
        return self

    def _scored(self) -> None:
        if self.type == "similarity":
            if self.labels:
                raise ValueError(
                    "labels: a similarity has scores, not classes: leave them out, or take type: pair"
                )
            if self.range[0] >= self.range[1]:
                raise ValueError(
                    f"range: the least score must be below the greatest (they are {self.range[0]:g} and {self.range[1]:g})"
                )
        elif len(set(self.labels)) < max(2, len(self.labels)):
            raise ValueError(
                f"labels: name every class once, at least two (they are {self.labels})"
            )
        elif self.type == "ranking" and len(self.labels) > 2:
            raise ValueError(
                f"labels: a ranking has two, a wrong candidate's and the right one's (they are {self.labels})"
            )
        known = (
            ("pearson", "spearman") if self.type == "similarity" else ("accuracy", "f1", "matthews")
        )
        if wrong := [metric for metric in self.metrics if metric not in known]:
            raise ValueError(
                f"metrics: {wrong[0]} does not measure type {self.type}: take {', '.join(known)}"
            )
        if "f1" in self.metrics and len(self.labels) > 2:
            raise ValueError(
                "metrics: f1 is that of the second of two classes: with more, take accuracy or matthews"
            )

    @property
    def splits(self) -> dict[str, str]:
        """Split's name -> its file, or its name on the hub; without a dev split that is held out of train."""
        named = {"train": self.train, "validation": self.dev, "test": self.test}
        return {split: source for split, source in named.items() if isinstance(source, str)}

    def task(self, name: str) -> Task:
        return Task(
            name,
            name,
            self.type,
            tuple(self.columns),
            tuple(self.labels),
            tuple(self.metrics) or METRICS[self.type],
            test=("test",) if self.test else (),
            range=self.range,
        )


def with_defaults(study: Any) -> Any:
    """Settings of a study in which the paper's choices of tasks give way to all own tasks, where it has no others."""
    own = study.get("own_tasks") if isinstance(study, dict) else None
    if not isinstance(own, dict) or not own:
        return study
    given = {"tasks": list(own), **study}
    if not isinstance(given["tasks"], list) or set(map(str, given["tasks"])) & set(GLUE):
        return given
    alone = given.get("exclude_from_multitask")
    trained = [name for name in given["tasks"] if not isinstance(alone, list) or name not in alone]
    for section, field in (("candidates", "select_on"), ("distil", "teachers")):
        if isinstance(chosen := given.get(section, {}), dict):
            given[section] = {field: trained, **chosen}
    return given


def check_names(study: Any) -> None:
    """`ValueError` for an own task with a name of GLUE's, and wherever a study names a task that there is not."""
    if twice := [name for name in study.own_tasks if name in GLUE]:
        raise ValueError(f"own_tasks: '{twice[0]}' is a task of GLUE: give yours another name")
    fields = {
        "tasks": study.tasks,
        "ranking": study.ranking,
        "exclude_from_multitask": study.exclude_from_multitask,
        "candidates.select_on": study.candidates.select_on,
        "distil.teachers": study.distil.teachers,
        "mkd.tasks": study.mkd.tasks or [] if study.mkd else [],
    }
    named = [
        (f"{field}.{place}", name)
        for field, names in fields.items()
        for place, name in enumerate(names)
    ]
    known = [*GLUE, *study.own_tasks]
    named += [("model.head_dropout_of", name) for name in study.model.head_dropout_of]
    named += [("distil.hard_weight_of", name) for name in study.distil.hard_weight_of]
    for where, name in named:
        if name not in known:
            raise ValueError(
                f'{where}: unknown task (it is "{name}"); the tasks are {", ".join(map(repr, known))}'
            )
    for place, name in enumerate(study.ranking):
        task = study.task(name)
        if task.kind != "ranking" or name not in study.trainable:
            raise ValueError(
                f"ranking.{place}: {task.title} has no candidates to rank or no train set in this study: name QNLI, or an own "
                "task of type ranking"
            )
