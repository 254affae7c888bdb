"""What the stages' notebooks show."""

from types import SimpleNamespace

import pandas as pd
import pytest

from mtkd.report import notebook


@pytest.mark.parametrize("source", ["glue", "custom"])
def test_texts_of_others_are_not_shown(source):
    study = SimpleNamespace(data=SimpleNamespace(source=source))
    shown = notebook.examples(study, None)  # no data are read at all
    assert not len(shown.frame) and "none is shown" in shown.html()


def test_scores_beside_the_members():
    rows = pd.DataFrame({"task": ["rte"], "split": ["validation"], "metric": ["accuracy"]})
    ensemble, member = rows.assign(value=60.0, n=1234), rows.assign(value=55.0, candidate="a-0.1")
    ensemble = pd.concat([ensemble, ensemble.assign(split="selection")])  # which is not shown
    assert notebook.scores(ensemble, member).frame.to_dict("records") == [
        {
            **{"Task": "RTE", "Split": "validation", "Metric": "accuracy"},
            **{"Score": "60.0", "Examples": "1,234", "a-0.1": "55.0"},
        }
    ]


def test_lengths():
    row = {"task": "rte", "split": "train", "examples": 2490, "mean": 70.2, "longest": 1289}
    shown = notebook.lengths(pd.DataFrame([row | {"cut": 12.21}])).frame
    assert shown.loc[0].tolist() == ["RTE", "train", "2,490", "70.2", "1,289", "12.21"]


def test_selection():
    frame = {"candidate": ["a", "b"], "encoder": ["a", "b"], "dropout": [0.1, 0.2], "seed": 0}
    frame = pd.DataFrame(frame | {"rte": [60, 59], "mean": [60, 59], "kept": [True, False]})
    shown = notebook.selection(frame).frame
    assert list(shown) == ["candidate", "RTE", "mean", "kept"]
    assert shown.loc[0].tolist() == ["a", "60.0", "60.0", "**yes**"]


def test_scores_by_further_columns():
    columns = {"task": ["rte"], "split": ["validation"], "metric": ["accuracy"]}
    rows = pd.DataFrame({**columns, "value": [61.25], "n": [277], "share": [0.1], "seed": [0]})
    (shown,) = notebook.scores(rows, by=("share",)).frame.to_dict("records")
    expected = {"Share": 0.1, "Task": "RTE", "Split": "validation", "Metric": "accuracy"}
    assert shown == {**expected, "Score": "61.2", "Examples": "277"}


def test_an_encoder():
    about = {"from": "pretrain", "recipe": {"vocab_size": 400}, "tokens": 20000, "loss": [[1, 6.0]]}
    values = dict(notebook.origin(about).frame.values)
    assert values == {"from": "pretrain", "tokens": "20000", "vocab size": "400"}
