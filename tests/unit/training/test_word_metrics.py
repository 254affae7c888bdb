"""Metrics of words against seqeval and numbers by hand, and decoding against every span."""

import numpy as np
import pytest
from seqeval.metrics import f1_score

from mtkd.tasks import END, START, Task, as_ranking, get
from mtkd.training import metrics
from mtkd.training.predict import probabilities
from mtkd.training.soft_targets import one_hot
from mtkd.training.word_metrics import LONGEST, best_span, counts, decode, ranks

TAGS = Task("ner", "NER", "tokens", ("words",), ("O", "B-X", "I-X", "B-Y"), ("entity_f1",))
SPAN = Task("qa", "QA", "span", ("q", "c"), ("start", "end"), ("exact_match", "overlap_f1"))
IDX = np.repeat([4, 2, 9], [5, 3, 6])
RANKED = as_ranking(get("qnli"))  # class 0 is right


def test_entity_f1_is_seqeval_s_over_all_examples():
    random = np.random.default_rng(0)
    for _ in range(20):
        labels, found = random.integers(0, 4, (2, len(IDX)))
        sentences = [
            [[TAGS.labels[one] for one in many[idx == IDX]] for idx in (4, 2, 9)]
            for many in (labels, found)
        ]
        outputs = np.eye(4)[found]
        value = metrics.score(TAGS, outputs, labels, IDX)[0]["entity_f1"]
        assert value == pytest.approx(100 * f1_score(*sentences))


def test_an_entity_ends_with_its_sentence():
    labels = np.array([0, 1, 2, 2, 0, 0])  # B-X I-X | I-X: two entities
    idx = np.array([0, 0, 0, 1, 1, 1])
    assert counts(TAGS, "entity_f1", labels, labels, idx)[1].tolist() == [2, 2]


def test_words_with_their_tag_by_example():
    above, below = counts(TAGS, "accuracy", np.zeros(14), np.array([0, 1] * 7), IDX)
    assert above.tolist() == [3, 1, 3]
    assert below.tolist() == [5, 3, 6]


def marked(start: int, end: int, size: int = 6) -> np.ndarray:
    labels = np.zeros(size, int)
    labels[start] |= START
    labels[end] |= END
    return labels


@pytest.mark.parametrize(
    ("found", "exact", "overlap"),
    [((1, 3), 1, 1), ((3, 3), 0, 2 * 1 / (1 + 3)), ((4, 5), 0, 0), ((0, 5), 0, 2 * 3 / (6 + 3))],
)
def test_spans_are_compared_by_the_places_of_their_words(found, exact, overlap):
    labels, predictions, idx = marked(1, 3), marked(*found), np.zeros(6)
    assert counts(SPAN, "exact_match", predictions, labels, idx)[0] == [exact]
    assert counts(SPAN, "overlap_f1", predictions, labels, idx)[0] == pytest.approx([overlap])


def test_the_best_span_is_the_best_of_all():
    random = np.random.default_rng(1)
    for size in (1, 5, LONGEST + 20):
        starts, ends = random.dirichlet(np.full(size, 0.1), 2)
        products = np.triu(np.outer(starts, ends)) * (np.tri(size, k=LONGEST - 1))
        start, end = best_span(starts, ends)
        assert start <= end < start + LONGEST
        assert starts[start] * ends[end] == products.max()


def test_predicted_spans_and_hard_targets_are_each_other_s_inverse():
    labels = np.concatenate([marked(1, 3, 5), marked(2, 2, 3), marked(0, 5)])
    assert decode(SPAN, one_hot(SPAN, labels), IDX).tolist() == labels.tolist()


def test_a_span_s_probabilities_are_over_the_words_of_an_example():
    logits = np.random.default_rng(2).normal(size=(3, 14, 2)).astype("float32") * 100
    found = probabilities(SPAN, logits, IDX)
    for idx in (4, 2, 9):
        assert found[:, idx == IDX].sum(axis=1) == pytest.approx(np.ones((3, 2)))
    each = np.exp(logits[:, :5] - logits[:, :5].max(axis=1, keepdims=True))
    assert found[:, :5] == pytest.approx(each / each.sum(axis=1, keepdims=True))


def test_resampled_metrics_are_those_of_the_resamples():
    random = np.random.default_rng(3)
    labels, first, second = random.integers(0, 4, (3, len(IDX)))
    weights = metrics.resamples(3, 10, random)
    columns = np.stack([first, second], axis=1)
    found = metrics.resampled(TAGS, "entity_f1", weights, columns, labels, IDX)
    for draw, repeats in enumerate(weights):
        rows = [np.flatnonzero(idx == IDX) for idx in np.repeat([4, 2, 9], repeats)]
        idx, rows = np.repeat(range(3), list(map(len, rows))), np.concatenate(rows)
        for system in (0, 1):
            outputs = np.eye(4)[columns[rows, system]]
            value = metrics.score(TAGS, outputs, labels[rows], idx)[0]["entity_f1"]
            assert found[draw, system] == pytest.approx(value)


def test_a_metric_without_any_entity_is_0():
    assert metrics.score(TAGS, np.eye(4)[[0] * 14], np.zeros(14, int), IDX)[0]["entity_f1"] == 0


def test_the_right_candidate_s_rank_by_question():
    labels = np.ones(14, int)
    labels[[2, 5, 8]] = 0
    scores = np.array([1, 5, 3, 3, 0, 9, 2, 2, 0.5, 1, 2, 3, 4, 5])
    assert ranks(IDX, scores, labels == 0).tolist() == [3, 1, 6]  # a tie is behind
    found, notes = metrics.score(RANKED, scores[:, None], labels, IDX)
    assert found == pytest.approx({"top": 100 / 3, "mrr": 100 * (1 / 3 + 1 + 1 / 6) / 3})
    assert notes == []
    assert counts(RANKED, "mrr", scores, labels, IDX)[0] == pytest.approx([1 / 3, 1, 1 / 6])


def test_a_ranking_s_probabilities_are_over_the_candidates_of_a_question():
    logits = np.random.default_rng(4).normal(size=(3, 14, 1)).astype("float32") * 100
    found = probabilities(RANKED, logits, IDX)
    for idx in (4, 2, 9):
        part = logits[:, idx == IDX].astype(float)
        each = np.exp(part - part.max(axis=1, keepdims=True))
        assert found[:, idx == IDX] == pytest.approx(each / each.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("metric", RANKED.metrics)
def test_questions_are_resampled_and_not_candidates(metric):
    random = np.random.default_rng(5)
    labels = np.ones(14, int)
    labels[[1, 7, 9]] = 0
    weights, columns = metrics.resamples(3, 10, random), random.random((14, 2))
    found = metrics.resampled(RANKED, metric, weights, columns, labels, IDX)
    assert found.shape == (10, 2)
    for draw, repeats in enumerate(weights):
        rows = [np.flatnonzero(idx == IDX) for idx in np.repeat([4, 2, 9], repeats)]
        idx, rows = np.repeat(range(3), list(map(len, rows))), np.concatenate(rows)
        for system in (0, 1):
            value = metrics.score(RANKED, columns[rows, system, None], labels[rows], idx)[0][metric]
            assert found[draw, system] == pytest.approx(value)
    low, high = metrics.intervals(RANKED, columns[:, :1], labels, IDX)[metric]
    assert 0 <= low < high <= 100
