"""Custom tasks in a study: defaults, and what a bad entry is refused with."""

from datetime import date

import pytest
from helpers import PAIR

from mtkd import tasks
from mtkd.config.study import Study, check
from mtkd.errors import UserError

ENCODERS = {"uncased": {"checkpoint": "a/bert"}, "cased": {"checkpoint": "a/bert-cased"}}
SINGLE = PAIR | {"type": "single", "columns": ["a"]}
TEXT = PAIR | {"type": "text", "labels": []}


def study(own_tasks: dict, **settings) -> Study:
    return check({"name": "x", "own_tasks": own_tasks, "encoders": ENCODERS} | settings)


# settings that differ from PAIR; words of the message
BAD = {
    "no dev split": ({"dev": None}, ["own_tasks.mine: dev", "0.1"]),
    "all of train": ({"dev": 1.0}, ["dev", "between 0 and 1", "it is 1"]),
    "an unknown type": ({"type": "sorting"}, ["own_tasks.mine.type", "'ranking'", "sorting"]),
    "no train file": ({"train": None}, ["own_tasks.mine.train"]),
    "an unknown field": ({"colums": ["a"]}, ["unknown field 'own_tasks.mine.colums'", "columns"]),
    "one column for a pair": ({"columns": ["a"]}, ["type pair has two text columns", "1"]),
    "two for a single text": ({"type": "single"}, ["type single has one text column", "2"]),
    "the label for a text": ({"label": "b"}, ["columns and label", "twice"]),
    "a column twice": ({"columns": ["a", "a"]}, ["columns and label", "twice"]),
    "a reserved column": ({"columns": ["a", "idx"]}, ["'idx'", "rename"]),
    "no classes": ({"labels": []}, ["labels", "at least two"]),
    "one class": ({"labels": ["yes"]}, ["labels", "at least two"]),
    "a class twice": ({"labels": ["yes", "no", "yes"]}, ["labels", "twice"]),
    "YAML's truth values": ({"labels": [False, True]}, ["labels", "quote"]),
    "YAML's dates": (
        {"labels": [date(2020, 1, 1), "b"]},
        ["labels", "as a date: quote"],
    ),
    "classes of a similarity": ({"type": "similarity"}, ["labels", "scores"]),
    "three classes of a ranking": ({"type": "ranking", "labels": ["a", "b", "c"]}, ["has two"]),
    "an empty range": ({"type": "similarity", "labels": [], "range": [5, 5]}, ["range", "below"]),
    "tags of two texts": ({"type": "tokens"}, ["type tokens has one text column", "2"]),
    "one tag": ({"type": "tokens", "columns": ["a"], "labels": ["O"]}, ["labels", "at least two"]),
    "classes of a span": ({"type": "span"}, ["labels", "a start and an end"]),
    "a span's metric": ({"metrics": ["exact_match"]}, ["'exact_match' does not measure type pair"]),
    "an answer's place": ({"answer_start": "at"}, ["answer_start: it is for type span"]),
    "words on the hub": (
        {"type": "tokens", "columns": ["a"], "hub": "a/b"},
        ["hub: type tokens is read from files"],
    ),
    "an unknown metric": ({"metrics": ["bleu"]}, ["own_tasks.mine.metrics.0", "bleu"]),
    "a metric of scores": (
        {"metrics": ["pearson"]},
        ["'pearson' does not measure type pair", "accuracy, f1, matthews"],
    ),
    "a metric of classes": (
        {"type": "similarity", "labels": [], "metrics": ["f1"]},
        ["'f1' does not measure type similarity"],
    ),
    "F1 of three": ({"labels": ["a", "b", "c"], "metrics": ["f1"]}, ["f1", "two classes"]),
    "classes of a text": ({"type": "text"}, ["labels", "a text has word pieces"]),
    "a metric of classes for a text": (
        TEXT | {"metrics": ["accuracy"]},
        ["'accuracy' does not measure type text", "rouge_l"],
    ),
    "beams of a pair": ({"beam": 2}, ["max_target, beam", "type text"]),
    "texts without pieces": (TEXT | {"max_target": 0}, ["own_tasks.mine.max_target", "equal to 1"]),
    "a configuration of no data set": ({"config": "x"}, ["config", "hub"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_entry_is_refused_with_its_field(case):
    changes, words = BAD[case]
    with pytest.raises(UserError) as error:
        study({"mine": PAIR | changes})
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rte", "of GLUE"),
        ("My-Task", "pattern"),
        ("../x", "pattern"),
        ("a_ranked", "are of rankings"),
        ("x" * 41, "at most 40"),
    ],
)
def test_a_bad_name_is_refused(name, words):
    with pytest.raises(UserError, match=words):
        study({name: PAIR})


def test_numbers_are_names_of_classes():
    assert study({"mine": SINGLE | {"labels": [1.0, 2.5]}}).task("mine").labels == ("1", "2.5")
    assert study({"mine": SINGLE | {"labels": [1, 2, 5]}}).task("mine").labels == ("1", "2", "5")


def test_metrics_and_classes_have_defaults():
    scores = study({"mine": PAIR | {"type": "similarity", "labels": [], "range": [-1, 10]}})
    task = scores.task("mine")
    assert (task.metrics, task.num_outputs, task.range) == (("pearson", "spearman"), 1, (-1, 10))
    ranking = study({"mine": PAIR | {"type": "ranking", "labels": []}}).task("mine")
    assert (ranking.labels, ranking.metrics, ranking.test) == (("0", "1"), ("accuracy",), ())


def test_a_text_to_write_has_one_source_or_two():
    one = study({"mine": TEXT | {"columns": ["a"], "beam": 4}}).task("mine")
    assert (one.beam, one.max_target, one.metrics) == (4, 32, ("rouge_l",))
    assert one.generates and not one.regression and not one.labels
    assert study({"mine": TEXT}).task("mine").columns == ("a", "b")
    assert study({"mine": PAIR}).task("mine").max_target == 0


LOGITS = {"students": {"s": {"kind": "lstm"}}}


@pytest.mark.parametrize(
    "settings",
    [
        {"distil": {"temperature": 2.0}},
        {"distil": {"loss": "logits"}},
        {"distil": {"unlabelled": {"other_tasks": 9}}},
        {"ablation": {"variants": {"hot": {"temperature": 2.0}}}},
    ],
)
def test_texts_to_write_are_taught_by_probabilities(settings):
    both = {"one": PAIR, "two": TEXT}
    with pytest.raises(UserError, match=r"teachers: two: type text is taught by probabilities"):
        study(both, **settings)
    settings.setdefault("distil", {})["teachers"] = ["one"]
    assert study(both, **settings).multitask == ["one", "two"]


def test_students_of_mkd_do_not_write_texts():
    both = {"one": PAIR, "two": TEXT}
    assert study(both, mkd=LOGITS).mkd.tasks == ["one"]
    for own, tasks_of_mkd in ((both, ["one", "two"]), ({"two": TEXT}, None)):
        with pytest.raises(UserError, match=r"mkd.tasks: type text keeps no logits"):
            study(own, mkd=LOGITS | {"tasks": tasks_of_mkd})


def test_custom_tasks_alone_are_trained_selected_on_and_distilled():
    both = {"one": PAIR, "two": SINGLE}
    alone = study(both, exclude_from_multitask=["two"])
    assert (alone.tasks, alone.multitask, alone.trainable) == (
        ["one", "two"],
        ["one"],
        ["one", "two"],
    )
    assert alone.candidates.select_on == alone.distil.teachers == ["one"]
    chosen = study(both, distil={"teachers": ["two"], "hard_weight": 0.2})
    assert chosen.distil.teachers == ["two"] and chosen.candidates.select_on == ["one", "two"]


def test_custom_tasks_beside_glue_s_leave_its_defaults():
    both = study({"one": PAIR}, tasks=["rte", "mnli", "qqp", "qnli", "one"])
    assert both.multitask[-1] == "one" and both.task("rte") is tasks.get("rte")
    assert both.task("one").columns == ("a", "b") and "one" not in both.distil.teachers


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        ({"type": "tokens", "labels": ["O", "B-X"]}, ("entity_f1",)),
        ({"type": "tokens", "labels": ["NOUN", "VERB"]}, ("accuracy",)),
        ({"type": "span", "labels": [], "columns": ["a", "b"]}, ("exact_match", "overlap_f1")),
    ],
)
def test_metrics_of_words_by_default(changes, metrics):
    task = study({"mine": SINGLE | changes}).task("mine")
    assert task.metrics == metrics
    assert task.by_word
    assert task.num_outputs == 2


def test_a_task_of_words_takes_no_further_texts():
    tags = SINGLE | {"type": "tokens", "labels": ["O", "B-X"]}
    for where, settings in {
        "distil": {"distil": {"unlabelled": {"snli": 5}}},
        "ablation.variants.more": {
            "ablation": {"variants": {"more": {"source": "unlabelled", "unlabelled": {"snli": 5}}}}
        },
    }.items():
        with pytest.raises(UserError, match=f"{where}.teachers: mine has a label for each word"):
            study({"mine": tags}, **settings)
