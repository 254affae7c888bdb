"""The report's sections on further stages: a small module each, with the interface `Section`."""

import html
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from mtkd.report import scores
from mtkd.report.significance import Compared
from mtkd.report.style import Shown
from mtkd.report.table import NONE, Table, bold_html, number


@dataclass(frozen=True)
class Section:
    """A part of the report; `mtkd.stages.report` makes it where the study runs its stage.

    Attributes:
        rows: the stage's scores, for `<csv>.csv`; those for results.csv follow the other systems'.
        compared: the comparisons of `pairs` by their predictions.
    """

    csv: ClassVar[str] = "results"
    anchor: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    rows: pd.DataFrame
    compared: Compared = field(default_factory=Compared, kw_only=True)

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of systems to compare."""
        return []

    def finding(self) -> list[str]:
        """Return at most five sentences of Markdown on what the results show."""
        return []

    def tables(self) -> list[Table]:
        """Return the section's tables."""
        return []

    def figures(self) -> dict[str, Figure]:
        """Return the section's figures by file name."""
        return {}

    def _repr_html_(self) -> str:
        finding = "".join(f"<li>{bold_html(sentence)}</li>" for sentence in self.finding())
        parts = [f'<h2 id="{self.anchor}">{self.title}</h2>', f"<p>{html.escape(self.about)}</p>"]
        parts += [f"<ul>{finding}</ul>"] if finding else []
        parts += [Shown(figure)._repr_html_() for figure in self.figures().values()]
        return "\n".join(parts + [table.html() for table in self.tables()])


@dataclass(frozen=True)
class SystemsSection(Section):
    """A section on further systems, beside the main ones on the same tasks.

    Attributes:
        results: rows of results.csv of the study's main systems.
        tasks: those of the further systems.
    """

    results: pd.DataFrame
    tasks: list[str]

    @cached_property
    def scored(self) -> pd.DataFrame:
        """Rows of all systems on `tasks`."""
        rows = pd.concat([self.results, self.rows], ignore_index=True)
        return rows[rows["task"].isin(self.tasks)]

    @property
    def averaged(self) -> list[str]:
        """Tasks that averages are over."""
        return scores.averaged(self.scored) or self.tasks

    @cached_property
    def averages(self) -> pd.DataFrame:
        """Average by system and seed (`scores.averages`)."""
        return scores.averages(self.scored, self.averaged)

    @property
    def means(self) -> pd.Series:
        """Average by system, mean over seeds."""
        return self.averages.groupby("system")["average"].mean()

    def gains(self, system: str, base: str) -> pd.DataFrame:
        """Return gains of a system over another by task and on average (`scores.gains`)."""
        frame = scores.gains(self.scored, self.compared, system, base)
        return frame[frame["gain"].notna()]


def gain_text(row, digits: int = 2) -> str:
    """Return a difference (`gain`) in points with its interval (`low`, `high`) where it has one."""
    if row is None or not math.isfinite(row["gain"]):
        return NONE
    gain, low, high = (number(row[key], digits, sign=True) for key in ("gain", "low", "high"))
    return f"{gain} ({low} to {high})" if math.isfinite(row["low"]) else gain


def verdict(row) -> str:
    """Return whether a difference is for the better: `gain`, `low`, `high` (points), `seeds`."""
    if round(row["gain"], 2) <= 0:
        return "not better"
    if not math.isfinite(row["low"]):
        return "better in this run (no interval: chance is not ruled out)"
    if row["low"] <= 0:
        return "not measurably better"
    return "better" if row["seeds"] > 1 else "better in this run (one seed)"


def score_table(rows: pd.DataFrame, *columns: str) -> Table:
    """Return one run's dev scores in percent, with these columns beside task, split and metric."""
    frame = rows[[*columns, "task", "split", "metric", "value", "n"]]
    frame = frame.assign(value=frame["value"].map(number))
    return Table("scores", "Dev scores in percent", frame.rename(columns={"value": "score"}))
