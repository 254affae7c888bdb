"""The published tables against sums by hand."""

import pytest

from mtkd.report import published


def test_gains():
    gains = published.gains()
    assert gains.loc["average", "gain"] == pytest.approx(1.25)
    assert gains.loc["average", "kept"] == pytest.approx(10.0 / 11.3)  # sums of the eight gains
    assert gains.loc["rte", "gain"] == pytest.approx(88.6 - 83.4)


def test_tables_are_as_printed():
    table3 = published.read("table3")
    assert tuple(table3.columns) == published.TASKS
    assert table3.loc["bert", "mrpc"] == "85.8/89.5"  # accuracy/F1, unlike the paper


def test_small_models_have_a_source_each_and_none_is_mkd_s():
    frame = published.read("small_models")
    assert len(frame) == 13 and frame["Source"].str.len().min() > 20
    assert not frame.index.str.contains("MKD").any()
