"""GLUE's metrics as `evaluate.Metric`s that need no network, over scikit-learn and scipy."""

import tempfile
import warnings
from functools import cache

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn import metrics as sk

from mtkd.tasks import Task


class _GlueMetric(evaluate.Metric):
    """One figure in percent under the metric's name, and `note` where it had to be put at 0."""

    integers = True

    def _info(self):
        dtype = "int64" if self.integers else "float64"
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions and references, one number an example",
            features=datasets.Features(
                {"predictions": datasets.Value(dtype), "references": datasets.Value(dtype)}
            ),
        )

    def _compute(self, predictions, references):
        predictions, references = np.asarray(predictions), np.asarray(references)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # scipy and scikit-learn warn of constant input; the note says it instead
            value = float(self._value(predictions, references))
        result = {self.name: 0.0 if np.isnan(value) else 100 * value}
        correlation = self.name in ("matthews", "pearson", "spearman")
        if correlation and np.isnan(predictions).any():
            result["note"] = f"{self.name} is reported as 0: a prediction is not a number"
        elif correlation and np.ptp(predictions) == 0:
            result["note"] = (
                f"{self.name} is reported as 0: all {len(predictions)} predictions are the same"
            )
        elif correlation and np.ptp(references) == 0:
            result["note"] = (
                f"{self.name} is reported as 0: all {len(references)} labels are the same"
            )
        return result


class Accuracy(_GlueMetric):
    """Share of right predictions."""

    def _value(self, predictions, references):
        return sk.accuracy_score(references, predictions)


class F1(_GlueMetric):
    """Harmonic mean of precision and recall of class 1."""

    def _value(self, predictions, references):
        return sk.f1_score(references, predictions, zero_division=0)


class Matthews(_GlueMetric):
    """Matthews correlation coefficient."""

    def _value(self, predictions, references):
        return sk.matthews_corrcoef(references, predictions)


class Pearson(_GlueMetric):
    """Pearson's correlation of scores."""

    integers = False

    def _value(self, predictions, references):
        return stats.pearsonr(predictions, references).statistic


class Spearman(_GlueMetric):
    """Spearman's rank correlation of scores."""

    integers = False

    def _value(self, predictions, references):
        return stats.spearmanr(predictions, references).statistic


_METRICS = {
    "accuracy": Accuracy,
    "f1": F1,
    "matthews": Matthews,
    "pearson": Pearson,
    "spearman": Spearman,
}


@cache
def load(name: str) -> evaluate.Metric:
    """The metric of that name; `.compute(predictions=…, references=…)` gives {name: percent[, 'note': …]}."""
    metric = _METRICS[name](cache_dir=tempfile.gettempdir(), keep_in_memory=True)
    metric.info.metric_name = name
    return metric


def score(
    task: Task, outputs: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, float], list[str]]:
    """The task's metrics in percent, and notes on figures that had to be put at 0.

    `outputs` (n, classes) are probabilities or logits, or (n, 1) scores of a regression; `labels` (n,).
    """
    predictions, values, notes = predicted(task, outputs), {}, []
    for name in task.metrics:
        result = load(name).compute(predictions=predictions, references=labels)
        values[name] = result[name]
        if "note" in result:
            notes.append(f"{task.title}: {result['note']}")
    return values, notes


def weighted(
    name: str, weights: np.ndarray, predictions: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """The metric of many resamples of the same examples at once, in percent: exactly what `score` gives each, 0 where undefined.

    `weights` (draws, n) say how often an example is in a resample, `predictions` (n, systems) are classes or scores, `labels`
    (n,); returns (draws, systems). Accuracy, F1 and Matthews are worked out from weighted counts.
    """
    weights, labels = np.asarray(weights, dtype=float), labels[:, None]
    size = weights.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "accuracy":
            value = weights @ (predictions == labels) / size
        elif name == "f1":
            value = (
                2
                * (weights @ ((predictions == 1) & (labels == 1)))
                / (weights @ (predictions == 1) + weights @ (labels == 1))
            )
        elif name == "matthews":
            given, true = zip(
                *(
                    (weights @ (predictions == k), weights @ (labels == k))
                    for k in np.unique(labels)
                ),
                strict=True,
            )
            # A class that only a system names adds to the spread of its predictions alone.
            others = [weights @ (predictions == k) for k in np.setdiff1d(predictions, labels)]
            joint = size * (weights @ (predictions == labels)) - sum(
                g * t for g, t in zip(given, true, strict=True)
            )
            spread = (size**2 - sum(g**2 for g in (*given, *others))) * (
                size**2 - sum(t**2 for t in true)
            )
            value = joint / np.sqrt(spread)
        else:
            value = _correlations(weights, predictions, labels[:, 0], ranked=name == "spearman")
            value[:, np.isnan(predictions).any(axis=0)] = np.nan
    return 100 * np.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)


def _correlations(
    weights: np.ndarray, predictions: np.ndarray, labels: np.ndarray, ranked: bool
) -> np.ndarray:
    """Pearson's correlation of scores, or of their ranks within a resample: (draws, systems), NaN where one is constant."""
    blocks = []
    for part in np.array_split(
        weights, -(-len(weights) // 64)
    ):  # so few that they stay in a processor's cache
        part = np.ascontiguousarray(part.T)
        true = _centred(part, labels, ranked)
        blocks.append(
            [_correlation(part, _centred(part, column, ranked), true) for column in predictions.T]
        )
    return np.concatenate(blocks, axis=1).T


def _centred(weights: np.ndarray, values: np.ndarray, ranked: bool) -> np.ndarray:
    """Scores (n, 1), or their ranks in each resample (n, draws), equal ones sharing their mean rank; the mean is (near) 0."""
    if not ranked:
        return values[:, None] - values.mean(dtype=float)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    tied = weights[order] if len(starts) == len(values) else np.add.reduceat(weights[order], starts)
    ranks = np.cumsum(tied, axis=0) - tied / 2 - weights.sum(axis=0) / 2
    groups = np.empty(len(values), dtype=int)
    groups[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    return ranks[groups]


def _correlation(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of two variables (n, 1 or draws) under weights (n, draws): (draws,)."""

    def total(values: np.ndarray) -> np.ndarray:
        return (
            values[:, 0] @ weights
            if values.shape[1] == 1
            else np.einsum("nd,nd->d", weights, values)
        )

    size, sums, squares = (
        weights.sum(axis=0),
        (total(first), total(second)),
        (total(first**2), total(second**2)),
    )
    spreads = [square - part**2 / size for square, part in zip(squares, sums, strict=True)]
    constant = np.logical_or(
        *(spread <= 1e-12 * square for spread, square in zip(spreads, squares, strict=True))
    )
    return np.where(
        constant,
        np.nan,
        (total(first * second) - sums[0] * sums[1] / size)
        / np.sqrt(np.abs(spreads[0] * spreads[1])),
    )


def resamples(examples: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """How often an example is in each resample with replacement: (draws, examples), whole numbers."""
    return random.multinomial(examples, np.full(examples, 1 / examples), size=draws)


def intervals(
    task: Task, outputs: np.ndarray, labels: np.ndarray, draws: int = 500
) -> dict[str, tuple[float, float]]:
    """The task's metrics' 95 % intervals in percent: a bootstrap over examples (percentiles of `draws` resamples, a fixed seed)."""
    weights = resamples(len(labels), draws, np.random.default_rng(0))
    values = {
        name: weighted(name, weights, predicted(task, outputs)[:, None], labels)
        for name in task.metrics
    }
    return {name: tuple(np.percentile(found, [2.5, 97.5])) for name, found in values.items()}


def predicted(task: Task, outputs: np.ndarray) -> np.ndarray:
    """What `outputs` (n, classes or 1) say: classes, or a regression's scores (n,)."""
    return outputs[:, 0] if task.regression else outputs.argmax(axis=1)
