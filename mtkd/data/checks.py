"""Whether a split can be used for a task; what is wrong with it otherwise, and in which row."""

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa

from mtkd.data.dataset import WORD_STARTS, flat
from mtkd.data.files import check_text
from mtkd.errors import UserError, first_line
from mtkd.tasks import Task


def check_split(
    task: Task, name: str, split: datasets.Dataset, unlabelled: tuple[str, ...] = ()
) -> datasets.Dataset:
    """Return the split with the task's columns, `label` and `idx`, if it can be used.

    Raises:
        UserError: Task, split and row, and what is wrong with it.
    """
    where = f"{task.title}, split '{name}'"
    for column in (*task.columns, "label"):
        if column not in split.column_names:
            there = ", ".join(split.column_names)
            raise UserError(f"{where}: column '{column}' is missing (there are {there}): add it.")
    if not len(split):
        raise UserError(f"{where}: it has no examples: add some, or remove its file.")
    if "idx" not in split.column_names:
        split = split.add_column("idx", np.arange(len(split)))
    words = [WORD_STARTS] if task.by_word else []
    split = split.select_columns([*task.columns, *words, "label", "idx"])
    split = split if split._indices is None else split.flatten_indices()
    names = getattr(split.features["label"], "names", None)
    if names and task.labels and tuple(names) != task.labels:
        order = f"its labels are {names}, the task's are {list(task.labels)} in that order"
        raise UserError(f"{where}: {order}: reorder them.")
    if not task.by_unit:
        split = _cast(split, "label", "float32" if task.regression else "int64", where)
    split = _cast(split, "idx", "int64", where)
    for column in task.columns:
        first = 0
        for chunk in split.data.column(column).chunks:
            check_text(chunk, column, where, first)
            first += len(chunk)
        if split.features[column] == datasets.Value("string_view"):  # as Polars writes it
            split = _cast(split, column, "string", where)
    idx = split.data.column("idx").to_numpy()
    if np.isnan(idx).any():
        raise UserError(f"{where}, row {np.isnan(idx).argmax()}: idx is empty: number the rows.")
    if (twice := pd.Series(idx).duplicated()).any():
        raise UserError(f"{where}: two rows have idx {idx[twice.argmax()]}: number the rows anew.")
    if name not in unlabelled:
        labels = flat(split.data.column("label"))
        _check_labels(task, where, labels, train=name == task.train)
    return split


def _cast(split: datasets.Dataset, column: str, dtype: str, where: str) -> datasets.Dataset:
    if split.features[column] == datasets.Value(dtype):
        return split
    try:
        return split.cast_column(column, datasets.Value(dtype))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        wanted = "numbers" if dtype == "float32" else "whole numbers"
        held = f"column '{column}' holds something else than {wanted} ({first_line(error)})"
        raise UserError(f"{where}: {held}: give each row a number.") from None


def _check_labels(task: Task, where: str, labels: np.ndarray, train: bool) -> None:
    if task.regression:
        low, high = task.range
        valid = np.isfinite(labels) & (labels >= low) & (labels <= high)
        allowed = f"a number from {low:g} to {high:g}"
    elif task.grouped:
        return
    elif task.generates:
        valid, allowed = labels != "", "a text"
    else:
        valid = (labels >= 0) & (labels < task.num_outputs)
        allowed = ", ".join(f"{number} ({label})" for number, label in enumerate(task.labels))
    if not valid.all():
        row = int(valid.argmin())
        wrong = f"label {labels[row]} is out of range"
        raise UserError(f"{where}, row {row}: {wrong}; allowed: {allowed}.")
    if train and len(np.unique(labels)) < 2:
        same = f"all {len(labels)} examples have the label {labels[0]}"
        raise UserError(f"{where}: {same}: a task needs at least two to learn from.")
