"""Figures as published, from `published_tables/`: those of MT-DNN_KD (Liu et al. 2019,
arXiv:1904.09482), and those of models as small as MKD's students.

Numbers are strings, as printed; a cell of two numbers is split by a slash, and '-' is a figure that
the source lacks. Averages and gains are computed from them.
"""

from pathlib import Path

import pandas as pd

SOURCE = "Liu et al. 2019, arXiv:1904.09482"
TEACHERS = ("mnli", "qqp", "rte", "qnli")  # section 4.1
TASKS = ("mnli", "qqp", "rte", "qnli", "mrpc", "cola", "sst2", "stsb")  # of Table 3


def read(name: str) -> pd.DataFrame:
    """Return a table as text, its first column as the index.

    `table3` holds dev scores by system, QQP and MRPC as accuracy/F1 (the paper prints MRPC the
    other way round); `small_models` scores with their sources, none of them MKD's.
    """
    path = Path(__file__).with_name("published_tables") / f"{name}.csv"
    return pd.read_csv(path, dtype=str, na_filter=False, index_col=0)


def scores() -> pd.DataFrame:
    """Return a score per system and task of Table 3 (percent): the mean of a cell's numbers."""
    return read("table3").map(lambda cell: sum(map(float, cell.split("/"))) / len(cell.split("/")))


def gains() -> pd.DataFrame:
    """Return, by task and on 'average', the points that systems have over MT-DNN.

    Columns: `gain` of MT-DNN_KD, `ensemble_gain`, and `kept` = gain / ensemble_gain where that is
    above zero.
    """
    over = scores() - scores().loc["mt-dnn"]
    frame = over.loc[["mt-dnn-kd", "mt-dnn-ensemble"]].T
    frame.columns = ["gain", "ensemble_gain"]
    frame.loc["average"] = frame.mean()
    frame["kept"] = (frame["gain"] / frame["ensemble_gain"]).where(frame["ensemble_gain"] > 1e-9)
    return frame
