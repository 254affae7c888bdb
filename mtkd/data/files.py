"""Texts and labels of CSV, TSV, JSON lines and Parquet files.

No type is guessed: fields of CSV are text, values of JSON say what they are, and Parquet has a
schema.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from mtkd.data.text_files import PLAIN, TEXT, chunks, csv_rows, parse_json, text_lines, word
from mtkd.errors import UserError, listed

FORMATS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".parquet": "Parquet"}
ROWS, CHARACTERS = 10_000, 1 << 22  # in memory at a time; a longer row comes alone


def check_file(path: Path, where: str) -> Path:
    """Return the path if it is a file that `read_rows` reads; `UserError` otherwise."""
    known = ", ".join(FORMATS)
    if path.is_dir():
        raise UserError(f"{where}: {path} is a folder: name the file in it ({known}).")
    if not path.is_file():
        raise UserError(f"{where}: there is no file {path}: correct the path.")
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{where}: {path} has an unknown ending: convert it ({known}).")
    if not path.stat().st_size:
        raise UserError(f"{where}: {path} is empty: give it some examples.")
    return path


def read_rows(
    file: Path | BinaryIO,
    where: str,
    texts: Sequence[str],
    label: str | None = None,
    *,
    optional: bool = False,
    quotes: bool | None = None,
    suffix: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in batches of strings, the texts' without nulls.

    Args:
        file: The path of a file, or an open file.
        where: What error messages begin with.
        texts: Columns of text.
        label: A column of classes or scores.
        optional: Whether the file may lack the label's column.
        quotes: Whether `"` encloses a field of CSV or TSV; None: in CSV.
        suffix: Read the file as if its name ended so.

    Raises:
        UserError: The file cannot be read, a column is missing or appears twice, or a text is
            missing or something else, with its row from 0.
    """
    suffix = suffix or file.suffix.lower()
    labels = [] if label is None else [label]
    columns = (texts, labels) if optional else ([*texts, *labels], [])
    if suffix == ".parquet":
        batches = parquet_batches(file, where, columns)
    elif suffix == ".jsonl":
        batches = _json_batches(file, where, columns, texts)
    else:
        batches = _csv_batches(file, where, columns, suffix, quotes)
    first = 0
    for batch in batches:
        yield as_text(batch, where, texts, label, first)
        first += len(batch)


def read_head(
    path: Path, where: str, count: int = 1000, quotes: bool | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the first rows of a file as text, and the names of the columns that hold text.

    Left out are columns of lists, objects and bytes, and those that cannot be named: without a
    name, or with another's.
    """
    suffix, other = path.suffix.lower(), set()
    if suffix == ".parquet":
        with _open_parquet(path, where) as file:
            batches = file.iter_batches(min(count, _rows_in_memory(file)))
            table = pa.Table.from_batches(islice(batches, 1), file.schema_arrow)
        names, columns = table.column_names, []
        for name, column in zip(names, table.columns, strict=True):
            values = _plain(column.combine_chunks())
            other |= set() if _is_text(values.type) else {name}
            columns.append(values.cast(pa.string()).to_pylist() if _is_plain(values.type) else None)
    elif suffix == ".jsonl":
        lines = next(chunks(filter(str.strip, text_lines(path, where)), count, CHARACTERS), [])
        rows = [parse_json(line, f"{where}, row {n}") for n, line in enumerate(lines)]
        names, columns = list(dict.fromkeys(name for row in rows for name in row)), []
        for name in names:
            values = [row.get(name) for row in rows]
            other |= set() if all(isinstance(value, TEXT) for value in values) else {name}
            plain = all(isinstance(value, PLAIN) for value in values)
            columns.append(list(map(word, values)) if plain else None)
    else:
        names, *rows = next(chunks(csv_rows(path, where, suffix, quotes), count, CHARACTERS), [[]])
        columns = list(map(list, zip(*rows, strict=True))) or [[] for _ in names]
    frame = {
        name: pd.Series(values, dtype=object)
        for name, values in zip(names, columns, strict=True)
        if values is not None and name and names.count(name) == 1
    }
    return pd.DataFrame(frame), [name for name in frame if name not in other]


def as_text(
    batch: pa.RecordBatch, where: str, texts: Sequence[str], label: str | None, first: int
) -> pa.RecordBatch:
    """Return the texts of a batch, and its label if it has one, as strings.

    Raises:
        UserError: A text is missing or something else; `first` is the number of the first row.
    """
    columns = {name: check_text(batch.column(name), name, where, first) for name in texts}
    if label in batch.schema.names:
        columns[label] = label_text(batch.column(label), label, where)
    return pa.RecordBatch.from_pydict(columns)


def check_text(values: pa.Array, column: str, where: str, first: int = 0) -> pa.Array:
    """Return a column's values as strings; `UserError` where one is null or none is text.

    `first` is the number of the first row, for the message.
    """
    values = _plain(values)
    if not _is_text(values.type):
        held = f"column '{column}' holds {values.type}, not text"
        raise UserError(f"{where}: {held}: name a text column.")
    if values.null_count:
        row = first + pc.index(pc.is_null(values), True).as_py()
        missing = f"column '{column}' holds no text"
        raise UserError(f"{where}, row {row}: {missing}: fill it in or remove the row.")
    return values.cast(pa.string())


def label_text(values: pa.Array, column: str, where: str) -> pa.Array:
    """Return classes or scores as strings without spaces around them; nulls stay.

    Raises:
        UserError: The column holds something else, such as lists.
    """
    values = _plain(values)
    if not _is_plain(values.type):
        held = f"column '{column}' holds {values.type}, neither text nor numbers"
        raise UserError(f"{where}: {held}: name the label's column.")
    return pc.utf8_trim_whitespace(values.cast(pa.string()))


def _plain(values: pa.Array) -> pa.Array:
    """Return the values of dictionaries and of extension types."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.null())


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether values of this type are text, numbers, truth values or dates."""
    plain = pa.types.is_primitive(kind) and not pa.types.is_interval(kind)
    return _is_text(kind) or plain or pa.types.is_decimal(kind)


def select_columns(
    names: Sequence[str], where: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[str]:
    """Return the columns to read; `UserError` where one is missing or appears twice."""
    selected = [*columns, *(column for column in optional if column in names)]
    for column in selected:
        if (count := list(names).count(column)) == 0:
            mend, mark = "correct its name", re.search(r"[,;\t|]", names[0] if names else "")
            if len(names) == 1 and mark:
                mend = f"or write sep={mark[0]} in a first line, if that is what separates fields"
            there = f"column '{column}' is missing (there are {listed(names)})"
            raise UserError(f"{where}: {there}: {mend}.")
        if count > 1:
            raise UserError(f"{where}: column '{column}' appears twice: rename one of the two.")
    return selected


Columns = tuple[Sequence[str], Sequence[str]]  # that must be there, and that may


@contextmanager
def _open_parquet(file: Path | BinaryIO, where: str) -> Iterator[parquet.ParquetFile]:
    if not isinstance(file, Path) and not file.seekable():
        raise UserError(f"{where}: Parquet is read from its end: give the file, not a pipe.")
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        try:
            yield parquet.ParquetFile(opened, buffer_size=1 << 20)  # pages, not whole row groups
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split()).removesuffix(".")[:160]
            damaged = f"the file cannot be read as Parquet ({reason})"
            raise UserError(f"{where}: {damaged}: write or copy it again.") from None


def _rows_in_memory(file: parquet.ParquetFile) -> int:
    groups = map(file.metadata.row_group, range(file.num_row_groups))
    size = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    return int(min(ROWS, max(1, CHARACTERS / max(1, size))))


def parquet_batches(
    file: Path | BinaryIO, where: str, columns: Columns
) -> Iterator[pa.RecordBatch]:
    """Yield a Parquet file's columns, those that must be there and those that may, in batches."""
    with _open_parquet(file, where) as opened:
        names = select_columns(opened.schema_arrow.names, where, *columns)
        for batch in opened.iter_batches(_rows_in_memory(opened), columns=names):
            yield batch.select(names)


def _csv_batches(
    file: Path | BinaryIO, where: str, columns: Columns, suffix: str, quotes: bool | None
) -> Iterator[pa.RecordBatch]:
    rows = csv_rows(file, where, suffix, quotes)
    names = next(rows, [])
    selected = select_columns(names, where, *columns)
    places = [names.index(name) for name in selected]
    for chunk in chunks(rows, ROWS, CHARACTERS):
        values = [pa.array([row[place] for row in chunk], pa.string()) for place in places]
        yield pa.RecordBatch.from_arrays(values, names=selected)


def _json_batches(
    file: Path | BinaryIO, where: str, columns: Columns, texts: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yield JSON lines in batches; a field that a row lacks is null."""
    first, names = 0, {}
    for lines in chunks(filter(str.strip, text_lines(file, where)), ROWS, CHARACTERS):
        rows = [parse_json(line, f"{where}, row {first + n}") for n, line in enumerate(lines)]
        names |= dict.fromkeys(name for row in rows for name in row)
        values = {}
        for name in select_columns(list(names), where, *columns):
            values[name] = [row.get(name) for row in rows]
            known = TEXT if name in texts else PLAIN
            for n, value in enumerate(values[name], first):
                if not isinstance(value, known):
                    held = f"column '{name}' holds {json.dumps(value)[:80]}"
                    kinds = "text" if name in texts else "text or a number"
                    raise UserError(f"{where}, row {n}: {held}, not {kinds}: correct it.")
            values[name] = list(map(word, values[name]))
        yield pa.RecordBatch.from_pydict(values)
        first += len(rows)


@lru_cache
def count_rows(path: Path, changed: int) -> int:
    """Return the number of rows of a Parquet file (0: damaged), or of lines of a text file."""
    if path.suffix.lower() != ".parquet":
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    try:
        return parquet.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):  # reading it explains what is wrong
        return 0
