"""The GLUE tasks of Table 1 (MT-DNN_KD): columns, labels in the hub's order, kind and metrics."""

from dataclasses import dataclass
from typing import Literal

from mtkd.errors import UserError

Kind = Literal["single", "pair", "similarity", "ranking"]
Metric = Literal["matthews", "accuracy", "f1", "pearson", "spearman"]


@dataclass(frozen=True)
class Task:
    """One task: how its examples look and how they are scored.

    `columns` holds one or two text columns. `labels` are the class names in the order of their numbers, empty for a
    regression. `published` are Table 1's sizes (#Train, #Dev, #Test), shown beside what the data hold.
    """

    name: str
    title: str
    kind: Kind
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[Metric, ...]
    train: str | None = "train"
    dev: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)
    published: tuple[str, str, str] = ("", "", "")
    examples: int = (
        0  # train examples of the full data set, for estimates before any data are at hand
    )
    scored_by: str | None = None  # a task without a train set is predicted by this task's head
    range: tuple[float, float] = (0, 5)  # of a regression's scores
    right: int = 1  # of a ranking's two classes, that of the candidate (second column) that answers the query (first column)

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def outputs(self) -> int:
        """Width of the head: the number of classes, or 1 for a score."""
        return len(self.labels) or 1


_ENTAILED = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_PAIR = ("sentence1", "sentence2")
_MATCHED = dict(
    dev=("validation_matched", "validation_mismatched"), test=("test_matched", "test_mismatched")
)

GLUE: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "cola",
            "CoLA",
            "single",
            ("sentence",),
            ("unacceptable", "acceptable"),
            ("matthews",),
            published=("8.5k", "1k", "1k"),
            examples=8551,
        ),
        Task(
            "sst2",
            "SST-2",
            "single",
            ("sentence",),
            ("negative", "positive"),
            ("accuracy",),
            published=("67k", "872", "1.8k"),
            examples=67349,
        ),
        Task(
            "mnli",
            "MNLI",
            "pair",
            ("premise", "hypothesis"),
            _NLI,
            ("accuracy",),
            **_MATCHED,
            published=("393k", "20k", "20k"),
            examples=392702,
        ),
        Task(
            "rte",
            "RTE",
            "pair",
            _PAIR,
            _ENTAILED,
            ("accuracy",),
            published=("2.5k", "276", "3k"),
            examples=2490,
        ),
        Task(
            "wnli",
            "WNLI",
            "pair",
            _PAIR,
            ("not_entailment", "entailment"),
            ("accuracy",),
            published=("634", "71", "146"),
            examples=635,
        ),
        Task(
            "qqp",
            "QQP",
            "pair",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
            published=("364k", "40k", "391k"),
            examples=363846,
        ),
        Task(
            "mrpc",
            "MRPC",
            "pair",
            _PAIR,
            ("not_equivalent", "equivalent"),
            ("accuracy", "f1"),
            published=("3.7k", "408", "1.7k"),
            examples=3668,
        ),
        Task(
            "stsb",
            "STS-B",
            "similarity",
            _PAIR,
            (),
            ("pearson", "spearman"),
            published=("7k", "1.5k", "1.4k"),
            examples=5749,
        ),
        Task(
            "qnli",
            "QNLI",
            "ranking",
            ("question", "sentence"),
            _ENTAILED,
            ("accuracy",),
            published=("108k", "5.7k", "5.7k"),
            examples=104743,
            right=0,
        ),
        Task(
            "ax",
            "AX",
            "pair",
            ("premise", "hypothesis"),
            _NLI,
            ("matthews",),
            train=None,
            dev=(),
            scored_by="mnli",
        ),
    )
}

# Not of GLUE: what multi-task models are adapted to.
SNLI = Task(
    "snli",
    "SNLI",
    "pair",
    ("premise", "hypothesis"),
    _NLI,
    ("accuracy",),
    published=("549k", "9.8k", "9.8k"),
    examples=549367,
)


def get(name: str) -> Task:
    """The task of that hub name; `UserError` names the tasks there are."""
    if name not in GLUE:
        raise UserError(f"Unknown task '{name}': the tasks are {', '.join(GLUE)}.")
    return GLUE[name]
