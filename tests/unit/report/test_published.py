"""The published tables against sums by hand and the tasks' own figures."""

import pytest

from mtkd import tasks
from mtkd.report import neighbours, published


def test_gains():
    gains = published.gains()
    assert gains.loc["average", "gain"] == pytest.approx(1.25)
    assert gains.loc["average", "kept"] == pytest.approx(10.0 / 11.3)  # sums of the eight gains
    assert gains.loc["rte", "gain"] == pytest.approx(88.6 - 83.4)


def test_tables_are_as_printed():
    assert tuple(published.table3().columns) == published.TASKS
    assert published.table3().loc["bert", "mrpc"] == "89.5/85.8"
    assert published.table3(accuracy_first=True).loc["bert", "mrpc"] == "85.8/89.5"
    assert published.table2().loc["MT-DNN_KD", "score"] == "83.7"
    assert published.size("cola") == 8500 and published.size("wnli") == 634
    assert published.size("snli") != published.size("snli")  # NaN: no task of the paper


def test_sizes_agree_with_the_tasks():
    for name, row in published.table1().iterrows():
        assert tuple(row[["train", "dev", "test"]]) == tasks.get(name).published
        assert row["corpus"] == tasks.get(name).title


def test_every_neighbour_has_a_source():
    assert set(neighbours.frame()["Source"]) == set(neighbours.SOURCES)
    assert len(neighbours.table().frame) == 13
