"""Texts to predict: the arguments themselves, a file, or the standard input."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mtkd.data.files import check_text, count_rows, read_rows
from mtkd.errors import UserError
from mtkd.tasks import Task

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet", ".txt": "text"}
Row = tuple[str, ...]


@dataclass
class Source:
    """Rows of one or two texts, read once; `done` of about `total` (None: unknown) are read."""

    rows: Iterator[Row]
    total: int | None = None
    unit: str = "rows"
    done: int = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.done += 1
            yield row


def source(
    given: list[str], task: Task, columns: str | None = None, kind: str | None = None
) -> Source:
    """Return the rows of texts that the arguments name.

    Args:
        given: The texts of one row; or the path of a file; or `-` or nothing: standard input.
        task: The task that the texts are for.
        columns: The file's names of the task's text columns, separated by commas.
        kind: One of `FORMATS`' values; default: by the file's name, `text` for standard input.

    Raises:
        UserError: A missing file, an unknown format, or a wrong number of texts or columns.
    """
    if kind is not None and kind not in FORMATS.values():
        raise UserError(f"--format {kind}: the formats are {', '.join(FORMATS.values())}.")
    names = [name.strip() for name in columns.split(",")] if columns else list(task.columns)
    needed = f"{task.title} needs {' and '.join(task.columns)}"
    if len(names) != len(task.columns):
        raise UserError(f"--columns {columns}: {needed}: name as many columns.")
    if given in ([], ["-"]):
        if sys.stdin.isatty():
            raise UserError("There is nothing to predict: give a text or a file, or pipe lines.")
        if kind == "parquet":
            raise UserError("--format parquet: give a file; Parquet cannot be piped.")
        stdin, where = sys.stdin.buffer, "the standard input"
        if kind in (None, "text"):
            return Source(_lines(stdin, names, where))
        return Source(_table(stdin, names, where, _suffix(kind)))
    path, is_file = Path(given[0]), _is_file(given[0])
    suffix = path.suffix.lower()
    named = suffix in FORMATS and " " not in given[0]
    if len(given) == 1 and (kind or is_file or named):
        if not is_file:
            raise UserError(f"There is no file {path}: correct the path.")
        if kind is None and suffix not in FORMATS:
            raise UserError(f"{path}: give --format ({', '.join(FORMATS.values())}).")
        suffix = suffix if kind is None else _suffix(kind)
        if suffix == ".txt":
            rows = _lines(path.open("rb"), names, str(path))
        else:
            rows = _table(path, names, str(path), suffix)
        return Source(rows, count_rows(path, path.stat().st_mtime_ns, str(path)))
    if len(given) != len(task.columns):
        raise UserError(f"{needed}: {len(given)} texts are given; put each in quotes.")
    # Arguments that are no UTF-8 arrive as halves of surrogate pairs, which no tokenizer takes.
    row = tuple(text.encode("utf-8", "replace").decode() for text in given)
    return Source(iter([row]), total=1)


def _suffix(kind: str) -> str:
    return next(suffix for suffix, name in FORMATS.items() if name == kind)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL byte
        return False


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


def _table(file: Path | BinaryIO, columns: list[str], where: str, suffix: str) -> Iterator[Row]:
    first = 0
    for batch in read_rows(file, where, columns, suffix=suffix):
        texts = [check_text(batch.column(name), name, where, first) for name in columns]
        yield from zip(*(column.to_pylist() for column in texts), strict=True)
        first += len(batch)
