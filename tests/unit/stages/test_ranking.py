"""Which questions are ranked, and how predictions are merged and scored."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from integration.stages.small import small

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.stages import ranking
from mtkd.training.predict import group_softmax

QNLI = tasks.get("qnli")  # class 0 is right
GROUPS = np.array([0, 0, 1, 2, 2, 3, 3, 3])
RIGHT = np.array([True, False, True, True, True, False, True, False])
CLASSIFIED = np.stack([np.full(8, 0.6), np.full(8, 0.4)], axis=1)
RANKED = np.array([0.25, 0.75, 1, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3])


def test_questions_with_several_candidates_and_one_right_are_ranked():
    expected = [True, True, False, False, False, True, True, True]
    assert ranking.rankable(GROUPS, RIGHT).tolist() == expected


def test_softmax_over_the_candidates_of_a_question():
    scores = np.array([0.0, np.log(3), 9, 1, 1, 1000.0, 1000, 1000])
    assert group_softmax(GROUPS, scores[:, None])[:, 0] == pytest.approx(RANKED)


def test_a_lone_candidate_keeps_its_classification():
    merged = ranking.merge(QNLI, GROUPS, CLASSIFIED, RANKED)
    expected = [0.425, 0.675, 0.6, 0.55, 0.55, *[(0.6 + 1 / 3) / 2] * 3]
    assert merged[:, 0] == pytest.approx(expected)
    assert merged.sum(axis=1) == pytest.approx(np.ones(8))
    turned = ranking.merge(replace(QNLI, positive_label=1), GROUPS, CLASSIFIED, RANKED)
    expected = [0.325, 0.575, 0.4, 0.45, 0.45, *[(0.4 + 1 / 3) / 2] * 3]
    assert turned[:, 1] == pytest.approx(expected)


def test_a_tie_does_not_count_as_ahead():
    assert ranking.ranks(GROUPS[5:], np.array([0.5, 0.5, 0.9]), RIGHT[5:]).tolist() == [3]


def test_scores_of_each_way():
    rows = ranking.score_ways(QNLI, GROUPS, np.where(RIGHT, 0, 1), CLASSIFIED, RANKED)
    frame = pd.DataFrame(rows).set_index(["way", "metric"])
    assert frame.value["ranking", "top"] == 0 and frame.n["ranking", "top"] == 2
    assert frame.value["ranking", "mrr"] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2, abs=1e-3)
    assert frame.n["merged", "accuracy"] == 8 and ("ranking", "accuracy") not in frame.index


def test_a_study_without_ranking_is_refused():
    assert ranking.runs(small()) == []
    with pytest.raises(UserError, match="Study small ranks no task: name some in its field rank"):
        ranking.run(small(), "bert", 0)
