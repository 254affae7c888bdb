"""Published figures of models as small as MKD's students, as their sources print them.

None is MKD's. A cell of two numbers keeps its source's order, which the row's source gives.
"""

import pandas as pd

from mtkd.report import published
from mtkd.report.table import NONE, Table

SOURCES = {
    "a": "Turc et al. 2019 (arXiv:1908.08962), GLUE test by google-research/bert's README; QQP and "
    "MRPC as F1/accuracy, STS-B as Pearson/Spearman",
    "b": "Jiao et al. 2019, TinyBERT (arXiv:1909.10351), Table 1; QQP and MRPC as F1; TinyBERT "
    "with data augmentation",
    "c": "Tang et al. 2019 (arXiv:1903.12136), as a literature review quotes it; QQP as "
    "F1/accuracy; with data augmentation",
    "d": "PaddleNLP, examples/model_compression/distill_lstm; QQP as accuracy/F1; with data "
    "augmentation; rounded here",
}


def frame() -> pd.DataFrame:
    """Return the figures as text; '-' where the source has none."""
    return published.read("small_models").reset_index()


def table() -> Table:
    """Return the figures with their sources."""
    scale = "For scale only: other data, splits and teachers, and none of them is MKD's."
    notes = [scale, *(f"{key}: {text}." for key, text in SOURCES.items())]
    caption = "Published neighbours, percent"
    return Table("published_small", caption, frame().replace("-", NONE), notes)
