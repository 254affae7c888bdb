"""Metrics of tasks whose examples have several labels: sums over examples, which are resampled.

A metric is a ratio of two sums, in percent. `counts` gives each example's share in both:

    entity_f1     2 * correct entities / (predicted + true ones); an entity is what seqeval finds in
                  tags such as B-PER, I-PER and O, and is correct if its type and its words are
    accuracy      words with the correct tag / words
    exact_match   examples whose span is the answer's / examples
    overlap_f1    sum of F1 over the words of both spans / examples; SQuAD's (Rajpurkar et al. 2016,
                  section 6.1), but for words at their places, not for bags of normalised words
    top           questions whose right candidate has the highest score / questions
    mrr           sum of one over the rank of the right candidate / questions
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mtkd.tasks import END, START, Task

LONGEST = 30  # words of a span, as in BERT's SQuAD script


def decode(task: Task, outputs: np.ndarray, idx: np.ndarray) -> np.ndarray:
    """Return the labels (u,) that outputs (u, classes) of words predict.

    `idx` (u,) are their examples, whose words stand together. A span is the one with the largest
    product of its start's and its end's probability.
    """
    if not task.grouped:
        return outputs.argmax(axis=1)
    labels = np.zeros(len(outputs), dtype=np.int64)
    for first, last in _ranges(idx):
        start, end = best_span(*outputs[first:last].T)
        labels[first + start] |= START
        labels[first + end] |= END
    return labels


def best_span(starts: np.ndarray, ends: np.ndarray) -> tuple[int, int]:
    """Return the first and last word of the span with the largest product of two probabilities.

    `starts` and `ends` are (words,); a span has at most `LONGEST` words.
    """
    # The best start of every end is the largest of the last LONGEST ones.
    best, product = (0, 0), -1.0
    for end, probability in enumerate(ends):
        first = max(0, end + 1 - LONGEST)
        start = first + int(starts[first : end + 1].argmax())
        if starts[start] * probability > product:
            best, product = (start, end), starts[start] * probability
    return best


def counts(
    task: Task, metric: str, predictions: np.ndarray, labels: np.ndarray, idx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's share in a metric's numerator and denominator, (n,) each.

    `predictions` and `labels` (u,) are of words, or scores and labels of candidates; `idx` (u,) are
    their examples, or questions.
    """
    if task.ranks:
        rank = ranks(idx, predictions, labels == task.positive_label)
        shares = (rank == 1).astype(float) if metric == "top" else 1 / rank
        return shares, np.ones(len(rank))
    known = {"entity_f1": _entities, "accuracy": _words, "exact_match": _exact}
    count = known.get(metric, _overlap)
    pairs = [
        count(task.labels, predictions[first:last].astype(int), labels[first:last].astype(int))
        for first, last in _ranges(idx)
    ]
    return tuple(np.array(pairs, dtype=float).T)


def ranks(groups: np.ndarray, scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the rank (from 1) of each question's right candidate; ties have their worst rank."""
    worst = pd.Series(scores).groupby(groups).rank(ascending=False, method="max")
    return worst.to_numpy()[right]


def _ranges(idx: np.ndarray) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.r_[True, np.diff(idx) != 0])
    return list(zip(starts, [*starts[1:], len(idx)], strict=True))


def _entities(
    tags: Sequence[str], predictions: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    from seqeval.metrics.sequence_labeling import get_entities  # brings scikit-learn, a second

    found, true = (set(get_entities([tags[one] for one in many])) for many in (predictions, labels))
    return 2 * len(found & true), len(found) + len(true)


def _words(tags: Sequence[str], predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    return (predictions == labels).sum(), len(labels)


def span_of(labels: np.ndarray) -> tuple[int, int]:
    """Return the first and last word of the span that labels (words,) mark."""
    return int((labels & START).argmax()), int((labels & END).argmax())


def _exact(_: Sequence[str], predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    return span_of(predictions) == span_of(labels), 1


def _overlap(_: Sequence[str], predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    (start, end), (first, last) = span_of(predictions), span_of(labels)
    shared = max(0, min(end, last) + 1 - max(start, first))
    return 2 * shared / (end - start + last - first + 2), 1
