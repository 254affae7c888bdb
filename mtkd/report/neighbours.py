"""Published figures of models as small as MKD's students, word for word as their sources print them. None is MKD's.

A cell of two numbers keeps its source's order, which its row's source gives.
"""

import pandas as pd

from mtkd.report.table import NONE, Table

_ROWS = """\
BERT-Tiny (2/128)|test|-|70.2/70.3|62.2/83.4|81.5|83.2|0.0|74.3/73.6|81.1/71.1|57.2|a
BERT-Mini (4/256)|test|-|74.8/74.3|66.4/86.2|84.1|85.9|0.0|75.4/73.3|81.1/71.8|57.9|a
BERT-Small (4/512)|test|-|77.6/77.0|68.1/87.0|86.4|89.7|27.8|78.8/77.0|83.4/76.2|61.8|a
BERT-Medium (8/512)|test|-|80.0/79.1|69.6/87.9|87.7|89.6|38.0|80.4/78.4|86.6/81.6|62.2|a
BERT-base (TinyBERT's teacher)|test|109M|83.9/83.4|71.1|90.9|93.4|52.8|85.2|87.5|67.0|b
BERT4-PKD|test|52.2M|79.9/79.3|70.2|85.1|89.4|24.8|79.8|82.6|62.3|b
DistilBERT4|test|52.2M|78.9/78.0|68.5|85.2|91.4|32.8|76.1|82.4|54.1|b
MobileBERT_TINY|test|15.1M|81.5/81.6|68.9|89.5|91.7|46.7|80.1|87.9|65.1|b
TinyBERT4|test|14.5M|82.5/81.8|71.3|87.7|92.6|44.1|80.4|86.4|66.6|b
BiLSTM|test|-|68.7/68.3|63.7/86.2|-|86.7|-|-|-|-|c
Distilled BiLSTM|test|0.96M|73.0/72.6|68.2/88.1|-|90.7|-|-|-|-|c
Bi-LSTM|dev|-|-|85.7/80.0|-|85.4|-|-|-|-|d
Distilled Bi-LSTM|dev|-|-|87.5/83.1|-|88.8|-|-|-|-|d
"""

SOURCES = {
    "a": "Turc et al. 2019 (arXiv:1908.08962), GLUE test by google-research/bert's README; QQP and MRPC as F1/accuracy, STS-B as "
    "Pearson/Spearman",
    "b": "Jiao et al. 2019, TinyBERT (arXiv:1909.10351), Table 1; QQP and MRPC as F1; TinyBERT with data augmentation",
    "c": "Tang et al. 2019 (arXiv:1903.12136), as a literature review quotes it; QQP as F1/accuracy; with data augmentation",
    "d": "PaddleNLP, examples/model_compression/distill_lstm; QQP as accuracy/F1; with data augmentation; rounded here",
}
COLUMNS = [
    "Model (published)",
    "Split",
    "Params",
    "MNLI-m/mm",
    "QQP",
    "QNLI",
    "SST-2",
    "CoLA",
    "STS-B",
    "MRPC",
    "RTE",
    "Source",
]


def frame() -> pd.DataFrame:
    """The figures as text, '-' where the source has none."""
    return pd.DataFrame([line.split("|") for line in _ROWS.splitlines()], columns=COLUMNS)


def table() -> Table:
    notes = [
        "Published by others, on all of GLUE; none is MKD's, whose figures were not at hand. They stand for scale: other data, other "
        "splits, other teachers.",
        *(f"{key}: {text}." for key, text in SOURCES.items()),
    ]
    return Table(
        "published_small", "Published neighbours, percent", frame().replace("-", NONE), notes
    )
