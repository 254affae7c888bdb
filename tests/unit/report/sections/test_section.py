"""The interface that every section shares."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from mtkd.report.sections import Section, gain_text, score_table, verdict
from mtkd.report.significance import Compared
from mtkd.report.style import empty_figure
from mtkd.report.table import Table


@dataclass(frozen=True)
class Shouting(Section):
    """A stage's section, as small as one can be."""

    anchor: ClassVar[str] = "shouting"
    title: ClassVar[str] = "Shouting"
    about: ClassVar[str] = "Louder & <louder>."

    def finding(self):
        """Return one sentence."""
        return ["**It helps**: +1.0 points."]

    def tables(self):
        """Return one table."""
        return [Table("shouting", "Shouted", self.rows)]

    def figures(self):
        """Return one figure."""
        return {"shouting": empty_figure("Nothing to see.")}


def test_a_section_is_a_heading_its_finding_figures_and_tables():
    page = Shouting(pd.DataFrame({"System": ["bert"]}))._repr_html_()
    order = ['<h2 id="shouting">', "Louder &amp; &lt;louder&gt;.", "<li><strong>It helps</strong>"]
    order += ['alt="Nothing to see."', "<caption>Shouted"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "**" not in page


def test_a_section_without_parts_is_its_heading():
    assert Section.pairs(None) == Section.finding(None) == Section.tables(None) == []
    assert Section.figures(None) == {}
    assert Section.csv == "results"


def test_comparisons_are_added_to_a_section():
    compared = Compared()
    assert replace(Shouting(pd.DataFrame()), compared=compared).compared is compared


def row(gain: float, low: float = np.nan, high: float = np.nan, seeds: int = 3) -> dict:
    """Return a difference."""
    return {"gain": gain, "low": low, "high": high, "seeds": seeds}


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (row(1.234, 0.5, 2), "+1.23 (+0.50 to +2.00)"),
        (row(-1), "−1.00"),
        (row(np.nan), "–"),
        (None, "–"),
    ],
)
def test_gains_have_their_interval(difference, text):
    assert gain_text(difference) == text


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (row(2, 1, 3), "better"),
        (row(2, 1, 3, seeds=1), "better in this run (one seed)"),
        (row(2), "better in this run (no interval: chance is not ruled out)"),
        (row(1, -1, 3), "not measurably better"),
        (row(-2, -3, -1), "not better"),
        (row(0.001, 0.0005, 0.002), "not better"),
    ],
)
def test_a_verdict_claims_no_more_than_the_interval(difference, words):
    assert verdict(difference) == words


def test_a_run_s_scores():
    columns = {"task": ["rte"], "split": ["validation"], "metric": ["accuracy"]}
    rows = pd.DataFrame({**columns, "value": [61.25], "n": [277], "share": [0.1], "seed": [0]})
    (shown,) = score_table(rows, "share").frame.to_dict("records")
    expected = {"share": 0.1, "task": "rte", "split": "validation", "metric": "accuracy"}
    assert shown == {**expected, "score": "61.2", "n": 277}
