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
            description=self.__doc__, citation="", inputs_description="predictions and references, one number an example",
            features=datasets.Features({"predictions": datasets.Value(dtype), "references": datasets.Value(dtype)}),
        )  # fmt: skip

    def _compute(self, predictions, references):
        predictions, references = np.asarray(predictions), np.asarray(references)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy and scikit-learn warn of constant input; the note says it instead
            value = float(self._value(predictions, references))
        result = {self.name: 0.0 if np.isnan(value) else 100 * value}
        correlation = self.name in ("matthews", "pearson", "spearman")
        if correlation and np.isnan(predictions).any():
            result["note"] = f"{self.name} is reported as 0: a prediction is not a number"
        elif correlation and np.ptp(predictions) == 0:
            result["note"] = f"{self.name} is reported as 0: all {len(predictions)} predictions are the same"
        elif correlation and np.ptp(references) == 0:
            result["note"] = f"{self.name} is reported as 0: all {len(references)} labels are the same"
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


_METRICS = {"accuracy": Accuracy, "f1": F1, "matthews": Matthews, "pearson": Pearson, "spearman": Spearman}


@cache
def load(name: str) -> evaluate.Metric:
    """The metric of that name; `.compute(predictions=…, references=…)` gives {name: percent[, 'note': …]}."""
    metric = _METRICS[name](cache_dir=tempfile.gettempdir(), keep_in_memory=True)
    metric.info.metric_name = name
    return metric


def score(task: Task, outputs: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], list[str]]:
    """The task's metrics in percent, and notes on figures that had to be put at 0.

    `outputs` (n, classes) are probabilities or logits, or (n, 1) scores of a regression; `labels` (n,).
    """
    predictions = outputs[:, 0] if task.regression else outputs.argmax(axis=1)
    values, notes = {}, []
    for name in task.metrics:
        result = load(name).compute(predictions=predictions, references=labels)
        values[name] = result[name]
        if "note" in result:
            notes.append(f"{task.title}: {result['note']}")
    return values, notes


def intervals(task: Task, outputs: np.ndarray, labels: np.ndarray, draws: int = 500) -> dict[str, tuple[float, float]]:
    """The task's metrics' 95 % intervals in percent: a bootstrap over examples (percentiles of `draws` resamples, a fixed seed)."""
    predictions = outputs[:, 0] if task.regression else outputs.argmax(axis=1)
    random, found = np.random.default_rng(0), {name: [] for name in task.metrics}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample of one class, or of constant scores
        for _ in range(draws):
            rows = random.integers(len(labels), size=len(labels))
            for name, values in found.items():
                values.append(np.nan_to_num(100 * float(load(name)._value(predictions[rows], labels[rows]))))
    return {name: tuple(np.percentile(values, [2.5, 97.5])) for name, values in found.items()}
