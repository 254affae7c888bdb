"""Rows of CSV, TSV and JSON lines, by Python's own readers: they guess no types and take lines of
any length.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from mtkd.errors import UserError

csv.field_size_limit(1 << 27)  # characters; a quote that is never closed must not fill the memory
TEXT = str | None  # values of JSON that are text
PLAIN = str | int | float | None  # values of JSON that are a class or score


def text_lines(file: Path | BinaryIO, where: str) -> Iterator[str]:
    """Yield the lines of a text file with their ends; `UserError` if it is not UTF-8."""
    number = 0
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        try:
            lines = io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")
            for number, line in enumerate(lines, 1):
                if number == 1 and "\0" in line:
                    raise UserError(
                        f"{where}: it holds NUL bytes, as UTF-16 text and binary files do: convert "
                        "it to UTF-8 text."
                    )
                yield line
        except UnicodeDecodeError as error:
            reason = f"byte 0x{error.object[error.start]:02x}: {error.reason}"
            place = f"{where}, after line {number}" if number else where
            raise UserError(f"{place}: it is not UTF-8 text ({reason}): convert it.") from None


def chunks(rows: Iterable[str | Sequence[str]], count: int, characters: int) -> Iterator[list]:
    """Yield rows in lists of at most so many, and of about so many characters."""
    chunk, size = [], 0
    for row in rows:
        chunk.append(row)
        size += len(row) if isinstance(row, str) else sum(map(len, row))
        if len(chunk) == count or size > characters:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def csv_rows(
    file: Path | BinaryIO, where: str, suffix: str, quotes: bool | None
) -> Iterator[list[str]]:
    """Yield the header, then the other rows; empty lines are left out."""
    lines, delimiter = text_lines(file, where), "," if suffix == ".csv" else "\t"
    start = next(lines, "")
    if separator := re.fullmatch(r'"?sep=(.)"?\s*', start, re.IGNORECASE):  # Excel's
        start, delimiter = "", separator[1]
    options = {"delimiter": delimiter, "strict": True}
    if not (suffix == ".csv" if quotes is None else quotes):
        options |= {"quoting": csv.QUOTE_NONE, "quotechar": None}
    rows, number, width = csv.reader(chain([start], lines), **options), -1, 0
    try:
        for row in rows:
            if not row or (width > 1 and len(row) == 1 and not row[0].strip()):
                continue
            width = width or len(row)
            if len(row) != width:
                raise csv.Error(f"expected {width} columns, got {len(row)}")
            yield row
            number += 1
    except csv.Error as error:
        at = "the header" if number < 0 else f"row {number}"
        mend = 'put " around a field that holds a separator or a quote, and write its quotes twice'
        mend = "correct it" if options.get("quoting") == csv.QUOTE_NONE else mend
        damaged = f"it cannot be read as {suffix[1:].upper()} ({error})"
        raise UserError(f"{where}, {at}: {damaged}: {mend}.") from None


def parse_json(line: str, where: str) -> dict:
    """Return the object in a line; `UserError` where there is none."""
    try:
        value = json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        damaged = f"it cannot be read as JSON lines ({error})"
        raise UserError(f"{where}: {damaged}: write one object {{...}} in each line.") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: the line holds no JSON object: write {{...}}.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{max(names, key=names.count)}' appears twice")
    return value


def word(value: str | float | None) -> str | None:
    """Return a JSON value as text; a half of a surrogate pair, which is none, becomes `?`."""
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    return text and text.encode("utf-8", "replace").decode()
