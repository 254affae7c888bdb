"""The synthetic suite: nine GLUE-shaped tasks and AX, generated from a seed by a small grammar.

It lets a whole study run without a network. Its tasks are related as GLUE's are (a tiny RTE beside
a large MNLI, a tiny MRPC beside a large QQP) and depend on word order, word relations or negation,
so that a bag of words does not solve them. Scores on it say nothing about English.
"""

from random import Random

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from mtkd import tasks
from mtkd.data.synthetic.examples import example_stream, text

__all__ = ["LAYOUT", "VERSION", "generate", "text"]

VERSION = "2"  # of the generated rows and text: raise it with every change to either
SMALLEST = 16  # examples of a train or dev set


def _sizes(train: int, dev: int, test: int = 200) -> dict[str, int]:
    return {"train": train, "validation": dev, "test": test}


# {task: {split: examples at scale 1}}: the ratios of Table 1 (MT-DNN_KD), compressed.
LAYOUT: dict[str, dict[str, int]] = {
    "cola": _sizes(900, 400),
    "sst2": _sizes(1600, 400),
    "mrpc": _sizes(400, 300),
    "stsb": _sizes(600, 300),
    "qqp": _sizes(2600, 500),
    "mnli": {"train": 3000, "validation_matched": 500, "validation_mismatched": 400}
    | {"test_matched": 200, "test_mismatched": 200},
    "qnli": _sizes(1600, 400),
    "rte": _sizes(250, 277),
    "wnli": _sizes(80, 71, test=80),
    "ax": {"test": 200},
}


def generate(seed: int = 0, scale: float = 1.0) -> dict[str, DatasetDict]:
    """Return the suite by task name, in the columns, labels and splits of the hub's `nyu-mll/glue`.

    `scale` multiplies the sizes of train and dev sets (never below 16 examples); test labels are
    -1. Within a task no text or pair of texts occurs twice, across all splits. The same seed and
    scale give the same rows on every machine.
    """
    suite = {}
    for name, sizes in LAYOUT.items():
        task, seen = tasks.get(name), set()
        label = Value("float32") if task.regression else ClassLabel(names=list(task.labels))
        texts = {column: Value("string") for column in task.columns}
        features = Features({**texts, "label": label, "idx": Value("int32")})
        suite[name] = splits = DatasetDict()
        for split, size in sizes.items():
            test = split.startswith("test")
            size = size if test else max(SMALLEST, round(size * scale))
            rows = _split(name, split, size, seed, seen)
            *columns, labels = map(list, zip(*rows, strict=True))
            data = dict(zip(task.columns, columns, strict=True))
            data |= {"label": [-1] * size if test else labels, "idx": list(range(size))}
            splits[split] = Dataset.from_dict(data, features=features)
    return suite


def _split(task: str, split: str, size: int, seed: int, seen: set[tuple]) -> list[tuple]:
    """Return `size` examples of every class whose texts are not in `seen`, which grows."""
    # A string seeds Random by its SHA-512, the same on every machine.
    classes = len(tasks.get(task).labels)
    stream = example_stream(task, split, classes, Random(f"{seed}/{task}/{split}"))
    rows: list[tuple] = []
    for *texts, label in stream:
        if tuple(texts) in seen:
            continue
        seen.add(tuple(texts))
        rows.append((*texts, label))
        if len(rows) == size:
            if not classes or len({row[-1] for row in rows}) == classes:
                break
            rows.pop(0)
    return rows
