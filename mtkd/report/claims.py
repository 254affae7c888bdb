"""What MT-DNN_KD claims (Liu et al. 2019, arXiv:1904.09482), and what came out here.

A claim is a weighted sum over tasks of one system's gain over another. It is *reproduced* where its
95 % interval is above zero, *not reproduced* where it is below, and otherwise *not established*.
The share of the ensembles' gain that the student keeps is *reproduced* where its interval is above
zero and does not end below the published share, and *not reproduced* where it ends below that. With
one seed nothing is established, since the interval leaves out how training varies.
"""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from mtkd.report import published
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, is_aside
from mtkd.report.significance import ONE_RUN, Kept, Resampled, estimate, even
from mtkd.report.table import NONE, Table, gain_text, number, percent
from mtkd.tasks import GLUE

OUTCOMES = ("reproduced", "not reproduced", "not established")
COLUMNS = ["Claim", "In the paper", "Published", "Here", "Outcome"]
NOTES = [
    "Reproduced: the 95 % interval is above zero; not reproduced: below; not established: it "
    "includes zero, there is one seed, or there are no such scores. Each claim is one test. Points "
    "on dev over the tasks that both systems have; published: from Table 3, one run of BERT-large "
    "on all of GLUE.",
    "Smaller tasks: points gained per tenfold fewer training examples, as used here (slope of "
    "least squares over at least five tasks). The share kept is reproduced where its interval is "
    f"above zero and reaches the published share. Tasks are fixed in all intervals. {ONE_RUN}",
]

Weights = dict[str, float]  # by task
Sizes = dict[str, float]  # training examples by task


def _without_teacher(tasks: Collection[str], teachers: Collection[str], sizes: Sizes) -> Weights:
    return even([task for task in tasks if task not in teachers])


def _rte(tasks: Collection[str], teachers: Collection[str], sizes: Sizes) -> Weights:
    return even([task for task in tasks if task == "rte" and task in teachers])


def _smaller(tasks: Collection[str], teachers: Collection[str], sizes: Sizes) -> Weights:
    """Return the slope of least squares over the logarithm of the size, downwards."""
    tasks = [task for task in tasks if sizes.get(task)]
    size = np.log10([sizes[task] for task in tasks])
    if len(tasks) < 5 or not np.ptp(size):
        return {}
    away = size.mean() - size
    return dict(zip(tasks, away / (away**2).sum(), strict=True))


def _all(tasks: Collection[str], teachers: Collection[str], sizes: Sizes) -> Weights:
    return even(tasks)


CLAIMS: list[tuple[str, str, str, str, Callable[..., Weights]]] = [
    ("MT-DNN beats BERT", "Table 3", BASE, "bert", _all),
    ("MT-DNN_KD beats MT-DNN", "4.3, first conclusion", STUDENT, BASE, _all),
    ("the ensembles beat MT-DNN", "1; Table 3", ENSEMBLE, BASE, _all),
    ("smaller tasks gain more", "4.2, last paragraph", STUDENT, BASE, _smaller),
    ("tasks without a teacher gain", "4.2 and 4.3, ends", STUDENT, BASE, _without_teacher),
    ("the student beats its teacher on RTE", "Table 3", STUDENT, ENSEMBLE, _rte),
]
KEPT = ("the student keeps the ensembles' gain", "4.3, second conclusion")


def claims(
    resampled: Resampled, kept: Kept, teachers: Collection[str], train_sizes: Sizes
) -> Table:
    """Return one row per claim, see `COLUMNS`.

    `kept` is the share of the ensembles' gain, `teachers` are the tasks with a teacher, and
    `train_sizes` are those used here.
    """
    rows, paper = [], published.scores()
    paper_sizes = {task: float(GLUE[task].num_train) for task in published.TASKS}
    for claim, where, a, b, weigh in CLAIMS:
        weights = weigh(published.TASKS, published.TEACHERS, paper_sizes)
        figure = sum(weight * (paper[task][a] - paper[task][b]) for task, weight in weights.items())
        tasks = [task for task in resampled.tasks(a, b) if not is_aside(task)]
        values = resampled.differences(a, b, weigh(tasks, teachers, train_sizes))
        here, outcome = NONE, "not established"
        if not values.empty:
            found = estimate(values)
            here, outcome = gain_text(found), judge(found)
        rows.append([claim, where, number(figure, 2, sign=True), here, outcome])
    share = published.gains()["kept"]["average"]
    rows.append([*KEPT, percent(share), kept_text(kept), judge_kept(kept, share)])
    return Table("claims", "The paper's claims", pd.DataFrame(rows, columns=COLUMNS), NOTES)


def judge(found: dict[str, float]) -> str:
    """Return the outcome of a claim that `significance.estimate` (its result) is above zero."""
    sure = found["seeds"] > 1
    if sure and found["low"] > 0:
        return "reproduced"
    return "not reproduced" if sure and found["high"] < 0 else "not established"


def judge_kept(kept: Kept, share: float) -> str:
    """Return the outcome of the claim that the student keeps the published share."""
    if kept.seeds > 1 and kept.high < share:
        return "not reproduced"
    return "reproduced" if kept.seeds > 1 and kept.low > 0 else "not established"


def kept_text(kept: Kept) -> str:
    """Return the share kept with its interval."""
    if np.isnan(kept.share):
        return "not established"
    return f"{percent(kept.share)} ({percent(kept.low)} to {percent(kept.high)})"


def sentence(table: Table) -> str:
    """Return which claims had which outcome."""
    frame = table.frame
    parts = [
        f"{outcome}: {', '.join(frame['Claim'][frame['Outcome'] == outcome]) or 'none'}"
        for outcome in OUTCOMES
    ]
    return f"Of the paper's {len(frame)} claims, {'; '.join(parts)}."
