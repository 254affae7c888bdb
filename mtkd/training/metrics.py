"""GLUE's metrics in percent: by `evaluate`, and of many resamples at once by NumPy."""

from __future__ import annotations

import tempfile
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mtkd.tasks import Task
from mtkd.training.word_metrics import counts, decode

if TYPE_CHECKING:
    import evaluate


@cache
def load(name: str) -> evaluate.Metric:
    """Return the metric; `.compute(predictions=…, references=…)` gives {name: percent}."""
    from mtkd.training.glue_metric import GlueMetric  # seconds that a prediction need not wait

    return GlueMetric(config_name=name, cache_dir=tempfile.gettempdir(), keep_in_memory=True)


def score(
    task: Task, outputs: np.ndarray, labels: np.ndarray, idx: np.ndarray | None = None
) -> tuple[dict[str, float], list[str]]:
    """Return the task's metrics in percent, and notes on correlations that had to be put at 0.

    `outputs` are probabilities or logits (n, classes), or scores (n, 1); `labels` (n,). With a
    label for each word, n is the number of words, and `idx` (n,) are their examples; in a ranking
    they are candidates and their questions. Texts are compared with the correct ones before that
    (`mtkd.training.generate`).
    """
    predictions, values = predicted(task, outputs, idx), {}
    if task.clustered:
        parts = {name: counts(task, name, predictions, labels, idx) for name in task.metrics}
        return {name: 100 * ratio(*sums) for name, sums in parts.items()}, []
    if task.generates:
        return {name: 100 * predictions.mean() for name in task.metrics}, []
    for name in task.metrics:
        values |= load(name).compute(predictions=predictions, references=labels)
    if np.isnan(predictions).any():
        reason = "a prediction is not a number"
    elif np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        what = "labels" if np.ptp(predictions) else "predictions"
        reason = f"all {len(labels)} {what} are the same"
    else:
        return values, []
    undefined = [name for name in task.metrics if name not in ("accuracy", "f1")]
    return values, [f"{task.title}: {name} is reported as 0: {reason}" for name in undefined]


def ratio(above: np.ndarray, below: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the ratio of two sums over examples (n, ...), 0 where the second is 0.

    With `weights` (draws, n), it is of each resample.
    """
    weights = np.ones(len(above)) if weights is None else weights
    above, below = weights @ above, weights @ below
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def predicted(task: Task, outputs: np.ndarray, idx: np.ndarray | None = None) -> np.ndarray:
    """Return classes (n,) of outputs (n, classes), or the scores (n,) of a regression or ranking.

    `idx` (n,) are the examples of the words in a task with a label for each. Of texts it is the
    first column, their ROUGE-L.
    """
    if task.by_word:
        return decode(task, outputs, idx)
    first = task.num_outputs == 1 or task.generates
    return outputs[:, 0] if first else outputs.argmax(axis=1)


def intervals(
    task: Task,
    outputs: np.ndarray,
    labels: np.ndarray,
    idx: np.ndarray | None = None,
    draws: int = 500,
) -> dict[str, tuple[float, float]]:
    """Return the metrics' 95 % intervals in percent, by a bootstrap over examples.

    Percentiles of `draws` resamples from a fixed seed; arguments as of `score`.
    """
    size = len(np.unique(idx)) if task.clustered else len(labels)
    weights = resamples(size, draws, np.random.default_rng(0))
    predictions = predicted(task, outputs, idx)[:, None]
    values = {
        name: resampled(task, name, weights, predictions, labels, idx) for name in task.metrics
    }
    return {name: tuple(np.percentile(drawn, [2.5, 97.5])) for name, drawn in values.items()}


def resamples(examples: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """Draw how often each example is in each resample with replacement: integers (draws, n)."""
    return random.multinomial(examples, np.full(examples, 1 / examples), size=draws)


def resampled(
    task: Task,
    name: str,
    weights: np.ndarray,
    predictions: np.ndarray,
    labels: np.ndarray,
    idx: np.ndarray | None = None,
) -> np.ndarray:
    """Return a metric of many resamples at once (draws, systems): what `score` gives for each.

    `weights` (draws, n) says how often an example is in a resample; `predictions` (n, systems) are
    classes or scores, `labels` (n,). Where an example has several labels, these and `idx`, as in
    `score`, have a row for each.
    """
    if not task.clustered:
        return weighted(name, weights, predictions, labels)
    systems = [counts(task, name, column, labels, idx) for column in predictions.T]
    above, below = (np.stack(sums, axis=1) for sums in zip(*systems, strict=True))
    return 100 * ratio(above, below, weights)


def weighted(
    name: str, weights: np.ndarray, predictions: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Return a metric of GLUE's of many resamples at once; see `resampled`."""
    weights, truth = np.asarray(weights, dtype=float), labels[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "accuracy":
            value = weights @ (predictions == truth) / weights.sum(axis=1, keepdims=True)
        elif name == "f1":
            hits = weights @ ((predictions == 1) & (truth == 1))
            value = 2 * hits / (weights @ (predictions == 1) + weights @ (truth == 1))
        elif name == "rouge_l":
            value = weights @ predictions / weights.sum(axis=1, keepdims=True)
        elif name == "matthews":
            value = _matthews(weights, predictions, truth)
        else:
            value = _correlations(weights, predictions, labels, ranked=name == "spearman")
            value[:, np.isnan(predictions).any(axis=0)] = np.nan
    return 100 * np.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)


def _matthews(weights: np.ndarray, predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Matthews correlation of several classes, R_K (Gorodkin 2004): (draws, systems)."""
    size = weights.sum(axis=1, keepdims=True)
    classes = np.union1d(predictions, truth)
    counts = [(weights @ (predictions == k), weights @ (truth == k)) for k in classes]
    joint = size * (weights @ (predictions == truth)) - sum(p * t for p, t in counts)
    spread_predicted = size**2 - sum(p**2 for p, _ in counts)
    spread_true = size**2 - sum(t**2 for _, t in counts)
    return joint / np.sqrt(spread_predicted * spread_true)


def _correlations(
    weights: np.ndarray, predictions: np.ndarray, labels: np.ndarray, ranked: bool
) -> np.ndarray:
    """Pearson's correlation, of ranks within each resample if `ranked`: (draws, systems)."""
    blocks = []
    # So few resamples at a time that they stay in a processor's cache.
    for block in np.array_split(weights, -(-len(weights) // 64)):
        block = np.ascontiguousarray(block.T)
        truth = _centred(block, labels, ranked)
        columns = (_centred(block, column, ranked) for column in predictions.T)
        blocks.append([_correlation(block, column, truth) for column in columns])
    return np.concatenate(blocks, axis=1).T


def _centred(weights: np.ndarray, values: np.ndarray, ranked: bool) -> np.ndarray:
    """Scores (n, 1), or ranks in each resample (n, draws) with ties at their mean, about 0."""
    if not ranked:
        return values[:, None] - values.mean(dtype=float)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    tied = weights[order] if len(starts) == len(values) else np.add.reduceat(weights[order], starts)
    ranks = np.cumsum(tied, axis=0) - tied / 2 - weights.sum(axis=0) / 2
    group = np.empty(len(values), dtype=int)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    return ranks[group]


def _correlation(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Weighted correlation (draws,) of two variables (n, 1 or draws); NaN where one is constant."""

    def total(values: np.ndarray) -> np.ndarray:
        if values.shape[1] == 1:
            return values[:, 0] @ weights
        return np.einsum("nd,nd->d", weights, values)

    size, x, y = weights.sum(axis=0), total(first), total(second)
    xx, yy = total(first**2), total(second**2)
    spread_x, spread_y = xx - x**2 / size, yy - y**2 / size
    value = (total(first * second) - x * y / size) / np.sqrt(np.abs(spread_x * spread_y))
    return np.where((spread_x <= 1e-12 * xx) | (spread_y <= 1e-12 * yy), np.nan, value)
