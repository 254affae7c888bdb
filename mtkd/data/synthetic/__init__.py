"""The synthetic suite: nine GLUE-shaped tasks and AX, made from a seed by a small grammar with a world model behind it.

It lets the whole study run without a network. Its tasks are related as GLUE's are (a tiny RTE beside a large MNLI, a
tiny MRPC beside a large QQP) and need word order, word relations or negation, so a bag of words does not solve them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from . import pairs, singles
from .corpus import text
from .world import MATCHED, MISMATCHED

__all__ = ["generate", "text"]

_EVERYWHERE = MATCHED | MISMATCHED
_NLI = ["entailment", "neutral", "contradiction"]
_QA = ["entailment", "not_entailment"]
# task: text columns, label names (None: a score), {split: examples at scale 1}. Table 1's ratios, compressed.
LAYOUT: dict[str, tuple[list[str], list[str] | None, dict[str, int]]] = {
    "cola": (
        ["sentence"],
        ["unacceptable", "acceptable"],
        {"train": 900, "validation": 400, "test": 200},
    ),
    "sst2": (
        ["sentence"],
        ["negative", "positive"],
        {"train": 1600, "validation": 400, "test": 200},
    ),
    "mrpc": (
        ["sentence1", "sentence2"],
        ["not_equivalent", "equivalent"],
        {"train": 400, "validation": 300, "test": 200},
    ),
    "stsb": (["sentence1", "sentence2"], None, {"train": 600, "validation": 300, "test": 200}),
    "qqp": (
        ["question1", "question2"],
        ["not_duplicate", "duplicate"],
        {"train": 2600, "validation": 500, "test": 200},
    ),
    "mnli": (
        ["premise", "hypothesis"],
        _NLI,
        {
            "train": 3000,
            "validation_matched": 500,
            "validation_mismatched": 400,
            "test_matched": 200,
            "test_mismatched": 200,
        },
    ),
    "qnli": (["question", "sentence"], _QA, {"train": 1600, "validation": 400, "test": 200}),
    "rte": (["sentence1", "sentence2"], _QA, {"train": 250, "validation": 277, "test": 200}),
    "wnli": (
        ["sentence1", "sentence2"],
        ["not_entailment", "entailment"],
        {"train": 80, "validation": 71, "test": 80},
    ),
    "ax": (["premise", "hypothesis"], _NLI, {"test": 200}),
}
_SMALLEST = 16


def _maker(task: str, split: str, rng: Random) -> Iterator[tuple]:
    """The endless stream of a task's examples, ``(text, ..., label)``."""
    if task == "sst2":
        return singles.sst2(rng)
    topics = _EVERYWHERE
    if task == "mnli":
        topics = MISMATCHED if "mismatched" in split else MATCHED
    make: Callable = singles.cola if task == "cola" else getattr(pairs, task)
    return make(rng, topics)


def _split(task: str, split: str, size: int, seed: int, seen: set[tuple]) -> list[tuple]:
    """``size`` examples whose texts are not in ``seen`` (which grows), with every class among them."""
    # A string seeds Random by its SHA-512, the same on every machine.
    stream = _maker(task, split, Random(f"{seed}/{task}/{split}"))
    names = LAYOUT[task][1]
    rows: list[tuple] = []
    while True:
        for *texts, label in stream:
            key = tuple(texts)
            if key in seen:
                continue
            seen.add(key)
            rows.append((*texts, label))
            if len(rows) >= size:
                break
        if names is None or len({row[-1] for row in rows}) == len(names):
            return rows
        rows.pop(0)


def generate(seed: int = 0, scale: float = 1.0) -> dict[str, DatasetDict]:
    """The suite by task name, with the columns, label names and splits of the hub's ``nyu-mll/glue``.

    ``scale`` multiplies the sizes of train and dev sets (never below 16 examples); test labels are -1. Within a task
    no text or pair of texts occurs twice, in whatever split. The same seed and scale give the same rows on every
    machine.
    """
    suite = {}
    for task, (columns, names, sizes) in LAYOUT.items():
        label = Value("float32") if names is None else ClassLabel(names=names)
        features = Features(
            {**{c: Value("string") for c in columns}, "label": label, "idx": Value("int32")}
        )
        seen: set[tuple] = set()
        splits = DatasetDict()
        for split, size in sizes.items():
            test = split.startswith("test")
            size = size if test else max(_SMALLEST, round(size * scale))
            rows = _split(task, split, size, seed, seen)
            data = dict(zip(columns, zip(*rows, strict=True), strict=False))
            data["label"] = [-1 if test else row[-1] for row in rows]
            data["idx"] = range(size)
            splits[split] = Dataset.from_dict(
                {name: list(values) for name, values in data.items()}, features=features
            )
        suite[task] = splits
    return suite
