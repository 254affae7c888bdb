"""Texts to be answered, read one after the other: CSV, TSV, JSON lines, Parquet, plain lines, the standard input, or arguments."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from mtkd.errors import UserError
from mtkd.tasks import Task

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet", ".txt": "text"}
Row = tuple[str, ...]


@dataclass
class Source:
    """Rows of one or two texts, read as they are asked for; `done` of `total` (None: not known) tell how far, in `unit`."""

    columns: tuple[str, ...]
    name: str = "the arguments"
    kind: str = "arguments"
    path: Path | None = None
    given: list[str] = field(default_factory=list)
    total: int | None = None
    unit: str = "rows"
    done: int = 0

    def __iter__(self) -> Iterator[Row]:
        if self.kind == "arguments":
            yield tuple(map(_clean, self.given))
            return
        if self.kind == "parquet":
            yield from self._parquet()
            return
        reader = {"csv": self._table, "tsv": self._table, "jsonl": self._json, "text": self._lines}[
            self.kind
        ]
        with self.path.open("rb") if self.path else nullcontext(sys.stdin.buffer) as raw:
            # A byte order mark is no part of the first text; quoted fields of a table keep their line ends.
            file = io.TextIOWrapper(
                raw, encoding="utf-8-sig", newline="" if self.kind == "csv" else None
            )
            number, rows = 0, reader(file)
            while True:
                try:
                    number, row = next(rows, (0, None))
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{self.name}, after line {number}: it is not UTF-8 text ({error.reason}); convert it."
                    ) from None
                except csv.Error as error:
                    raise UserError(
                        f"{self.name}, after line {number}: it cannot be read as CSV ({error}); correct it."
                    ) from None
                if row is None:
                    return
                self.done = number if self.total is None else raw.tell()
                yield tuple(map(_clean, row))

    def _lines(self, file: io.TextIOWrapper) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(file, 1):
            text = line.removesuffix("\n")
            row = tuple(text.split("\t")) if len(self.columns) == 2 else (text,)
            if len(row) != len(self.columns):
                raise UserError(
                    f"{self.name}, line {number}: the task needs a pair ({' and '.join(self.columns)}) with one tab between, "
                    f"this line holds {len(row)} of them ({text[:40]!r}); correct it."
                )
            yield number, row

    def _json(self, file: io.TextIOWrapper) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{self.name}, line {number}: it is no JSON ({error}); give an object a line."
                ) from None
            if not isinstance(row, dict):
                raise UserError(
                    f'{self.name}, line {number}: it is no JSON object; write it as {{"{self.columns[0]}": "…"}}.'
                )
            self._check(list(row), f"line {number}")
            yield number, self._texts([row[column] for column in self.columns], f"line {number}")

    def _table(self, file: io.TextIOWrapper) -> Iterator[tuple[int, Row]]:
        # A quote encloses a field in CSV; in TSV it is a character, as in GLUE's own files.
        csv.field_size_limit(2**31 - 1)
        rows = (
            csv.reader(file, strict=True)
            if self.kind == "csv"
            else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
        header = next(rows, None)
        if header is None:
            return
        self._check(header, "line 1 (the columns' names)")
        places = [header.index(column) for column in self.columns]
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{self.name}, line {rows.line_num}: it has {len(row)} fields, its columns are {len(header)} "
                    f"({', '.join(header)}); correct it."
                )
            yield rows.line_num, tuple(row[place] for place in places)

    def _parquet(self) -> Iterator[Row]:
        try:
            file = parquet.ParquetFile(self.path)
            self._check(file.schema_arrow.names, "its columns")
            self.total = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=256, columns=list(self.columns)):
                for values in zip(
                    *(batch.column(column).to_pylist() for column in self.columns), strict=True
                ):
                    self.done += 1
                    yield tuple(map(_clean, self._texts(list(values), f"row {self.done}")))
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{self.name}: it cannot be read as Parquet ({' '.join(str(error).split())[:120]}); copy it again."
            ) from None

    def _check(self, names: list[str], where: str) -> None:
        if missing := [column for column in self.columns if column not in names]:
            raise UserError(
                f"{self.name}, {where}: there is no column '{missing[0]}' (there are {', '.join(map(str, names))[:200]}): name "
                f"the task's with --columns, in the order of {', '.join(self.columns)}."
            )

    def _texts(self, values: list, where: str) -> Row:
        for column, value in zip(self.columns, values, strict=True):
            if not isinstance(value, str):
                raise UserError(
                    f"{self.name}, {where}: '{column}' holds {json.dumps(value, default=str)[:40]}, not text; put it in quotes "
                    "or remove the row."
                )
        return tuple(values)


def _clean(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes (they come from JSON and from the command line)."""
    return text.encode("utf-8", "replace").decode()


def source(
    given: list[str], task: Task, columns: str | None = None, kind: str | None = None
) -> Source:
    """What to read: the texts themselves, a file, or the standard input (`-`, or nothing given).

    A single argument that names a file, or ends as one does, is a file; `kind` tells how to read it where its name does
    not (the standard input: `text`). `columns` are the file's names for the task's texts, parted by commas. Raises
    `UserError` for a missing file, an unknown kind, half a pair or a text too many.
    """
    if kind is not None and kind not in FORMATS.values():
        raise UserError(f"--format {kind}: the formats are {', '.join(FORMATS.values())}.")
    named = tuple(name.strip() for name in columns.split(",")) if columns else task.columns
    if len(named) != len(task.columns):
        raise UserError(
            f"--columns {columns}: {task.title} has {len(task.columns)} text column{'s' * (len(task.columns) > 1)} "
            f"({', '.join(task.columns)}); name as many."
        )
    if given in ([], ["-"]):
        if sys.stdin.isatty():
            raise UserError(
                "There is nothing to answer: give a text, a file, or pipe lines into the command."
            )
        if kind == "parquet":
            raise UserError(
                "--format parquet: Parquet cannot be read from the standard input; give the file's path."
            )
        return Source(named, "the standard input", kind or "text")
    path = Path(given[0])
    if len(given) == 1 and (
        kind or (path.suffix.lower() in FORMATS and " " not in given[0]) or _is_file(path)
    ):
        if not _is_file(path):
            raise UserError(f"There is no file {path}: correct the path.")
        kind = kind or FORMATS.get(path.suffix.lower())
        if kind is None:
            raise UserError(
                f"{path}: its name does not tell how to read it; give --format ({', '.join(FORMATS.values())})."
            )
        size = None if kind == "parquet" else path.stat().st_size
        return Source(
            named, str(path), kind, path, total=size, unit="rows" if kind == "parquet" else "B"
        )
    if len(given) != len(task.columns):
        wanted = (
            "one text" if len(task.columns) == 1 else f"two texts ({' and '.join(task.columns)})"
        )
        raise UserError(
            f"{task.title} is about {wanted}, {len(given)} {'is' if len(given) == 1 else 'are'} given: put each in quotes."
        )
    return Source(named, given=given)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text too long for a path, or with a NUL byte
        return False
