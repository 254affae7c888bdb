"""Texts for a task that nobody labelled for it: SNLI's pairs, its own train set beyond the study's limit, other tasks' texts."""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Unlabelled
from mtkd.config.study import Study
from mtkd.data import custom as files
from mtkd.data import glue as load
from mtkd.data import snli as transfer
from mtkd.tasks import Task


def texts(
    study: Study, task: Task, given: Unlabelled, data: Artifact, scratch: Path
) -> datasets.Dataset:
    """The texts in the task's columns, numbered from 0 (idx), with the label that says it is unknown: -1, NaN for a regression.

    `data` is the study's data stage; an own task's files are read to `scratch`. None of the texts is an example of the task's
    train set, and there may be none. Raises `UserError` where there is no SNLI.
    """
    parts = []
    if given.snli:
        parts.append(
            _drawn(
                [transfer.snli("train")],
                [("premise", "hypothesis")],
                task,
                given.snli,
                study.data.seed,
            )
        )
    if given.left_out_train:
        own = files.read(study, task.name, scratch) if task.name in study.own_tasks else None
        if (left := load.rest(study.data, task, given.left_out_train, own)) is not None:
            parts.append(left.to_pandas()[list(task.columns)])
    if given.other_tasks:
        others = [
            other
            for other in map(study.task, study.multitask)
            if other.name != task.name and len(other.columns) == 2
        ]
        if others:
            sets = [dict(load.splits(data, other))[other.train] for other in others]
            parts.append(
                _drawn(
                    sets,
                    [other.columns for other in others],
                    task,
                    given.other_tasks,
                    study.data.seed,
                )
            )
    train = dict(load.splits(data, task))[task.train].to_pandas()[list(task.columns)]
    found = pd.concat(parts or [train[:0]], ignore_index=True).drop_duplicates()
    found = found[
        ~found.set_index(list(task.columns)).index.isin(train.set_index(list(task.columns)).index)
    ]
    table = {column: found[column].tolist() for column in task.columns}
    table |= {
        "label": np.full(len(found), np.nan if task.regression else -1),
        "idx": np.arange(len(found)),
    }
    kinds = {column: "string" for column in task.columns} | {
        "label": "float32" if task.regression else "int64",
        "idx": "int64",
    }
    return datasets.Dataset.from_dict(
        table,
        features=datasets.Features({name: datasets.Value(kind) for name, kind in kinds.items()}),
    )


def _drawn(
    sets: list[datasets.Dataset], columns: list[tuple], task: Task, most: int, seed: int
) -> pd.DataFrame:
    """At most so many rows of all of these sets, in the task's columns; of a pair, a task of one text has the first."""
    parts = [
        found.to_pandas()[list(named[: len(task.columns)])].set_axis(list(task.columns), axis=1)
        for found, named in zip(sets, columns, strict=True)
    ]
    both = pd.concat(parts, ignore_index=True)
    return both.iloc[np.random.default_rng(seed).permutation(len(both))[:most]]
