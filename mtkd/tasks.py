"""The GLUE tasks (MT-DNN_KD, Table 1): columns, labels in the hub's order, kind and metrics."""

from dataclasses import dataclass, replace
from typing import Literal

from mtkd.errors import UserError

Kind = Literal["single", "pair", "similarity", "ranking", "tokens", "span", "text"]
ClassMetric = Literal["matthews", "accuracy", "f1", "pearson", "spearman"]
Metric = Literal[ClassMetric, "entity_f1", "exact_match", "overlap_f1", "rouge_l"]
RankingMetric = Literal["top", "mrr"]  # of a ranking beside classification
START, END = 1, 2  # bits of a word's label in span extraction
TOP = 16  # most probable word pieces that are kept of a piece of a target text
RANKED = "_ranked"  # ends the name of a task that ranks the candidates of another
SELECTION = "selection"  # a split: train examples that are left out, to compare candidates on


@dataclass(frozen=True)
class Task:
    """One task: what its examples look like and how they are scored.

    Attributes:
        columns: One or two text columns.
        labels: Class names in the order of their numbers; empty for a regression and for texts. Of
            a span, its start and end.
        published: Sizes in Table 1 (#Train, #Dev, #Test).
        num_train: Training examples of the full data set, to estimate updates before reading it.
        predicted_by: The task whose head predicts this one, for a task without a training set.
        range: Lowest and highest score of a regression.
        positive_label: Of a ranking's two classes, the one of a relevant candidate (second column).
        max_target: Most word pieces of a target text.
        beam: Beams of the search for a text; 1: the most probable piece each time.
        ranks: The task whose candidates this one ranks, see `as_ranking`.
    """

    name: str
    title: str
    kind: Kind
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[Metric | RankingMetric, ...]
    published: tuple[str, str, str] = ("", "", "")
    num_train: int = 0
    dev: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ("test",)
    train: str | None = "train"
    predicted_by: str | None = None
    range: tuple[float, float] = (0, 5)
    positive_label: int = 1
    max_target: int = 0
    beam: int = 1
    ranks: str | None = None

    @property
    def regression(self) -> bool:
        """Whether the labels are scores."""
        return not self.labels and not self.generates and self.ranks is None

    @property
    def num_outputs(self) -> int:
        """Width of the outputs: the number of classes, or 1 for a score or a candidate.

        Of a piece of a target text, `TOP` word pieces and the logarithms of their probabilities.
        """
        return 2 * TOP if self.generates else len(self.labels) or 1

    @property
    def by_word(self) -> bool:
        """Whether there is a label, and a row of outputs, for each word of the last text.

        Otherwise there is one for each example.
        """
        return self.kind in ("tokens", "span")

    @property
    def generates(self) -> bool:
        """Whether the label is a text: a row of outputs for each of its word pieces, and an end."""
        return self.kind == "text"

    @property
    def by_unit(self) -> bool:
        """Whether an example has several labels: of its words, or of its target's word pieces."""
        return self.by_word or self.generates

    @property
    def clustered(self) -> bool:
        """Whether several outputs are scored together: of an example's words, or of candidates."""
        return self.by_word or self.ranks is not None

    @property
    def grouped(self) -> bool:
        """Whether outputs are normalised over an example's words or candidates, not its classes."""
        return self.kind == "span" or self.ranks is not None


_SENTENCE, _PAIR = ("sentence",), ("sentence1", "sentence2")
_NLI_PAIR, _QUESTIONS = ("premise", "hypothesis"), ("question1", "question2")
_NLI, _BINARY_NLI = ("entailment", "neutral", "contradiction"), ("entailment", "not_entailment")
_ACCEPTABLE, _SENTIMENT = ("unacceptable", "acceptable"), ("negative", "positive")
_DUPLICATE, _EQUIVALENT = ("not_duplicate", "duplicate"), ("not_equivalent", "equivalent")
_MATTHEWS, _ACC, _ACC_F1 = ("matthews",), ("accuracy",), ("accuracy", "f1")
_CORR = ("pearson", "spearman")
_MATCHED = ("validation_matched", "validation_mismatched"), ("test_matched", "test_mismatched")
_TASKS = [
    Task("cola", "CoLA", "single", _SENTENCE, _ACCEPTABLE, _MATTHEWS, ("8.5k", "1k", "1k"), 8551),
    Task("sst2", "SST-2", "single", _SENTENCE, _SENTIMENT, _ACC, ("67k", "872", "1.8k"), 67349),
    Task("mnli", "MNLI", "pair", _NLI_PAIR, _NLI, _ACC, ("393k", "20k", "20k"), 392702, *_MATCHED),
    Task("rte", "RTE", "pair", _PAIR, _BINARY_NLI, _ACC, ("2.5k", "276", "3k"), 2490),
    Task("wnli", "WNLI", "pair", _PAIR, _BINARY_NLI[::-1], _ACC, ("634", "71", "146"), 635),
    Task("qqp", "QQP", "pair", _QUESTIONS, _DUPLICATE, _ACC_F1, ("364k", "40k", "391k"), 363846),
    Task("mrpc", "MRPC", "pair", _PAIR, _EQUIVALENT, _ACC_F1, ("3.7k", "408", "1.7k"), 3668),
    Task("stsb", "STS-B", "similarity", _PAIR, (), _CORR, ("7k", "1.5k", "1.4k"), 5749),
    Task(
        "qnli",
        "QNLI",
        kind="ranking",
        columns=("question", "sentence"),
        labels=_BINARY_NLI,
        metrics=_ACC,
        published=("108k", "5.7k", "5.7k"),
        num_train=104743,
        positive_label=0,
    ),
    Task("ax", "AX", "pair", _NLI_PAIR, _NLI, _MATTHEWS, train=None, dev=(), predicted_by="mnli"),
]
GLUE = {task.name: task for task in _TASKS}
# Not of GLUE: for adaptation and for unlabelled texts.
SNLI = Task("snli", "SNLI", "pair", _NLI_PAIR, _NLI, _ACC, ("549k", "9.8k", "9.8k"), 549367)


def get(name: str) -> Task:
    """Return the task of that hub name; `UserError` where there is none."""
    if name not in GLUE:
        raise UserError(f"Unknown task '{name}': the tasks are {', '.join(GLUE)}.")
    return GLUE[name]


def as_ranking(task: Task) -> Task:
    """Return the task of ranking a query's candidates, by one score for each.

    It is MT-DNN's pairwise ranking (Liu et al. 2019, arXiv:1901.11504, section 3), beside the
    classification of each candidate. Its examples are queries with several candidates.
    """
    name, title = f"{task.name}{RANKED}", f"{task.title} as ranking"
    changed = {"labels": (), "metrics": ("top", "mrr"), "test": (), "ranks": task.name}
    return replace(task, name=name, title=title, **changed)
