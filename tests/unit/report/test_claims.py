"""The paper's claims: published figures by hand, and outcomes on simulated studies."""

import math

import numpy as np
import pandas as pd
import pytest

from mtkd import tasks
from mtkd.report import claims, significance
from mtkd.report.published import TASKS, TEACHERS
from mtkd.report.significance import PAIRS, Kept, Resampled, compare

SIZES = {name: float(tasks.get(name).num_train) for name in TASKS}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Fewer draws."""
    monkeypatch.setattr(significance, "DRAWS", 200)


def predictions(name: str, accuracy: float, seed: int) -> pd.DataFrame:
    """Return predictions of 400 examples of which a system gets about a share right."""
    task, place = tasks.get(name), np.arange(400)
    random = np.random.default_rng([seed, round(1e4 * accuracy), len(name)])
    right = place < 400 * accuracy + random.integers(-2, 3)
    labels = place % task.num_outputs
    outputs = np.eye(task.num_outputs)[(labels + ~right) % task.num_outputs]
    if task.regression:
        labels = place / 80
        noise = (1 - accuracy) * 5 * np.random.default_rng(seed).normal(size=400)
        outputs = (labels + noise)[:, None]
    frame = {"task": name, "idx": place, "label": labels.astype("float32")}
    parts = [pd.DataFrame(frame | {"split": s, "outputs": list(outputs)}) for s in task.dev]
    return pd.concat(parts, ignore_index=True)


def table(rights: dict, seeds: int = 3, sizes=SIZES, teachers=TEACHERS, names=TASKS) -> dict:
    """Return outcome and text by claim; `rights` are accuracies, or functions of a task."""
    parts = [
        (
            system,
            seed,
            predictions(
                name, right(name) if callable(right) else right, 0 if math.isnan(seed) else seed
            ),
        )
        for system, right in rights.items()
        for seed in ([math.nan] if system.endswith("ensemble") else range(seeds))
        for name in names
    ]
    resampled = Resampled([tasks.get(name) for name in names], parts)
    kept = compare(resampled, PAIRS).kept
    frame = claims.claims(resampled, kept, teachers, sizes).frame
    return {row.Claim: (row.Outcome, row.Here) for row in frame.itertuples()}


ORDER = {"bert": 0.6, "mt-dnn": 0.7, "mt-dnn-kd": 0.8, "mt-dnn-ensemble": 0.81}


def test_published_figures():
    frame = claims.claims(Resampled([], []), Kept(), [], {}).frame.set_index("Claim")
    assert list(frame["Published"]) == [
        "+2.47",
        "+1.25",
        "+1.41",
        "+1.40",
        "+1.00",
        "+1.90",
        "88 %",
    ]
    assert set(frame["Outcome"]) == {"not established"}
    smaller = np.polyfit(np.log10([*SIZES.values()]), [0.4, 0.1, 5.2, 0.3, 2.75, 1.0, 0.0, 0.25], 1)
    assert frame["Published"]["smaller tasks gain more"] == f"{-smaller[0]:+.2f}"
    assert np.mean([2.75, 1.0, 0.0, 0.25]) == 1.0  # MRPC, CoLA, SST-2 and STS-B have no teacher


def test_what_the_paper_claims_is_reproduced_where_it_is_so():
    found = table(ORDER)
    for claim in ("MT-DNN beats BERT", "MT-DNN_KD beats MT-DNN", "the ensembles beat MT-DNN"):
        assert found[claim][0] == "reproduced", claim
    assert found["tasks without a teacher gain"][0] == "reproduced"
    assert found[claims.KEPT[0]][0] == "reproduced" and " % (" in found[claims.KEPT[0]][1]


def test_the_opposite_is_not_reproduced():
    found = table({"bert": 0.8, "mt-dnn": 0.7, "mt-dnn-kd": 0.6, "mt-dnn-ensemble": 0.75})
    for claim in ("MT-DNN beats BERT", "MT-DNN_KD beats MT-DNN", "tasks without a teacher gain"):
        assert found[claim][0] == "not reproduced", claim
    assert found["the student beats its teacher on RTE"][0] == "not reproduced"
    assert found[claims.KEPT[0]][0] == "not reproduced"


def test_no_share_of_a_gain_that_is_not_established():
    found = table(ORDER | {"mt-dnn-ensemble": 0.7})
    assert found[claims.KEPT[0]] == ("not established", "not established")


def test_one_seed_establishes_nothing():
    assert {outcome for outcome, _ in table(ORDER, seeds=1).values()} == {"not established"}


@pytest.mark.parametrize(("sign", "outcome"), [(1, "reproduced"), (-1, "not reproduced")])
def test_the_trend_with_size_is_of_the_sizes_used_here(sign, outcome):
    sizes = {name: 10.0 ** (2 + place % 4) for place, name in enumerate(TASKS)}
    gains = {name: 0.03 * sign * (5 - math.log10(size)) for name, size in sizes.items()}
    found = table({"mt-dnn": 0.7, "mt-dnn-kd": lambda name: 0.7 + gains[name]}, sizes=sizes)
    assert found["smaller tasks gain more"][0] == outcome
    flat = table({"mt-dnn": 0.7, "mt-dnn-kd": 0.8}, sizes=dict.fromkeys(TASKS, 100.0))
    assert flat["smaller tasks gain more"] == ("not established", "–")


def test_rte_counts_where_it_has_a_teacher():
    claim = "the student beats its teacher on RTE"
    rights = ORDER | {"mt-dnn-ensemble": 0.6}
    assert table(rights, names=("rte", "cola"))[claim][0] == "reproduced"
    assert table(rights, names=("rte", "cola"), teachers=["cola"])[claim][1] == "–"


def test_the_share_is_judged_by_its_interval():
    assert claims.judge_kept(Kept(0.9, 0.5, 1.2, 3), 0.88) == "reproduced"
    assert claims.judge_kept(Kept(1.5, 1.1, 1.9, 3), 0.88) == "reproduced"
    assert claims.judge_kept(Kept(0.5, 0.2, 0.8, 3), 0.88) == "not reproduced"
    assert claims.judge_kept(Kept(0.9, -0.1, 1.9, 3), 0.88) == "not established"
    assert claims.judge_kept(Kept(0.9, 0.5, 1.2, 1), 0.88) == "not established"


def test_the_sentence_names_every_claim():
    found = claims.claims(Resampled([], []), Kept(), [], {})
    text = claims.sentence(found)
    assert text.startswith("Of the paper's 7 claims, reproduced: none; not reproduced: none; not")
    assert all(claim in text for claim in found.frame["Claim"])
