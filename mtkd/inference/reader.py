"""Texts to predict: the arguments themselves, a file, or the standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mtkd.data.files import count_rows, read_rows
from mtkd.data.text_files import text_lines
from mtkd.data.words import read_lists
from mtkd.errors import UserError, listed
from mtkd.tasks import Task

SUFFIXES = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl", "parquet": ".parquet", "text": ".txt"}
Row = tuple[str | list[str], ...]  # texts, or the words of one


@dataclass(frozen=True)
class Source:
    """Rows of one or two texts, and about how many there are (None: unknown)."""

    rows: Iterator[Row]
    total: int | None = None


def source(
    given: list[str],
    task: Task,
    columns: Sequence[str] = (),
    kind: str | None = None,
    quotes: bool | None = None,
) -> Source:
    """Return the rows of texts that the arguments name.

    Args:
        given: The texts of one row; or the path of a file; or `-` or nothing: standard input.
        task: The task that the texts are for.
        columns: The file's names of the task's text columns.
        kind: One of `SUFFIXES`; default: by the file's name, `text` for standard input.
        quotes: Whether `"` encloses a field of CSV or TSV, as in training; None: in CSV.

    Raises:
        UserError: A missing file, an unknown format, or a wrong number of texts or columns.
    """
    if kind not in (None, *SUFFIXES):
        raise UserError(f"--format {kind}: the formats are {', '.join(SUFFIXES)}.")
    names = list(columns or task.columns)
    needed = f"{task.title} needs {' and '.join(task.columns)}"
    if len(names) != len(task.columns):
        raise UserError(f"--columns {listed(names)}: {needed}: give --columns for each of them.")
    if given in ([], ["-"]):
        if sys.stdin is None or sys.stdin.isatty():
            raise UserError("There is nothing to predict: give a text or a file, or pipe lines.")
        where = "the standard input"
        suffix = SUFFIXES[kind or "text"]
        return Source(_rows(sys.stdin.buffer, task, names, where, suffix, quotes))
    is_file, suffix = os.path.isfile(given[0]), Path(given[0]).suffix.lower()
    named = suffix in SUFFIXES.values() and " " not in given[0]
    if len(given) == 1 and (kind or is_file or named):
        path, suffix = Path(given[0]), SUFFIXES[kind] if kind else suffix
        if not is_file:
            raise UserError(f"There is no file {path}: correct the path.")
        if suffix not in SUFFIXES.values():
            raise UserError(f"{path}: give --format ({', '.join(SUFFIXES)}).")
        rows = _rows(path, task, names, str(path), suffix, quotes)
        return Source(rows, count_rows(path, path.stat().st_mtime_ns))
    if len(given) != len(task.columns):
        raise UserError(f"{needed}: {len(given)} texts are given; put each in quotes.")
    # Arguments that are no UTF-8 arrive as halves of surrogate pairs, which no tokenizer takes.
    return Source(iter([tuple(text.encode("utf-8", "replace").decode() for text in given)]), 1)


def _rows(
    file: Path | BinaryIO,
    task: Task,
    columns: list[str],
    where: str,
    suffix: str,
    quotes: bool | None,
) -> Iterator[Row]:
    if suffix == ".txt":
        yield from _lines(file, columns, where)
        return
    if task.kind == "tokens" and suffix in (".jsonl", ".parquet"):
        for batch in read_lists(file, where, columns[0], suffix=suffix):
            yield from ((words,) for words, _ in batch)
        return
    for batch in read_rows(file, where, columns, quotes=quotes, suffix=suffix):
        texts = (batch.column(name).to_pylist() for name in columns)
        yield from zip(*texts, strict=True)


def _lines(file: Path | BinaryIO, columns: list[str], where: str) -> Iterator[Row]:
    for number, line in enumerate(text_lines(file, where), 1):
        text = line.rstrip("\r\n")
        row = tuple(text.split("\t")) if len(columns) == 2 else (text,)
        if len(row) != len(columns):
            needed = f"one tab between {' and '.join(columns)}"
            raise UserError(f"{where}, line {number}: it needs {needed}; correct it.")
        yield row
