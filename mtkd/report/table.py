"""A table as text: Markdown, CSV and HTML of one frame, and how figures are written."""

import html
import math
import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

NONE = "–"
MINUS = "−"
_BOLD = re.compile(r"\*\*(.+?)\*\*")


@dataclass
class Table:
    """Cells are text in which `**` marks bold; `notes` stand below the table."""

    name: str
    caption: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    divide: tuple[int, ...] = ()  # rows that begin a new part; a reader sorts each part by itself
    words: bool = False  # cells are prose, not figures
    prose: tuple[str, ...] = ()  # columns of prose among figures

    def markdown(self) -> str:
        lines = [list(map(str, self.frame.columns)), *self.frame.astype(str).values.tolist()]
        lines = [[_markdown(cell).replace("|", "\\|") for cell in line] for line in lines]
        rule = ["---", *["---:"] * (len(lines[0]) - 1)] if lines[0] else []
        body = "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
        notes = "".join(f"- {_markdown(note)}\n" for note in self.notes)
        return f"**{_markdown(self.caption)}**\n\n{body}\n" + (f"\n{notes}" if notes else "")

    def csv(self) -> str:
        return self.frame.map(lambda cell: _BOLD.sub(r"\1", str(cell))).to_csv(
            index=False, lineterminator="\n"
        )

    def html(self) -> str:
        head = "".join(
            f'<th scope="col">{bold_html(column).replace("/", "/<wbr>")}</th>'
            for column in self.frame.columns
        )
        parts = [[]]
        for line, row in enumerate(self.frame.astype(str).values.tolist()):
            cells = "".join(
                f"<td{self._kind(place, cell)}>{bold_html(cell).replace(' / ', ' /<br>').replace(' (', ' <wbr>(')}</td>"
                for place, cell in enumerate(row[1:], 1)
            )
            if line in self.divide and line:
                parts.append([])
            parts[-1].append(
                f'<tr><th scope="row">{bold_html(row[0])}</th>{cells}</tr>' if row else ""
            )
        body = "".join(f"<tbody>{''.join(part)}</tbody>" for part in parts)
        notes = "".join(f"<li>{bold_html(note)}</li>" for note in self.notes)
        below = f'<ul class="notes">{notes}</ul>' if notes else ""
        label = html.escape(_BOLD.sub(r"\1", self.caption))
        return (
            f'<div class="mtkd-table{" words" if self.words else ""}" role="region" tabindex="0" aria-label="{label}">'
            f"<table><caption>{bold_html(self.caption)}</caption><thead><tr>{head}</tr></thead>{body}</table></div>{below}"
        )

    def _kind(self, column: int, cell: str) -> str:
        """Marks a cell of prose, and one that stays on one line among prose: a figure, or an interval."""
        if self.frame.columns[column] in self.prose:
            return ' class="prose"'
        return ' class="short"' if len(cell) < 18 else ""

    _repr_html_ = html

    def __str__(self) -> str:
        return self.markdown()


def bold_html(text) -> str:
    """Text for HTML, escaped; `**` marks bold."""
    return _BOLD.sub(r"<strong>\1</strong>", html.escape(str(text)))


def _markdown(text) -> str:
    """Text for Markdown: no markup of its own, on one line."""
    return " ".join(html.escape(str(text), quote=False).split())


def number(value, digits: int = 1, sign: bool = False) -> str:
    """A figure as text, a dash where there is none; a rounded zero bears no minus."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", MINUS) if float(text) else f"{0:.{digits}f}"


def spread(values) -> str:
    """Mean ± standard deviation of values, one a seed; a dash where there is none."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return NONE
    return number(values.mean()) + (f" ± {number(values.std(ddof=1))}" if len(values) > 1 else "")


def gained(row) -> str:
    """A difference in points (`gain`) with its interval (`low`, `high`), where it has one."""
    text = number(row["gain"], 1, sign=True)
    return text + (
        f" ({number(row['low'], 1, sign=True)} to {number(row['high'], 1, sign=True)})"
        if math.isfinite(row["low"])
        else ""
    )


def count(value) -> str:
    """A whole number with thousands marked, a dash where there is none."""
    return NONE if value is None or pd.isna(value) else f"{int(value):,}"


def percent(share: float) -> str:
    """A share as percent; above twice the whole, as over a gain near zero, its figure says nothing more."""
    if not math.isfinite(share):
        return NONE
    return "> 200 %" if share > 2 else f"{number(100 * share, 0)} %"
