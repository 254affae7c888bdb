"""Texts to predict: the arguments themselves, a file, or the standard input."""

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mtkd.data.files import check_text, count_rows, read_rows
from mtkd.errors import UserError
from mtkd.tasks import Task

SUFFIXES = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl", "parquet": ".parquet", "text": ".txt"}
Row = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Rows of one or two texts, and about how many there are (None: unknown)."""

    rows: Iterator[Row]
    total: int | None = None


def source(
    given: list[str], task: Task, columns: str | None = None, kind: str | None = None
) -> Source:
    """Return the rows of texts that the arguments name.

    Args:
        given: The texts of one row; or the path of a file; or `-` or nothing: standard input.
        task: The task that the texts are for.
        columns: The file's names of the task's text columns, separated by commas.
        kind: One of `SUFFIXES`; default: by the file's name, `text` for standard input.

    Raises:
        UserError: A missing file, an unknown format, or a wrong number of texts or columns.
    """
    if kind not in (None, *SUFFIXES):
        raise UserError(f"--format {kind}: the formats are {', '.join(SUFFIXES)}.")
    names = [name.strip() for name in columns.split(",")] if columns else list(task.columns)
    needed = f"{task.title} needs {' and '.join(task.columns)}"
    if len(names) != len(task.columns):
        raise UserError(f"--columns {columns}: {needed}: name as many columns.")
    if given in ([], ["-"]):
        if sys.stdin.isatty():
            raise UserError("There is nothing to predict: give a text or a file, or pipe lines.")
        where = "the standard input"
        return Source(_rows(sys.stdin.buffer, names, where, SUFFIXES[kind or "text"]))
    is_file, suffix = os.path.isfile(given[0]), Path(given[0]).suffix.lower()
    named = suffix in SUFFIXES.values() and " " not in given[0]
    if len(given) == 1 and (kind or is_file or named):
        path, suffix = Path(given[0]), SUFFIXES[kind] if kind else suffix
        if not is_file:
            raise UserError(f"There is no file {path}: correct the path.")
        if suffix not in SUFFIXES.values():
            raise UserError(f"{path}: give --format ({', '.join(SUFFIXES)}).")
        rows = _rows(path, names, str(path), suffix)
        return Source(rows, count_rows(path, path.stat().st_mtime_ns))
    if len(given) != len(task.columns):
        raise UserError(f"{needed}: {len(given)} texts are given; put each in quotes.")
    # Arguments that are no UTF-8 arrive as halves of surrogate pairs, which no tokenizer takes.
    return Source(iter([tuple(text.encode("utf-8", "replace").decode() for text in given)]), 1)


def _rows(file: Path | BinaryIO, columns: list[str], where: str, suffix: str) -> Iterator[Row]:
    if suffix == ".txt":
        yield from _lines(file.open("rb") if isinstance(file, Path) else file, columns, where)
        return
    first = 0
    for batch in read_rows(file, where, columns, suffix=suffix):
        texts = [check_text(batch.column(name), name, where, first) for name in columns]
        yield from zip(*(column.to_pylist() for column in texts), strict=True)
        first += len(batch)


def _lines(file: BinaryIO, columns: list[str], where: str) -> Iterator[Row]:
    number = 0
    try:
        for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), 1):
            text = line.removesuffix("\n")
            row = tuple(text.split("\t")) if len(columns) == 2 else (text,)
            if len(row) != len(columns):
                needed = f"one tab between {' and '.join(columns)}"
                raise UserError(f"{where}, line {number}: it needs {needed}; correct it.")
            yield row
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text ({error.reason})"
        raise UserError(f"{where}, after line {number}: {reason}; convert it.") from None
