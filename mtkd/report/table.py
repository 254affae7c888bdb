"""A table in Markdown, CSV, HTML or plain text, and how numbers are written."""

import html
import math
import re
import textwrap
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

NONE = "–"
MINUS = "−"
WIDTH = 100  # of text on a terminal
_BOLD = re.compile(r"\*\*(.+?)\*\*")


@dataclass
class Table:
    """A frame of text cells, in which `**` marks bold, with notes below.

    `divide` is the row that begins a second part: a reader sorts each part by itself.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    divide: int = 0

    def _lines(self) -> list[list[str]]:
        return [list(map(str, self.frame.columns)), *self.frame.astype(str).values.tolist()]

    def markdown(self) -> str:
        """Return caption, table and notes in Markdown."""
        lines = [[_escaped(cell).replace("|", "\\|") for cell in line] for line in self._lines()]
        lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"- {_escaped(note)}\n" for note in self.notes)
        return f"**{_escaped(self.caption)}**\n\n{body}\n" + (f"\n{notes}" if notes else "")

    def csv(self) -> str:
        """Return the cells as CSV, without marks of bold."""
        return self.frame.map(plain).to_csv(index=False, lineterminator="\n")

    def text(self) -> str:
        """Return the table for a terminal: at most `WIDTH` columns, numbers to the right."""
        lines = [[plain(cell) for cell in line] for line in self._lines()]
        first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
        first = min(first, WIDTH - sum(widths) - 2 * len(widths))
        body = [
            "  ".join([head[:first].ljust(first), *map(str.rjust, cells, widths)])
            for head, *cells in lines
        ]
        caption, *notes = (textwrap.fill(part, WIDTH) for part in (self.caption, *self.notes))
        return "\n".join([caption, "", *body, "", *notes])

    def html(self) -> str:
        """Return the table as an HTML region that scrolls sideways, with its notes."""
        heads, *lines = self._lines()
        columns = zip(heads, *lines, strict=True)
        kinds = ["prose" if max(map(len, cells)) > 40 else "" for cells in columns]
        head = _row(heads, kinds, "col", "th")
        rows = [_row(line, kinds, "row", "td") for line in lines]
        parts = [rows[: self.divide], rows[self.divide :]] if self.divide else [rows]
        body = "".join(f"<tbody>{''.join(part)}</tbody>" for part in parts)
        table = f"<caption>{bold_html(self.caption)}</caption><thead>{head}</thead>{body}"
        region = f'role="region" tabindex="0" aria-label="{html.escape(plain(self.caption))}"'
        notes = "".join(f"<li>{bold_html(note)}</li>" for note in self.notes)
        below = f'<ul class="notes">{notes}</ul>'
        return f'<div class="mtkd-table" {region}><table>{table}</table></div>{below}'

    _repr_html_ = html


def _row(line: list[str], kinds: list[str], scope: str, tag: str) -> str:
    """Return a row of HTML whose first cell is a head; the others are of this tag."""
    texts = (html.escape(cell).replace(" / ", " /<br>").replace(" (", " <wbr>(") for cell in line)
    first, *rest = (_BOLD.sub(r"<strong>\1</strong>", text) for text in texts)
    cells = [f'<{tag} class="{k}">{text}</{tag}>' for k, text in zip(kinds[1:], rest, strict=True)]
    return f'<tr><th scope="{scope}">{first}</th>{"".join(cells)}</tr>'


def plain(text) -> str:
    """Return text without marks of bold."""
    return _BOLD.sub(r"\1", str(text))


def bold_html(text) -> str:
    """Return text escaped for HTML; `**` marks bold."""
    return _BOLD.sub(r"<strong>\1</strong>", html.escape(str(text)))


def _escaped(text) -> str:
    """Return text on one line without HTML of its own."""
    return " ".join(html.escape(str(text), quote=False).split())


def number(value, digits: int = 1, sign: bool = False) -> str:
    """Return a number as text, a dash for none; a rounded zero has no sign."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", MINUS) if float(text) else f"{0:.{digits}f}"


def gain_text(row, digits: int = 2) -> str:
    """Return a difference (`gain`) in points with its interval (`low`, `high`) where it has one."""
    gain = number(row["gain"], digits, sign=True)
    return f"{gain} ({span(row, digits)})" if math.isfinite(row["low"]) else gain


def p_text(p: float) -> str:
    """Return a p value with three digits, "<.001" below; a dash for none."""
    if not math.isfinite(p):
        return NONE
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def span(row, digits: int = 2) -> str:
    """Return a row's interval (`low`, `high`) as text; a dash for none."""
    low, high = (number(row[end], digits, sign=True) for end in ("low", "high"))
    return f"{low} to {high}" if math.isfinite(row["low"]) else NONE


def spread(values) -> str:
    """Return mean ± standard deviation of values, one per seed; a dash for none."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return NONE
    return number(values.mean()) + (f" ± {number(values.std(ddof=1))}" if len(values) > 1 else "")


def count(value) -> str:
    """Return a whole number with thousands separated, a dash for none."""
    return NONE if value is None or pd.isna(value) else f"{int(value):,}"


def percent(share: float) -> str:
    """Return a share in percent, "> 200 %" above two: over a gain near zero it says no more."""
    if not math.isfinite(share):
        return NONE
    return "> 200 %" if share > 2 else f"{number(100 * share, 0)} %"
