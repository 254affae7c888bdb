"""The figures published for MT-DNN_KD (Liu et al. 2019, arXiv:1904.09482): Tables 1, 2 and 3.

Numbers are strings, as printed; a cell of two numbers is split by a slash. Averages and gains are
computed from them.
"""

from pathlib import Path

import pandas as pd

SOURCE = "Liu et al. 2019, arXiv:1904.09482"
TEACHERS = ("mnli", "qqp", "rte", "qnli")  # section 4.1

# Table 3's tasks in its order.
TASKS = ("mnli", "qqp", "rte", "qnli", "mrpc", "cola", "sst2", "stsb")
FOLDER = Path(__file__).with_name("published_tables")


def read(name: str) -> pd.DataFrame:
    """Return a table of `published_tables/` as text, its first column as the index."""
    return pd.read_csv(FOLDER / f"{name}.csv", dtype=str, na_filter=False, index_col=0)


def table1() -> pd.DataFrame:
    """Return Table 1 by task: corpus, kind of task, sizes as printed ('8.5k'), labels, metrics."""
    return read("table1")


def table2() -> pd.DataFrame:
    """Return Table 2 by model: test scores in percent as printed; '-' where the paper has none.

    QQP and MRPC are F1/accuracy, STS-B is Pearson/Spearman.
    """
    return read("table2")


def table3(accuracy_first: bool = False) -> pd.DataFrame:
    """Return Table 3 by system: dev scores in percent as printed.

    QQP is accuracy/F1 there but MRPC is F1/accuracy, as its agreement with Table 2 shows;
    `accuracy_first` reverses MRPC's.
    """
    frame = read("table3")
    if accuracy_first:
        frame["mrpc"] = ["/".join(reversed(cell.split("/"))) for cell in frame["mrpc"]]
    return frame


def scores() -> pd.DataFrame:
    """Return a score per system and task of Table 3 (percent): the mean of a cell's numbers."""
    return table3().map(lambda cell: sum(map(float, cell.split("/"))) / len(cell.split("/")))


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


def size(task: str) -> float:
    """Return a task's training examples by Table 1 ('8.5k' is 8500); NaN for other tasks."""
    text = table1()["train"].get(task, "nan")
    return float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
