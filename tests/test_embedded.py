"""The synthetic suite: GLUE's shape, the same rows from the same seed, nothing that a bag of words could solve."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Value
from scipy.sparse import hstack
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from mtkd.data.synthetic import generate, text

NLI = ["entailment", "neutral", "contradiction"]
QA = ["entailment", "not_entailment"]
# As on the hub's card of nyu-mll/glue.
GLUE = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "stsb": (["sentence1", "sentence2"], None),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "mnli": (["premise", "hypothesis"], NLI),
    "qnli": (["question", "sentence"], QA),
    "rte": (["sentence1", "sentence2"], QA),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"]),
    "ax": (["premise", "hypothesis"], NLI),
}
PLAIN_SPLITS = ["train", "validation", "test"]
SPLITS = {
    "mnli": [
        "train",
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
    ],
    "ax": ["test"],
}


@pytest.fixture(scope="module")
def suite():
    return generate()


@pytest.mark.parametrize("task", GLUE)
def test_schema_is_glues(suite, task):
    columns, names = GLUE[task]
    assert list(suite[task]) == SPLITS.get(task, PLAIN_SPLITS)
    for data in suite[task].values():
        assert data.column_names == [*columns, "label", "idx"]
        assert data.features["idx"] == Value("int32")
        assert data["idx"][:] == list(range(len(data)))
        if names is None:
            assert data.features["label"] == Value("float32")
        else:
            assert isinstance(data.features["label"], ClassLabel)
            assert data.features["label"].names == names


def test_same_seed_same_rows_other_seed_other_rows():
    one, again, two = generate(3, scale=0.05), generate(3, scale=0.05), generate(4, scale=0.05)
    for task in one:
        for split in one[task]:
            assert one[task][split].to_list() == again[task][split].to_list()
            assert one[task][split].to_list() != two[task][split].to_list()


def test_sizes_keep_the_order_of_table_1(suite):
    sizes = {task: suite[task]["train"].num_rows for task in suite if task != "ax"}
    assert sorted(sizes, key=sizes.get, reverse=True)[:2] == ["mnli", "qqp"]
    assert (
        sizes["wnli"] < sizes["rte"] < sizes["mrpc"] < sizes["stsb"] < sizes["cola"] < sizes["qnli"]
    )
    assert 10_000 < sum(sizes.values()) < 12_000
    half = generate(scale=0.5)
    assert half["mnli"]["train"].num_rows == sizes["mnli"] // 2


@pytest.mark.parametrize("scale", [0.01, 0.05])
def test_a_small_suite_keeps_every_class(scale):
    for task, splits in generate(scale=scale).items():
        for split, data in splits.items():
            assert len(data) >= 16
            if not split.startswith("test") and GLUE[task][1]:
                assert set(data["label"]) == set(range(len(GLUE[task][1]))), (task, split)


@pytest.mark.parametrize("task", [task for task in GLUE if task != "ax"])
def test_labels_are_balanced_in_train_and_dev_and_hidden_in_test(suite, task):
    names = GLUE[task][1]
    for split, data in suite[task].items():
        labels = np.array(data["label"])
        if split.startswith("test"):
            assert (labels == -1).all()
        elif names is None:
            assert labels.min() < 0.5 and labels.max() == 5.0
            assert 1.0 < labels.std() < 2.3
        else:
            shares = np.bincount(labels, minlength=len(names)) / len(labels)
            assert shares.min() > 0.7 / len(names), (split, shares)


def test_no_text_of_dev_or_test_is_in_train(suite):
    for task, splits in suite.items():
        columns = GLUE[task][0]
        seen = Counter(
            row for data in splits.values() for row in zip(*(data[c] for c in columns), strict=True)
        )
        assert max(seen.values()) == 1, task


def _features(train, dev, columns):
    """TF-IDF of unigrams and bigrams, of each side by itself and of both together."""

    def views(data):
        sides = [list(data[c]) for c in columns]
        return (
            [*sides, [" ".join(row) for row in zip(*sides, strict=True)]]
            if len(sides) > 1
            else sides
        )

    left, right = [], []
    for seen, unseen in zip(views(train), views(dev), strict=True):
        vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+")
        left.append(vectors.fit_transform(seen))
        right.append(vectors.transform(unseen))
    return hstack(left).tocsr(), hstack(right).tocsr()


def _bag_of_words(splits, dev, columns):
    """Accuracy (Pearson for a score) in percent of a linear model on TF-IDF features."""
    train, gold = np.array(splits["train"]["label"]), np.array(splits[dev]["label"])
    x, z = _features(splits["train"], splits[dev], columns)
    if "float" in str(train.dtype):
        return 100 * pearsonr(Ridge().fit(x, train).predict(z), gold)[0]
    return 100 * (LogisticRegression(max_iter=1000).fit(x, train).predict(z) == gold).mean()


# task, dev split, upper bound. Measured at seeds 0 and 1, the best of three regularisations: mrpc 55-60, qqp 51-57,
# mnli 38-43, mismatched 34-36, qnli 50-53, rte 54-55, stsb 10-13, sst2 61-64. Dev sets of 300 scatter by 3 points.
BOUNDS = [
    ("mrpc", "validation", 65),
    ("qqp", "validation", 62),
    ("mnli", "validation_matched", 46),
    ("mnli", "validation_mismatched", 45),
    ("qnli", "validation", 61),
    ("rte", "validation", 62),
    ("stsb", "validation", 30),
    ("sst2", "validation", 70),
    ("cola", "validation", 82),
]


@pytest.mark.parametrize(("task", "dev", "bound"), BOUNDS)
def test_a_bag_of_words_does_not_solve_it(suite, task, dev, bound):
    assert _bag_of_words(suite[task], dev, GLUE[task][0]) <= bound


def test_the_hypothesis_alone_tells_little(suite):
    assert _bag_of_words(suite["mnli"], "validation_matched", ["hypothesis"]) <= 43


def test_mismatched_talks_of_other_things_than_train(suite):
    def words(split):
        return set(re.findall(r"[a-z]+", " ".join(suite["mnli"][split]["hypothesis"]).lower()))

    new = words("validation_mismatched") - words("train")
    assert len(new) > 20
    assert not words("validation_matched") & {"sword", "ferry", "tulip"}


def test_text_is_reproducible_and_names_no_label():
    one, again, other = (list(text(seed, 3000)) for seed in (0, 0, 1))
    assert one == again != other
    assert sum(len(re.findall(r"[.?](?: |$)", paragraph)) for paragraph in one) == 3000
    words = set(re.findall(r"\w+", " ".join(one).lower()))
    labels = {name for _, names in GLUE.values() for name in names or ()}
    assert not words & (labels | {"duplicate", "equivalent", "label"})
    assert len(words) < 1500
    assert all(paragraph[0].isupper() for paragraph in one)


# The accuracy (Pearson for STS-B) of every pair task's dev sets.
PAIRS = [
    ("mrpc", "validation"),
    ("stsb", "validation"),
    ("qqp", "validation"),
    ("mnli", "validation_matched"),
    ("mnli", "validation_mismatched"),
    ("qnli", "validation"),
    ("rte", "validation"),
]


def test_the_reference_study_beats_a_bag_of_words_on_the_pair_tasks_by_5_points(suite):
    """`reports/quick` holds what MT-DNN reached on this very suite (seed 0); the baseline is computed here."""
    results = pd.read_csv(Path(__file__).parent.parent / "reports" / "quick" / "results.csv")
    reached = (
        results[(results.system == "mt-dnn") & results.metric.isin(["accuracy", "pearson"])]
        .groupby(["task", "split"])
        .value.mean()
    )
    margins = {
        pair: reached[pair] - _bag_of_words(suite[pair[0]], pair[1], GLUE[pair[0]][0])
        for pair in PAIRS
    }
    assert sum(margins.values()) / len(margins) >= 5, margins
    assert reached.max() < 96  # no task at the ceiling
