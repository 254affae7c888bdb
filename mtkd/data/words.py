"""Examples with a label for each word: sequence labelling and span extraction.

They have a column more than others, `word_starts`, the characters at which the words of the last
text begin, and `label` is a list with a number for each word: of its tag; in span extraction 1 at
the first word of the answer, 2 at the last, 3 where it is both and 0 elsewhere; -1 where unknown.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from mtkd.config.custom_task import CustomTask
from mtkd.data.dataset import WORD_STARTS
from mtkd.data.files import ROWS, parquet_batches, read_rows, select_columns
from mtkd.data.text_files import parse_json, text_lines
from mtkd.data.text_files import word as as_text
from mtkd.errors import UserError, listed
from mtkd.tasks import END, START

WORD = re.compile(r"\w+|[^\w\s]")
COLUMNS = pa.schema(
    {WORD_STARTS: pa.list_(pa.int32()), "label": pa.list_(pa.int64()), "idx": pa.int64()}
)


def split_words(text: str) -> list[tuple[int, int]]:
    """Return the first character of each word of a text, and the one behind its last."""
    return [match.span() for match in WORD.finditer(text)]


def join_words(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return words as a text, a space between them, and their characters as `split_words` does."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return " ".join(words), [
        (end - len(word), end) for word, end in zip(words, ends.tolist(), strict=True)
    ]


def read_word_examples(
    path: Path, own: CustomTask, where: str, unlabelled: bool
) -> Iterator[pa.RecordBatch]:
    """Yield batches of a file's texts, `word_starts`, `label` and `idx`.

    Raises:
        UserError: A row has no words, another number of tags, an unknown tag, or an answer that is
            not in its text; `where`, the row from 0, and how to mend it.
    """
    make = _token_rows if own.type == "tokens" else _span_rows
    first = 0
    for rows in make(path, own, where, unlabelled):
        texts, starts, labels = zip(*rows, strict=True)
        columns = [*map(pa.array, zip(*texts, strict=True))]
        idx = range(first, first + len(rows))
        columns += map(pa.array, (starts, labels, idx), COLUMNS.types)
        yield pa.RecordBatch.from_arrays(columns, names=[*own.columns, *COLUMNS.names])
        first += len(rows)
    if not first:
        raise UserError(f"{where}: it has no examples; give it some.")


def read_lists(
    file: Path | BinaryIO,
    where: str,
    words: str,
    tags: str | None = None,
    suffix: str | None = None,
) -> Iterator[list[tuple[list[str], list[str] | None]]]:
    """Yield the lists of words, and of tags if they are wanted, of many rows at a time.

    Raises:
        UserError: The file is no JSON lines or Parquet, a column is missing, or a value in it is
            no list of texts, with its row from 0.
    """
    columns, first = [words, tags] if tags else [words], 0
    suffix = suffix or file.suffix.lower()
    if suffix == ".parquet":
        batches = (batch.to_pylist() for batch in parquet_batches(file, where, (columns, [])))
    elif suffix == ".jsonl":
        lines = enumerate(filter(str.strip, text_lines(file, where)))
        rows = (parse_json(line, f"{where}, row {row}") for row, line in lines)
        batches = iter(lambda: list(islice(rows, ROWS)), [])
    else:
        raise UserError(f"{where}: lists of words need JSON lines or Parquet: convert it.")
    for batch in batches:
        for row, values in enumerate(batch, first):
            select_columns(list(values), f"{where}, row {row}", columns)
            for name in columns:
                value = values[name]
                if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                    held = f"column '{name}' holds {json.dumps(value, default=str)[:80]}"
                    raise UserError(f"{where}, row {row}: {held}, no list of texts: correct it.")
        first += len(batch)
        yield [(list(map(as_text, one[words])), one[tags] if tags else None) for one in batch]


Row = tuple[tuple[str, ...], list[int], list[int]]  # texts, starts of words, labels


def _token_rows(path: Path, own: CustomTask, where: str, unlabelled: bool) -> Iterator[list[Row]]:
    (column,), numbers = own.columns, {tag: number for number, tag in enumerate(own.classes)}
    first = 0
    for batch in read_lists(path, where, column, None if unlabelled else own.label):
        rows = []
        for row, (words, tags) in enumerate(batch, first):
            at = f"{where}, row {row}"
            if not words or not all(word.strip() for word in words):
                what = "an empty word" if words else "no words"
                raise UserError(f"{at}: column '{column}' has {what}: remove it.")
            tags = [None] * len(words) if tags is None else tags
            if len(tags) != len(words):
                differ = f"{len(words)} words and {len(tags)} tags"
                raise UserError(f"{at}: there are {differ}: give each word its tag.")
            if wrong := [tag for tag in tags if tag is not None and tag not in numbers]:
                known = f"none of the task's ({listed(own.classes)})"
                raise UserError(f"{at}: tag '{wrong[0][:80]}' is {known}: correct it.")
            text, places = join_words(words)
            starts = [start for start, _ in places]
            rows.append(((text,), starts, [numbers.get(tag, -1) for tag in tags]))
        first += len(rows)
        yield rows


def _span_rows(path: Path, own: CustomTask, where: str, unlabelled: bool) -> Iterator[list[Row]]:
    texts = own.columns if unlabelled else [*own.columns, own.label]
    label, first = None if unlabelled else own.answer_start, 0
    for batch in read_rows(path, where, texts, label, quotes=own.quotes):
        values = [batch.column(name).to_pylist() for name in texts]
        given = batch.column(label).to_pylist() if label else [None] * len(batch)
        rows = []
        for row, (question, context, *answer) in enumerate(zip(*values, strict=True), first):
            words = split_words(context)
            labels = [-1] * len(words)
            if not words:
                raise UserError(f"{where}, row {row}: the text to search has no words: remove it.")
            if answer:
                at = _answer_at(context, answer[0], given[row - first], f"{where}, row {row}")
                labels = mark_span(words, at, at + len(answer[0]))
            rows.append(((question, context), [start for start, _ in words], labels))
        first += len(rows)
        yield rows


def _answer_at(context: str, answer: str, given: str | None, where: str) -> int:
    """Return the character at which the answer begins in the context.

    If that is not given, it is the first place where the answer is whole words, or else any.
    """
    shown = f"the answer '{answer[:80]}'"
    if not split_words(answer):
        raise UserError(f"{where}: {shown} has no word: give one that is in the text.")
    if not given:
        places = [match.start() for match in re.finditer(re.escape(answer), context)]
        if not places:
            raise UserError(f"{where}: {shown} is not in the text: copy it from there.")
        edges = {edge for word in split_words(context) for edge in word}
        return next((at for at in places if {at, at + len(answer)} <= edges), places[0])
    if not re.fullmatch(r"\d+(\.0*)?", given) or not context.startswith(answer, int(float(given))):
        raise UserError(f"{where}: {shown} is not at character '{given}' of the text: correct it.")
    return int(float(given))


def mark_span(words: Iterable[tuple[int, int]], first: int, last: int) -> list[int]:
    """Return the labels of words (their characters) for the span of characters from first to last.

    Words that it covers in part are in it.
    """
    inside = [end > first and start < last for start, end in words]
    labels = [0] * len(inside)
    labels[inside.index(True)] |= START
    labels[len(inside) - 1 - inside[::-1].index(True)] |= END
    return labels
