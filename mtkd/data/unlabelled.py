"""Unlabelled texts for a task: SNLI, its own left-out training examples, other tasks' texts."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from mtkd.config.distillation import Unlabelled
from mtkd.config.study import Study
from mtkd.data.custom import read_custom_task
from mtkd.data.examples import read_list
from mtkd.data.glue import Splits, left_out_train
from mtkd.data.snli import load_snli
from mtkd.tasks import SELECTION, SNLI, Task


def unlabelled_texts(
    study: Study,
    task: Task,
    settings: Unlabelled,
    splits: Callable[[str], Splits],
    scratch: Path,
) -> datasets.Dataset:
    """Return texts that are not in the task's splits to train and to select on, or none.

    Args:
        study: The study.
        task: The task that the texts are for; if it has one text, it gets the first of a pair.
        settings: How many texts of which kind.
        splits: Returns the study's splits of a task by its name.
        scratch: Folder for reading a custom task's files.

    Returns:
        The task's columns, `idx` from 0, and as `label` -1, or NaN for a regression; the same texts
        with their own labels for `labels: gold`.

    Raises:
        UserError: SNLI is unavailable.
    """
    columns, seed, parts = list(task.columns), study.data.seed, []
    own = splits(task.name)
    used = [own[name].to_pandas() for name in (task.train, SELECTION) if name in own]
    train = pd.concat(used, ignore_index=True)
    if settings.snli:
        parts.append(_draw([(load_snli("train"), SNLI)], columns, settings.snli, seed))
    if settings.left_out_train:
        files = task.name in study.own_tasks
        custom = read_custom_task(study, task.name, scratch) if files else None
        most = settings.left_out_train + len(own.get(SELECTION, ()))  # which are the first
        left = left_out_train(study.data, task, most, custom, read_list(study))
        parts += [] if left is None else [left.to_pandas()[[*columns, "label"]]]
    if settings.other_tasks:
        others = [study.task(one) for one in study.multitask if one not in study.rankings]
        others = [other for other in others if other.name != task.name]
        pairs = [other for other in others if len(other.columns) == 2]
        sets = [(splits(other.name)[other.train], other) for other in pairs]
        parts += [_draw(sets, columns, settings.other_tasks, seed)] if sets else []
    texts = pd.concat(parts or [train[:0]], ignore_index=True).drop_duplicates(columns)
    known = texts.set_index(columns).index.isin(train.set_index(columns).index)
    texts = texts[~known]
    table = {column: texts[column].tolist() for column in columns}
    table["label"] = np.full(len(texts), np.nan if task.regression else -1)
    if settings.labels == "gold":
        table["label"] = texts["label"].to_numpy()
    table["idx"] = np.arange(len(texts))
    types = dict.fromkeys(columns, "string")
    types |= {"label": "float32" if task.regression else "int64", "idx": "int64"}
    features = datasets.Features({name: datasets.Value(dtype) for name, dtype in types.items()})
    return datasets.Dataset.from_dict(table, features=features)


def _draw(
    sets: list[tuple[datasets.Dataset, Task]], columns: list[str], most: int, seed: int
) -> pd.DataFrame:
    """Return at most so many rows of all sets together, their texts under the given columns."""
    frames = []
    for split, task in sets:
        frame = split.to_pandas()[list(task.columns[: len(columns)])]
        frames.append(frame.set_axis(columns, axis=1))
    rows = pd.concat(frames, ignore_index=True)
    return rows.iloc[np.random.default_rng(seed).permutation(len(rows))[:most]]
