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
    num_train: int = (
        0  # train examples of the full data set, for estimates before any data are at hand
    )
    predicted_by: str | None = None  # a task without a train set is predicted by this task's head
    range: tuple[float, float] = (0, 5)  # of a regression's scores
    positive_label: int = 1  # of a ranking's two classes, that of the candidate (second column) that answers the query (first column)

    @property
    def regression(self) -> bool:
        return not self.labels

    @property
    def num_outputs(self) -> int:
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
            num_train=8551,
        ),
        Task(
            "sst2",
            "SST-2",
            "single",
            ("sentence",),
            ("negative", "positive"),
            ("accuracy",),
            published=("67k", "872", "1.8k"),
            num_train=67349,
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
            num_train=392702,
        ),
        Task(
            "rte",
            "RTE",
            "pair",
            _PAIR,
            _ENTAILED,
            ("accuracy",),
            published=("2.5k", "276", "3k"),
            num_train=2490,
        ),
        Task(
            "wnli",
            "WNLI",
            "pair",
            _PAIR,
            ("not_entailment", "entailment"),
            ("accuracy",),
            published=("634", "71", "146"),
            num_train=635,
        ),
        Task(
            "qqp",
            "QQP",
            "pair",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
            published=("364k", "40k", "391k"),
            num_train=363846,
        ),
        Task(
            "mrpc",
            "MRPC",
            "pair",
            _PAIR,
            ("not_equivalent", "equivalent"),
            ("accuracy", "f1"),
            published=("3.7k", "408", "1.7k"),
            num_train=3668,
        ),
        Task(
            "stsb",
            "STS-B",
            "similarity",
            _PAIR,
            (),
            ("pearson", "spearman"),
            published=("7k", "1.5k", "1.4k"),
            num_train=5749,
        ),
        Task(
            "qnli",
            "QNLI",
            "ranking",
            ("question", "sentence"),
            _ENTAILED,
            ("accuracy",),
            published=("108k", "5.7k", "5.7k"),
            num_train=104743,
            positive_label=0,
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
            predicted_by="mnli",
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
    num_train=549367,
)


def get(name: str) -> Task:
    """The task of that hub name; `UserError` names the tasks there are."""
    if name not in GLUE:
        raise UserError(f"Unknown task '{name}': the tasks are {', '.join(GLUE)}.")
    return GLUE[name]
