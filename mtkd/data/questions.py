"""Questions (queries) and their candidates: the examples that MT-DNN's ranking learns from.

Liu et al. 2019, arXiv:1901.11504, section 3.
"""

import datasets
import numpy as np
import pandas as pd

from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.tasks import Task


def group_ids(split: datasets.Dataset, column: str) -> np.ndarray:
    """Return a number per row, (n,) from 0, that rows with the same text in a column share."""
    table = split.data.table.select([column])
    hashes = [
        pd.util.hash_pandas_object(batch.column(0).to_pandas(), index=False).to_numpy()
        for batch in table.to_batches()
    ]
    return np.unique(np.concatenate(hashes), return_inverse=True)[1]


def question_ids(split: datasets.Dataset, task: Task) -> np.ndarray:
    """Return the question of each row, (n,): the `idx` of the first row that has it."""
    groups = group_ids(split, task.columns[0])
    first = np.unique(groups, return_index=True)[1]
    return split.data.column("idx").to_numpy()[first][groups]


def rankable(groups: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Tell whether each example's question has several candidates, exactly one of them right.

    `groups` (n,) are the questions, `right` (n,) is true for right candidates.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    return (np.bincount(groups)[groups] > 1) & (np.bincount(groups, right)[groups] == 1)


def rankable_examples(examples: Examples, groups: np.ndarray, task: Task) -> Examples:
    """Return the examples of rankable questions as those of a ranking (`mtkd.tasks.as_ranking`).

    `groups` (n,) are the questions. Candidates of one stand together, with its number as `idx`.

    Raises:
        UserError: if there is none.
    """
    rows = np.flatnonzero(rankable(groups, examples.labels == task.positive_label))
    if not len(rows):
        raise UserError(
            f"{examples.task.title}: no question of its {len(examples)} examples has several "
            "candidates with one right among them: use more examples (data.max_train), or take "
            "the task out of ranking and rank_in_multitask."
        )
    rows = rows[np.argsort(groups[rows], kind="stable")]
    ranked, groups = examples.subset(rows), groups[rows]
    split = ranked.split.remove_columns("idx").add_column("idx", groups)
    return ranked.replace(split=split, task=task, group_ids=groups)
