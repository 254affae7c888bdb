"""The tasks of Table 1."""

import pytest

from mtkd import tasks
from mtkd.errors import UserError

_PAIR, _NLI = ("sentence1", "sentence2"), ("entailment", "neutral", "contradiction")
_BINARY = ("entailment", "not_entailment")
# name: kind, columns, labels in the hub's order, metrics, published sizes
TABLE_1 = {
    "cola": ("single", ("sentence",), ("unacceptable", "acceptable"), ("matthews",), "8.5k 1k 1k"),
    "sst2": ("single", ("sentence",), ("negative", "positive"), ("accuracy",), "67k 872 1.8k"),
    "mnli": ("pair", ("premise", "hypothesis"), _NLI, ("accuracy",), "393k 20k 20k"),
    "rte": ("pair", _PAIR, _BINARY, ("accuracy",), "2.5k 276 3k"),
    "wnli": ("pair", _PAIR, ("not_entailment", "entailment"), ("accuracy",), "634 71 146"),
    "qqp": (
        "pair",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("accuracy", "f1"),
        "364k 40k 391k",
    ),
    "mrpc": (
        "pair",
        _PAIR,
        ("not_equivalent", "equivalent"),
        ("accuracy", "f1"),
        "3.7k 408 1.7k",
    ),
    "stsb": ("similarity", _PAIR, (), ("pearson", "spearman"), "7k 1.5k 1.4k"),
    "qnli": ("ranking", ("question", "sentence"), _BINARY, ("accuracy",), "108k 5.7k 5.7k"),
    "ax": ("pair", ("premise", "hypothesis"), _NLI, ("matthews",), ""),
}


@pytest.mark.parametrize("name", TABLE_1)
def test_a_task_is_that_of_table_1(name):
    task = tasks.get(name)
    kind, columns, labels, metrics, sizes = TABLE_1[name]
    assert (task.kind, task.columns, task.labels) == (kind, columns, labels)
    assert (task.metrics, " ".join(task.published).strip()) == (metrics, sizes)
    assert task.regression == (name == "stsb")
    assert task.num_outputs == {"mnli": 3, "ax": 3, "stsb": 1}.get(name, 2)
    matched = {"mnli": ("_matched", "_mismatched")}.get(name, ("",))
    assert task.test == tuple(f"test{end}" for end in matched)
    assert task.dev == (() if name == "ax" else tuple(f"validation{end}" for end in matched))
    assert task.train == (None if name == "ax" else "train")


def test_ax_is_predicted_by_the_head_of_mnli_whose_labels_it_has():
    assert list(tasks.GLUE) == list(TABLE_1)
    by = {name: task.predicted_by for name, task in tasks.GLUE.items()}
    assert by == dict.fromkeys(TABLE_1) | {"ax": "mnli"}


def test_the_relevant_candidate_of_qnli_is_entailed():
    qnli = tasks.get("qnli")
    assert qnli.labels[qnli.positive_label] == "entailment"


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"Unknown task 'snli': the tasks are cola, .*, ax"):
        tasks.get("snli")
