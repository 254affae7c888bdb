"""Which examples are ranked: questions with several candidates and one right among them."""

import datasets
import numpy as np
import pytest
from small_training import random_examples

from mtkd import tasks
from mtkd.data.questions import question_ids, rankable, rankable_examples
from mtkd.errors import UserError

QNLI = tasks.get("qnli")  # class 0 is right
RANKED = tasks.as_ranking(QNLI)


def test_a_question_has_the_number_of_its_first_candidate():
    columns = {"question": ["b", "a", "b", "c", "a"], "sentence": list("vwxyz")}
    split = datasets.Dataset.from_dict(columns | {"idx": [7, 3, 5, 9, 1]})
    assert question_ids(split, QNLI).tolist() == [7, 3, 7, 9, 3]


def test_numbers_of_questions_may_be_any():
    groups = np.array([10**12, 10**12, 5, 9, 9, 2, 2, 2])
    right = np.array([1, 0, 1, 1, 1, 0, 1, 0], dtype=bool)
    assert rankable(groups, right).tolist() == [True, True, False, False, False, True, True, True]


def test_the_candidates_of_a_question_stand_together_with_its_number():
    # By row, question 4: 0, 3, 6, one right; 1: 1, 4, both right; 2: 2, 5, one right; 9: 7 alone.
    groups = np.array([4, 1, 2, 4, 1, 2, 4, 9])
    examples = random_examples(QNLI, 8)  # labels 0, 1, 0, 1 ...
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 0])
    split = examples.split.remove_columns("label").add_column("label", labels)
    found = rankable_examples(examples.replace(split=split), groups, RANKED)
    assert found.idx.tolist() == found.group_ids.tolist() == [2, 2, 4, 4, 4]
    assert found.labels.tolist() == labels[[2, 5, 0, 3, 6]].tolist()
    pieces = [examples.split["input_ids"][row] for row in (2, 5, 0, 3, 6)]
    assert [list(ids) for ids in found.split["input_ids"]] == [list(ids) for ids in pieces]
    assert found.task == RANKED and found.fingerprint == examples.fingerprint
    assert found.epoch_size == 5
    batch = found.batch(np.array([2, 3, 4, 0, 1]))
    assert batch.task == "qnli_ranked" and batch.group_ids.tolist() == [4, 4, 4, 2, 2]


def test_a_split_without_a_question_to_rank_is_refused():
    message = r"QNLI: no question of its 6 examples has several .*max_train.*rank_in_multitask"
    with pytest.raises(UserError, match=message):
        rankable_examples(random_examples(QNLI, 6), np.arange(6), RANKED)
