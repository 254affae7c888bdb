"""The verdict on simulated pairs of runs of the same truth, and of another."""

import json

import numpy as np
import pandas as pd
import pytest

from mtkd import paths
from mtkd.report.verdict import (
    compare_with_reference,
    dev_error,
    expected_difference,
    verdict_table,
)

EXAMPLES = np.array([250, 400, 1000, 850])  # of four tasks' dev sets


def simulate(draw: np.random.Generator, seeds: int, quality: float, spreads: tuple[float, float]):
    """Return a run's averages by seed, and their standard error by dev examples.

    Models are right with a probability that varies over seeds and over runs (`spreads`).
    """
    own, shared = spreads
    right = quality + shared * draw.normal() + own * draw.normal(size=(seeds, 1))
    accuracy = draw.binomial(EXAMPLES, np.repeat(right, 4, axis=1)) / EXAMPLES
    mean = accuracy.mean(axis=0)
    error = 100 * np.sqrt((mean * (1 - mean) / EXAMPLES).sum()) / 4
    return 100 * accuracy.mean(axis=1), error


def rate(seeds: int, spreads=(0.0, 0.0), shift: float = 0.0) -> float:
    """Return how many of 2,000 pairs of runs reproduce each other; `shift`: of the quality."""
    draw, count = np.random.default_rng(seeds), 0
    for _ in range(2000):
        here = simulate(draw, seeds, 0.75, spreads)
        there = simulate(draw, seeds, 0.75 + shift, spreads)
        expected = expected_difference([here[0], there[0]], [here[1], there[1]])
        count += abs(here[0].mean() - there[0].mean()) <= expected
    return count / 2000


def test_the_rate_of_one_seed_is_nominal_where_only_examples_vary():
    assert 0.93 <= rate(1) <= 0.97
    assert 0.85 <= rate(1, (0.005, 0.005)) <= 0.92  # as documented


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spreads", [(0.0, 0.0), (0.01, 0.0), (0.02, 0.0), (0.01, 0.01)])
def test_runs_of_the_same_truth_reproduce(seeds, spreads):
    assert rate(seeds, spreads) >= 0.95


@pytest.mark.parametrize(("seeds", "most"), [(1, 0.02), (2, 0.4), (3, 0.05), (5, 0.01)])
def test_runs_of_another_truth_do_not(seeds, most):
    assert rate(seeds, (0.005, 0.0), shift=-0.07) <= most


def test_standard_errors_by_hand(rows):
    results = rows(
        ("a", "rte", "validation", "accuracy", (80.0,)),
        ("a", "stsb", "validation", "pearson", (60.0,)),
        ("a", "stsb", "validation", "spearman", (60.0,)),
        ("a", "mnli", "validation_matched", "accuracy", (80.0,)),
        ("a", "mnli", "validation_mismatched", "accuracy", (80.0,)),
    )  # of 100 examples each
    assert dev_error(results, "a", ["rte"]) == pytest.approx(4.0)
    assert dev_error(results, "a", ["stsb"]) == pytest.approx(6.4)
    assert dev_error(results, "a", ["mnli"]) == pytest.approx(4.0 / 2**0.5)
    assert dev_error(results, "a", ["rte", "stsb"]) == pytest.approx((16 + 6.4**2) ** 0.5 / 2)
    values = [np.array([70.0, 72.0, 74.0]), np.array([71.0, 73.0])]
    seeds = 3.1824 * (10 / 3) ** 0.5 * (1 / 3 + 1 / 2) ** 0.5
    assert expected_difference(values, [0.0, 0.0]) == pytest.approx(seeds, rel=1e-4)
    assert expected_difference([values[0][:1]] * 2, [3.0, 4.0]) == pytest.approx(1.96 * 5)


def test_equal_results_but_for_the_seconds(rows):
    results = rows(("mt-dnn", "rte", "validation", "accuracy", (80.0, 81.0)))
    same = verdict_table(results, results.assign(seconds=9.0), [])
    assert same.caption == "This run is equal to the reference to the digit."
    value = results["value"].where(results.index > 0, results["value"] + 0.1)
    near = verdict_table(results, results.assign(value=value), [])
    assert near.caption == "This run reproduces the reference: 1 of 1 systems."


def test_candidates_are_not_judged(rows):
    lines = {"mt-dnn": 80.0, "candidate/a-0-s0": 70.0, "candidate/a-0-s0:mtl": 60.0}
    results = rows(*[(one, "rte", "validation", "accuracy", (lines[one],)) for one in lines])
    for reference in (
        results.head(1),
        results.assign(value=results["value"].where(lambda x: x > 75, 0)),
    ):
        table = verdict_table(results, reference, [])
        assert table.caption == "This run is equal to the reference to the digit."
        assert list(table.frame["System"]) == ["MT-DNN"] and "candidate" not in table.text()


def test_the_table_shows_the_main_systems_and_what_is_not_reproduced(rows):
    here = rows(*[(one, "rte", "validation", "accuracy", (80.0,)) for one in ("mt-dnn", "x", "y")])
    there = here.assign(value=here["value"].where(here["system"] != "x", 50.0))
    more = there.assign(system="only-there").head(1)
    table = verdict_table(here, pd.concat([there, more]), [])
    assert "does not reproduce the reference on x (1 of 3 systems" in table.caption
    shown = table.frame.set_index("System")
    assert list(shown.index) == ["MT-DNN", "x"] and shown.loc["x", "Reproduced"] == "**no**"
    assert shown.loc["x", "Difference"] == "+30.00" and shown.loc["MT-DNN", "Seeds"] == "1/1"
    text = table.text()
    assert max(map(len, text.splitlines())) <= 100
    assert "\nIn one of the two only: only-there" in text
    assert "Not shown: 1 further systems" in text and "**" not in text


def test_against_the_written_reference(tmp_path, monkeypatch, rows):
    for name in ("reports", "reference"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(paths, "reports", lambda study: tmp_path / "reports")
    monkeypatch.setattr(paths, "find", lambda path: tmp_path / "reference")
    assert compare_with_reference("small") is None
    results = rows(("mt-dnn", "rte", "validation", "accuracy", (80.0,)))
    for seed, name in enumerate(("reports", "reference")):
        results.to_csv(tmp_path / name / "results.csv", index=False)
        study = {"a": 1, "seeds": [seed]} | ({"new": []} if name == "reports" else {})
        (tmp_path / name / "run.json").write_text(json.dumps({"study": study}))
    found = compare_with_reference("small")
    assert "equal to the reference" in found.caption
    assert found.notes[1:] == ["The reference has other settings in: seeds."]
