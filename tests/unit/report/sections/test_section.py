"""The interface that every section shares."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pandas as pd

from mtkd.report.sections import Section
from mtkd.report.style import empty_figure
from mtkd.report.table import Table


@dataclass(frozen=True)
class Shouting(Section):
    """A stage's section, as small as one can be."""

    title: ClassVar[str] = "Shouting"
    about: ClassVar[str] = "Louder & <louder>."

    def finding(self):
        """Return one sentence."""
        return ["**It helps**: +1.0 points."]

    def tables(self):
        """Return one table."""
        return [Table("shouting", "Shouted", self.rows)]

    @cached_property
    def figures(self):
        """One figure."""
        return {"shouting": empty_figure("Nothing to see.")}


def test_a_section_is_a_heading_its_finding_figures_and_tables():
    page = Shouting(pd.DataFrame({"System": ["bert"]}))._repr_html_()
    order = ["<h2>Shouting", "Louder &amp; &lt;louder&gt;.", "<li><strong>It helps</strong>"]
    order += ['alt="Nothing to see."', "<caption>Shouted"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "**" not in page
