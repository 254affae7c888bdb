"""The report's sections on further stages: a module each, with a class and a function `section`.

`section(study, results, artifacts)` makes it, or None where the study does not run the stage:
`results` are the main systems' rows of results.csv, `artifacts` maps a stage's name to its
artifacts by run.
"""

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from mtkd.artifacts import Artifact
from mtkd.report import scores
from mtkd.report.significance import Compared
from mtkd.report.style import Shown
from mtkd.report.table import Table, bold_html, count, spread

Artifacts = Callable[[str], dict[Any, Artifact]]


def rows_of(study_name: str, artifacts: Iterable[Artifact], file: str) -> pd.DataFrame:
    """Return the artifacts' rows of a file of scores, the study's name first."""
    rows = pd.concat([artifact.frame(file) for artifact in artifacts], ignore_index=True)
    rows.insert(0, "study", study_name)
    return rows


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        csv: the file of `rows`; those for results.csv follow the other systems'.
        rows: the stage's scores.
        compared: the comparisons of `pairs` by their predictions.
    """

    csv: ClassVar[str] = "results"
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

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The section's figures by file name."""
        return {}

    def _repr_html_(self) -> str:
        finding = "".join(f"<li>{bold_html(sentence)}</li>" for sentence in self.finding())
        parts = [f"<h2>{self.title}</h2>", f"<p>{html.escape(self.about)}</p>"]
        parts += [f"<ul>{finding}</ul>"] if finding else []
        parts += [Shown(figure)._repr_html_() for figure in self.figures.values()]
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

    @cached_property
    def means(self) -> pd.Series:
        """Average by system, mean over seeds."""
        return scores.averages(self.scored).groupby("system")["average"].mean()

    def cells(self, system: str, text: Callable[[pd.Series], str] = spread) -> dict[str, str]:
        """Return the texts of a system's scores over seeds, on average and by task."""
        wide, over = scores.by_seed(self.scored, system), scores.averaged(self.scored)
        known = wide.reindex(columns=scores.in_order(self.tasks))
        average = wide.reindex(columns=over).dropna().mean(axis=1)
        seeds = {"Seeds": count((wide.index >= 0).sum() or None), "Average": text(average)}
        return seeds | {scores.title(task): text(known[task].dropna()) for task in known}

    def gains(self, system: str, base: str) -> pd.DataFrame:
        """Return gains of a system over another by task and on average (`scores.gains`)."""
        frame = scores.gains(self.scored, self.compared, system, base)
        return frame[frame["gain"].notna()]

    def gain(self, system: str, base: str) -> pd.Series:
        """Return the gain on average; NaN where the systems share no task."""
        return self.gains(system, base).reindex(["average"]).loc["average"]

    @property
    def averaged(self) -> str:
        """Which tasks averages are over."""
        return f"average over {', '.join(map(scores.title, scores.averaged(self.scored)))}"
