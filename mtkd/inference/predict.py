"""Predict labels and probabilities of texts, and write them as JSON lines in constant memory."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import datasets
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from mtkd.data.dataset import Examples
from mtkd.data.encode import encode
from mtkd.data.text_files import chunks
from mtkd.data.words import join_words, split_words
from mtkd.errors import UserError
from mtkd.inference.reader import Row, Source
from mtkd.tasks import Task
from mtkd.training.generate import generate, to_texts
from mtkd.training.predict import predict, probabilities
from mtkd.training.word_metrics import best_span

if TYPE_CHECKING:
    from mtkd.inference.load import TrainedModel

CHUNK_ROWS, CHUNK_CHARACTERS = 1024, 2_000_000  # read ahead, to batch texts of similar length


def predict_rows(trained: TrainedModel, rows: list[Row]) -> list[dict]:
    """Return `label` and `probabilities` of each row, or its `score` for a regression or ranking.

    In a task with a label for each word they are what `predict_words` returns; of type text it is
    the `text` that is written.
    """
    task = trained.task
    if task.generates:
        return [{"text": text} for text in _write(trained, rows)]
    if task.by_word:
        return predict_words(trained, rows)
    outputs = _outputs(trained, rows).tolist()
    if task.num_outputs == 1:
        return [{"score": score} for (score,) in outputs]
    by_label = [dict(zip(task.labels, values, strict=True)) for values in outputs]
    return [{"label": max(row, key=row.get), "probabilities": row} for row in by_label]


def predict_frame(
    trained: TrainedModel, texts: str | Iterable[str | Sequence[str]] | pd.DataFrame
) -> pd.DataFrame:
    """Return a row for each text or pair; see `TrainedModel.predict`."""
    task, index = trained.task, texts.index if isinstance(texts, pd.Series | pd.DataFrame) else None
    if isinstance(texts, pd.DataFrame):
        texts = texts.itertuples(index=False, name=None)
    rows = _rows([texts] if isinstance(texts, str) else texts, task)
    if task.by_unit:
        parts = [predict_rows(trained, part) for part in chunks(rows, CHUNK_ROWS, CHUNK_CHARACTERS)]
        span = ["answer", "start", "probability"]
        columns = {"tokens": ["words", "tags"], "span": span, "text": ["text"]}[task.kind]
        return pd.DataFrame([row for part in parts for row in part], index, columns)
    parts = [_outputs(trained, part) for part in chunks(rows, CHUNK_ROWS, CHUNK_CHARACTERS)]
    outputs = np.concatenate([np.empty((0, task.num_outputs)), *parts])
    if task.num_outputs == 1:
        return pd.DataFrame(outputs, index, ["score"])
    frame = pd.DataFrame(outputs, index, task.labels)
    frame.insert(0, "label", np.array(task.labels)[outputs.argmax(axis=1)], allow_duplicates=True)
    return frame


def _rows(texts: Iterable[str | Sequence[str]], task: Task) -> Iterator[Row]:
    needed = " and ".join(task.columns)
    for number, text in enumerate(texts):
        row = (text,) if isinstance(text, str) else tuple(text) if np.iterable(text) else (text,)
        texts = all(isinstance(one, str) for one in row)
        if texts and task.kind == "tokens" and not isinstance(text, str):
            yield (list(row),)
            continue
        if len(row) != len(task.columns) or not texts:
            raise UserError(f"Row {number} is {text!r:.80}: {task.title} needs {needed}, as text.")
        yield tuple(one.encode("utf-8", "replace").decode() for one in row)


def predict_words(trained: TrainedModel, rows: list[Row]) -> list[dict]:
    """Return `words` and `tags` of each row, or a span's `answer`, `start` and `probability`.

    A list of words is taken as it is, those of a text are split as in `mtkd.data.words`. The answer
    is the most probable span of the last text, `start` its first character; they are "" and -1
    where there is no word.
    """
    task, texts, places = trained.task, [], []
    for *others, last in rows:
        text, spans = (last, split_words(last)) if isinstance(last, str) else join_words(last)
        texts.append((*others, text))
        places.append(spans)
    starts = [[first for first, _ in spans] for spans in places]
    examples = _examples(trained, texts, starts)
    outputs = probabilities(task, predict(trained.model, examples), examples.idx)
    found = []
    for row, ((*_, text), spans) in enumerate(zip(texts, places, strict=True)):
        part = outputs[examples.units([row])]
        if task.kind == "tokens":
            words = [text[first:last] for first, last in spans]
            found.append({"words": words, "tags": [task.labels[tag] for tag in part.argmax(1)]})
        elif not spans:
            found.append({"answer": "", "start": -1, "probability": 0.0})
        else:
            first, last = best_span(*part.T)
            start, product = spans[first][0], float(part[first, 0] * part[last, 1])
            answer = {"answer": text[start : spans[last][1]], "start": start}
            found.append(answer | {"probability": round(product, 6)})
    return found


def _write(trained: TrainedModel, rows: list[Row]) -> list[str]:
    """Return the texts that are written for rows of texts."""
    if torch.cuda.is_available():
        trained.model.to("cuda")
    return to_texts(generate([(trained.model, _examples(trained, rows))]), trained.tokenizer)


def _outputs(trained: TrainedModel, rows: list[Row]) -> np.ndarray:
    """Return probabilities (n, classes), or scores (n, 1), to six decimals."""
    if torch.cuda.is_available():
        trained.model.to("cuda")
    outputs = predict_logits(trained, rows)
    if trained.task.num_outputs > 1:
        outputs = probabilities(trained.task, outputs)
    return outputs.astype(float).round(6)


def predict_logits(trained: TrainedModel, rows: list[Row]) -> np.ndarray:
    """Return the logits (n, classes), or scores (n, 1), of n rows of texts."""
    return predict(trained.model, _examples(trained, rows))


def _examples(
    trained: TrainedModel, rows: list[Row], word_starts: list[list[int]] | None = None
) -> Examples:
    columns = [list(column) for column in zip(*rows, strict=True)]
    tokens = encode(columns, trained.tokenizer, trained.max_length, word_starts)
    label = [[0]] * len(rows) if trained.task.generates else [0] * len(rows)
    tokens |= {"label": tokens.get("words", label), "idx": range(len(rows))}
    split = datasets.Dataset.from_dict(tokens)
    return Examples(trained.task, split, "", trained.tokenizer.pad_token_id)


def write_predictions(trained: TrainedModel, source: Source, out: Path | None) -> int:
    """Write a JSON line per row of the source, with `row` counted from 0; return their number.

    They go to standard output as they are made, or to a file that appears once all are written.
    """
    count, options = 0, {"unit": "rows", "unit_scale": True, "leave": False, "disable": None}
    with _open(out) as file:
        progress = tqdm(source.rows, trained.task.title, source.total, **options)
        for rows in chunks(progress, CHUNK_ROWS, CHUNK_CHARACTERS):
            for number, prediction in enumerate(predict_rows(trained, rows), count):
                file.write(json.dumps({"row": number, **prediction}) + "\n")
            file.flush()
            count += len(rows)
    return count


@contextmanager
def _open(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    if not out.parent.is_dir() or out.is_dir():
        raise UserError(f"--out {out}: give the path of a file in a folder that exists.")
    with replace_file(out) as partial, partial.open("w", encoding="utf-8") as file:
        yield file


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path that replaces `path` once the block ends without an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
