"""GLUE's metrics by `evaluate`, scikit-learn and SciPy."""

import warnings

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn import metrics as sk

FUNCTIONS = {  # of labels and predictions
    "accuracy": sk.accuracy_score,
    "f1": lambda labels, predictions: sk.f1_score(labels, predictions, zero_division=0),
    "matthews": sk.matthews_corrcoef,
    "pearson": lambda labels, scores: stats.pearsonr(scores, labels).statistic,
    "spearman": lambda labels, scores: stats.spearmanr(scores, labels).statistic,
}


class GlueMetric(evaluate.Metric):
    """The metric named by `config_name`, as in `evaluate`'s "glue", which needs the network."""

    def _info(self) -> evaluate.MetricInfo:
        dtype = "float64" if self.config_name in ("pearson", "spearman") else "int64"
        columns = {name: datasets.Value(dtype) for name in ("predictions", "references")}
        features = datasets.Features(columns)
        return evaluate.MetricInfo("Percent; 0 where it is undefined.", "", features=features)

    def _compute(self, predictions, references) -> dict[str, float]:
        with warnings.catch_warnings(action="ignore"):  # of constant input
            value = float(FUNCTIONS[self.config_name](references, predictions))
        return {self.config_name: 0.0 if np.isnan(value) else 100 * value}
