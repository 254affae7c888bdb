"""A trained model's answers to texts, as JSON lines: in the texts' order, in constant memory, with progress."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import datasets
import numpy as np
import torch
from tqdm import tqdm

from mtkd.data.dataset import Examples, encode
from mtkd.errors import UserError
from mtkd.inference.load import Trained
from mtkd.inference.reader import Row, Source
from mtkd.training.predict import predict, probabilities

ROWS, CHARACTERS = 1024, 2_000_000  # read ahead at most, so that texts of like length go together


def answers(trained: Trained, rows: list[Row]) -> list[dict]:
    """`label` and `probabilities` of each row, or `score` for a regression."""
    found = probabilities(trained.task, logits(trained, rows)).astype(float).round(6).tolist()
    if trained.task.regression:
        return [{"score": values[0]} for values in found]
    labels = trained.task.labels
    return [
        {
            "label": labels[int(np.argmax(values))],
            "probabilities": dict(zip(labels, values, strict=True)),
        }
        for values in found
    ]


def logits(trained: Trained, rows: list[Row]) -> np.ndarray:
    """Logits (n, classes), or scores (n, 1), of rows of texts."""
    return predict(trained.model, examples(trained, rows))


def examples(trained: Trained, rows: list[Row]) -> Examples:
    """Rows of texts, tokenised as in training."""
    pieces = encode(
        [list(texts) for texts in zip(*rows, strict=True)], trained.tokenizer, trained.max_length
    )
    split = datasets.Dataset.from_dict(
        {**pieces, "label": [0] * len(rows), "idx": range(len(rows))},
        features=datasets.Features(
            {
                "input_ids": datasets.List(datasets.Value("int32")),
                "segment_start": datasets.Value("int32"),
                "label": datasets.Value("int64"),
                "idx": datasets.Value("int64"),
            }
        ),
    )
    return Examples(trained.task, split, "", trained.tokenizer.pad_token_id)


def write(trained: Trained, source: Source, out: Path | None) -> int:
    """Answers every row of the source and returns how many there were: a line of JSON each (`row` counts from 0).

    To the standard output as they come, or to a file that takes its place once all are there.
    """
    if torch.cuda.is_available():
        trained.model.to("cuda")
    count = 0
    shown = tqdm(
        total=source.total,
        unit=source.unit,
        unit_scale=source.unit == "B",
        desc=f"{trained.task.title}",
        file=sys.stderr,
        disable=None,
        leave=False,
    )
    with shown as bar, _opened(out) as file:
        for rows in _parts(source):
            for number, answer in enumerate(answers(trained, rows), count):
                file.write(json.dumps({"row": number, **answer}) + "\n")
            file.flush()
            count += len(rows)
            bar.set_postfix_str(f"{count} answered", refresh=False)
            bar.update(source.done - bar.n)
    return count


def _parts(source: Source) -> Iterator[list[Row]]:
    part, size = [], 0
    for row in source:
        part.append(row)
        size += sum(map(len, row))
        if len(part) == ROWS or size > CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first.")
    if out.is_dir():
        raise UserError(f"--out {out}: it is a folder; name a file in it.")
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
