"""The figures published for MT-DNN_KD (Liu et al. 2019, arXiv:1904.09482): Tables 1, 2 and 3, word for word.

Numbers are strings, as printed; cells of two numbers are split by a slash. Everything else (re-ordering, averages,
gains) is computed from them.
"""

import pandas as pd

SOURCE = "Liu et al. 2019, arXiv:1904.09482"
TEACHERS = ("mnli", "qqp", "rte", "qnli")  # section 4.1

# Table 3's tasks in its order; WNLI, which it lacks, stands behind them in our tables.
TASKS = ("mnli", "qqp", "rte", "qnli", "mrpc", "cola", "sst2", "stsb")

_TABLE1 = """\
cola|CoLA|Acceptability|8.5k|1k|1k|2|Matthews corr
sst2|SST-2|Sentiment|67k|872|1.8k|2|Accuracy
mnli|MNLI|NLI|393k|20k|20k|3|Accuracy
rte|RTE|NLI|2.5k|276|3k|2|Accuracy
wnli|WNLI|NLI|634|71|146|2|Accuracy
qqp|QQP|Paraphrase|364k|40k|391k|2|Accuracy/F1
mrpc|MRPC|Paraphrase|3.7k|408|1.7k|2|Accuracy/F1
stsb|STS-B|Similarity|7k|1.5k|1.4k|1|Pearson/Spearman corr
qnli|QNLI|QA/NLI|108k|5.7k|5.7k|2|Accuracy
"""

# Here QQP and MRPC are F1/accuracy, STS-B is Pearson/Spearman.
_TABLE2 = """\
model|cola|sst2|mrpc|stsb|qqp|mnli|qnli|rte|wnli|ax|score
BiLSTM+ELMo+Attn|36.0|90.4|84.9/77.9|75.1/73.3|64.8/84.7|76.4/76.1|79.8|56.8|65.1|26.5|70.0
Singletask Pretrain Transformer|45.4|91.3|82.3/75.7|82.0/80.0|70.3/88.5|82.1/81.4|87.4|56.0|53.4|29.8|72.8
GPT on STILTs|47.2|93.1|87.7/83.7|85.3/84.8|70.1/88.1|80.8/80.6|-|69.1|65.1|29.4|76.9
BERT-large|60.5|94.9|89.3/85.4|87.6/86.5|72.1/89.3|86.7/85.9|92.7|70.1|65.1|39.6|80.5
MT-DNN|61.5|95.6|90.0/86.7|88.3/87.7|72.4/89.6|86.7/86.0|-|75.5|65.1|40.3|82.2
Snorkel MeTaL|63.8|96.2|91.5/88.5|90.1/89.7|73.1/89.9|87.6/87.2|93.9|80.9|65.1|39.9|83.2
ALICE|63.5|95.2|91.8/89.0|89.8/88.8|74.0/90.4|87.9/87.4|95.7|80.9|65.1|40.7|83.3
MT-DNN_KD|65.4|95.6|91.1/88.2|89.6/89.0|72.7/89.6|87.5/86.7|96.0|85.1|65.1|42.8|83.7
Human Performance|66.4|97.8|86.3/80.8|92.7/92.6|59.5/80.4|92.0/92.8|91.2|93.6|95.9|-|87.1
"""

# Here QQP is accuracy/F1 but MRPC is F1/accuracy: its numbers agree with Table 2's F1/accuracy only in that order.
_TABLE3 = """\
system|mnli|qqp|rte|qnli|mrpc|cola|sst2|stsb
bert|86.3/86.2|91.1/88.0|71.1|92.4|89.5/85.8|61.8|93.5|89.6/89.3
mt-dnn|87.1/86.7|91.9/89.2|83.4|92.9|91.0/87.5|63.5|94.3|90.7/90.6
mt-dnn-kd|87.3/87.3|91.9/89.4|88.6|93.2|93.3/90.7|64.5|94.3|91.0/90.8
mt-dnn-ensemble|88.1/87.9|92.5/90.1|86.7|93.5|93.4/91.0|64.5|94.7|92.1/91.6
"""


def _read(text: str, columns: list[str] | None = None) -> pd.DataFrame:
    rows = [line.split("|") for line in text.splitlines()]
    return (
        pd.DataFrame(rows, columns=columns) if columns else pd.DataFrame(rows[1:], columns=rows[0])
    )


def table1() -> pd.DataFrame:
    """Table 1 by task: corpus, task, train, dev, test (as printed, such as '8.5k'), labels, metrics."""
    return _read(
        _TABLE1, ["task", "corpus", "about", "train", "dev", "test", "labels", "metrics"]
    ).set_index("task")


def table2() -> pd.DataFrame:
    """Table 2 by model, test scores in percent as printed; '-' where the paper has none."""
    return _read(_TABLE2).set_index("model")


def table3(accuracy_first: bool = False) -> pd.DataFrame:
    """Table 3 by system, dev scores in percent as printed; `accuracy_first` turns MRPC's F1/accuracy round."""
    frame = _read(_TABLE3).set_index("system")
    if accuracy_first:
        frame["mrpc"] = ["/".join(reversed(cell.split("/"))) for cell in frame["mrpc"]]
    return frame


def scores() -> pd.DataFrame:
    """A score a system and task of Table 3 (percent): the mean of a cell's numbers, as GLUE averages them."""
    return table3().map(lambda cell: sum(map(float, cell.split("/"))) / len(cell.split("/")))


def gains() -> pd.DataFrame:
    """By task and on 'average': points that MT-DNN_KD (`gain`) and the ensemble (`ensemble_gain`) have over MT-DNN.

    `kept` is the share of the ensemble's gain that the student keeps: gain / ensemble_gain.
    """
    by_system = scores()
    frame = pd.DataFrame(
        {
            "gain": by_system.loc["mt-dnn-kd"] - by_system.loc["mt-dnn"],
            "ensemble_gain": by_system.loc["mt-dnn-ensemble"] - by_system.loc["mt-dnn"],
        }
    )
    frame.loc["average"] = frame.mean()
    frame["kept"] = (frame["gain"] / frame["ensemble_gain"]).where(frame["ensemble_gain"] > 1e-9)
    return frame


def size(task: str) -> float:
    """Train examples of a task by Table 1 ('8.5k' is 8500); NaN for a task that it lacks."""
    frame = table1()
    if task not in frame.index:
        return float("nan")
    text = frame.loc[task, "train"]
    return float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
