"""Rows of CSV, TSV, JSON lines and Parquet files."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from mtkd.errors import UserError

FORMATS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".parquet": "Parquet"}
ROWS = 10_000  # examples in memory at a time
BLOCK = 1 << 23  # bytes; the longest line of CSV that can be read


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
    columns: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    *,
    quotes: bool | None = None,
    suffix: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in batches.

    Args:
        file: The path of a file, or an open file.
        where: What error messages begin with.
        columns: Columns that must be there; None: all that are.
        optional: Columns that may be there besides.
        quotes: Whether `"` encloses a field of CSV or TSV; None: in CSV.
        suffix: Read the file as if its name ended so.

    Raises:
        UserError: The file cannot be read, or a column is missing or appears twice.
    """
    suffix = suffix or file.suffix.lower()
    try:
        if suffix == ".jsonl":
            for batch in _json_batches(file, where):
                names = select_columns(batch.schema.names, where, columns or (), optional)
                yield batch if columns is None else batch.select(names)
            return
        reader = _open(file, suffix, quotes, [*(columns or ()), *optional])
        names = select_columns(reader.schema.names, where, columns or (), optional)
        for batch in reader:
            yield batch if columns is None else batch.select(names)
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")[:160]
        hint = "" if suffix == ".parquet" else " (it must be UTF-8 text)"
        read_as = f"the file cannot be read as {FORMATS[suffix]} ({reason})"
        raise UserError(f"{where}: {read_as}: correct or convert it{hint}.") from None


def _open(
    file: Path | BinaryIO, suffix: str, quotes: bool | None, text: list[str]
) -> pa.RecordBatchReader:
    if suffix == ".parquet":
        parquet_file = parquet.ParquetFile(file)
        batches = parquet_file.iter_batches(ROWS)
        return pa.RecordBatchReader.from_batches(parquet_file.schema_arrow, batches)
    quotes = suffix == ".csv" if quotes is None else quotes
    marks = {"delimiter": "," if suffix == ".csv" else "\t", "quote_char": quotes and '"'}
    parsing = csv.ParseOptions(**marks, newlines_in_values=quotes)
    # Text as it is: "", NA and null are no missing values, and 01 stays 01.
    conversion = csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
    reading = csv.ReadOptions(block_size=BLOCK)
    return csv.open_csv(file, reading, parsing, conversion)


def _json_batches(file: Path | BinaryIO, where: str) -> Iterator[pa.RecordBatch]:
    """Yield JSON lines in batches; a field that a row lacks is null."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as lines:
        texts = ((n, line.decode()) for n, line in enumerate(lines) if line.strip())
        rows = (_parse_object(text, f"{where}, row {n}") for n, text in texts)
        names: dict[str, None] = {}
        while batch := list(islice(rows, ROWS)):
            names |= dict.fromkeys(name for row in batch for name in row)
            columns = {name: [row.get(name) for row in batch] for name in names}
            yield pa.RecordBatch.from_pydict(columns)


def _parse_object(text: str, where: str) -> dict:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise UserError(f"{where}: the line holds no JSON object: write {{...}}.")
    return value


def select_columns(
    names: Sequence[str], where: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[str]:
    """Return the columns to read; `UserError` where one is missing or appears twice."""
    selected = [*columns, *(column for column in optional if column in names)]
    for column in selected:
        if (count := list(names).count(column)) == 0:
            there = f"column '{column}' is missing (there are {', '.join(names)})"
            raise UserError(f"{where}: {there}: correct its name.")
        if count > 1:
            raise UserError(f"{where}: column '{column}' appears twice: rename one of the two.")
    return selected


def check_text(values: pa.Array, column: str, where: str, first: int = 0) -> pa.Array:
    """Return a column's values as strings; `UserError` where one is null or none is text.

    `first` is the number of the first row, for the message.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type not in (pa.string(), pa.large_string(), pa.null()):
        held = f"column '{column}' holds {values.type}, not text"
        raise UserError(f"{where}: {held}: name a text column.")
    if values.null_count:
        row = first + pc.index(pc.is_null(values), True).as_py()
        missing = f"column '{column}' holds no text"
        raise UserError(f"{where}, row {row}: {missing}: fill it in or remove the row.")
    return values.cast(pa.string())


def write_batches(batches: Iterable[pa.RecordBatch], path: Path) -> datasets.Dataset:
    """Write record batches to an Arrow file, and return it memory-mapped."""
    batches = iter(batches)
    first = next(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as stream:
        stream.write_batch(first)
        for batch in batches:
            stream.write_batch(batch)
    return datasets.Dataset.from_file(str(path))


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
