"""GLUE's tasks as data sets: from the hub, from a directory in the hub's layout, or generated."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from mtkd.artifacts import file_hash, fingerprint
from mtkd.config.training import Data
from mtkd.data import synthetic
from mtkd.data.checks import check_split
from mtkd.data.dataset import WORD_STARTS, flat
from mtkd.data.examples import Hashes, select_listed
from mtkd.data.files import ROWS
from mtkd.errors import UserError, first_line
from mtkd.tasks import Task

datasets.disable_progress_bars()

Splits = dict[str, datasets.Dataset]


def glue_location(data: Data) -> str:
    """Return the hub id or directory of GLUE: MTKD_GLUE, or else the study's."""
    return os.environ.get("MTKD_GLUE") or data.hub


def source_fingerprint(data: Data) -> dict:
    """Return what identifies the data before they are read."""
    if data.source == "synthetic":
        return {"generator": synthetic.VERSION}
    return directory_fingerprint(glue_location(data))


def directory_fingerprint(where: str, task: str = "*") -> dict:
    """Return a hub id, or the hash of a directory's files (of one task)."""
    if not Path(where).is_dir():
        return {"hub": where}
    paths = sorted(Path(where).glob(f"{task}/*.parquet"))
    hashes = [[path.parent.name, path.name, file_hash(path)] for path in paths]
    return {"directory": fingerprint(hashes)}


def load_tasks(
    data: Data,
    tasks: list[Task],
    custom: dict[str, Splits] | None = None,
    listed: dict[str, Hashes] | None = None,
) -> dict[str, datasets.DatasetDict]:
    """Read the splits of tasks, check them, and apply the study's limits.

    Args:
        data: Source and limits.
        tasks: The tasks to read.
        custom: Splits of custom tasks (`mtkd.data.custom.read_custom_task`).
        listed: The study's list of examples (`mtkd.data.examples.read_list`).

    Returns:
        Task -> split -> examples; a split that the data lack is left out.

    Raises:
        UserError: No such directory, an unreachable hub, a missing column, labels out of range or
            in another order, an empty split, a training set with one class, or listed examples
            that are missing.
    """
    given, loaded = dict(custom or {}), {}
    if data.source == "synthetic" and any(task.name not in given for task in tasks):
        given = synthetic.generate(seed=data.seed, scale=data.scale) | given
    for task in tasks:
        where = glue_location(data)
        splits = given.get(task.name) or read_splits(where, task, "MTKD_GLUE", config=task.name)
        names = [name for name in (task.train, *task.dev, *task.test) if name in splits]
        splits = {name: check_split(task, name, splits[name], task.test) for name in names}
        if task.train and task.train not in splits:
            missing = f"the data at {where} have no '{task.train}' split"
            raise UserError(f"{task.title}: {missing}: add it, or remove the task from the study.")
        in_order = task.name in (listed or {})
        if in_order:
            splits = select_listed(splits, task, listed[task.name], where)
        if data.holdout_fraction and task.name not in (custom or {}):
            splits = _hold_out(splits, task, data)
        for name, split in splits.items():
            splits[name] = limit_split(split, task, name, data, in_order)
        loaded[task.name] = datasets.DatasetDict(splits)
    return loaded


def read_splits(where: str, task: Task, variable: str, config: str | None = None) -> Splits:
    """Read a task's splits as they are from a directory or the hub.

    Args:
        where: A directory with `<task>/<split>-*.parquet`, or a hub id.
        task: The task.
        variable: The environment variable that sets `where`, for messages.
        config: Configuration of the hub's data set.

    Raises:
        UserError: No such directory, a missing or damaged file, or an unreachable hub.
    """
    mend = f"set {variable} to a directory with <task>/<split>-*.parquet, as on the hub"
    if not Path(where).is_dir():
        if where.startswith((".", "/", "~")):
            raise UserError(f"There is no directory {where}: {mend}.")
        try:
            return dict(datasets.load_dataset(where, config))
        except Exception as error:  # the hub's client raises many kinds: offline, gated, unknown
            what = f"The hub's data set '{where}' ({task.name}) is unavailable"
            raise UserError(f"{what} ({first_line(error)}): connect, or {mend}.") from None
    files: dict[str, list[str]] = {}
    for path in sorted(Path(where, task.name).glob("*.parquet")):
        files.setdefault(path.stem.split("-")[0], []).append(str(path))
    if not files:
        raise UserError(f"{where} has no {task.name}/train-*.parquet: {mend}.")
    try:
        rows = {split: map(parquet.read_metadata, paths) for split, paths in files.items()}
        empty = [split for split, parts in rows.items() if not any(p.num_rows for p in parts)]
        if not empty:
            return {split: datasets.Dataset.from_parquet(paths) for split, paths in files.items()}
    except Exception as error:  # pyarrow and datasets raise many kinds for a damaged file
        what = f"{Path(where, task.name)} cannot be read as Parquet ({first_line(error)})"
        raise UserError(f"{what}: copy that folder again.") from None
    raise UserError(f"{task.title}, split '{empty[0]}': it has no examples: remove its files.")


def _hold_out(splits: Splits, task: Task, data: Data) -> Splits:
    """Return train without the fraction held out, and that as dev set; no other split is seen."""
    if not task.train:
        return {}
    train, fraction = splits[task.train], data.holdout_fraction
    size = round(fraction * len(train))
    if not 0 < size < len(train):
        of = f"{fraction:g} of {task.title}'s {len(train)} train examples"
        raise UserError(f"data.holdout_fraction: {of} leaves none on one side: give another.")
    parts = train.train_test_split(size, seed=data.seed)
    held = {task.train: parts["train"], task.dev[0]: parts["test"]}
    return {name: split.flatten_indices() for name, split in held.items()}


def limit_split(
    split: datasets.Dataset, task: Task, name: str, data: Data, in_order: bool = False
) -> datasets.Dataset:
    """Return at most `max_train` or `max_dev` examples of a split, drawn by `data.seed`.

    With `in_order`, those of a train set are its first.
    """
    train, dev = name == task.train, name in task.dev
    most = data.most_train(task.name) if train else data.max_dev if dev else None
    if most is None or len(split) <= most:
        return split
    drawn = split if in_order and train else split.shuffle(seed=data.seed)
    return drawn.select(range(most)).flatten_indices()


def left_out_train(
    data: Data,
    task: Task,
    most: int,
    splits: Splits | None = None,
    listed: dict[str, Hashes] | None = None,
) -> datasets.Dataset | None:
    """Return at most so many training examples that `data.max_train` leaves out; None: no such.

    `splits` are those of a custom task; of a `listed` task, the examples that follow in the list.
    """
    everything = data.model_copy(update={"max_train": None, "max_train_of": {}})
    custom = {task.name: splits} if splits else None
    train = load_tasks(everything, [task], custom, listed)[task.name][task.train]
    first = data.most_train(task.name) or len(train)
    last = min(len(train), first + most)
    if last <= first:
        return None
    drawn = train if task.name in (listed or {}) else train.shuffle(seed=data.seed)
    return drawn.select(range(first, last)).flatten_indices()


def examples_fingerprint(split: datasets.Dataset, task: Task) -> str:
    """Return a hash of idx and texts in their order, those to write too; soft targets carry it."""
    digest, columns = hashlib.sha256(), list(task.columns)
    columns += [WORD_STARTS] * task.by_word + ["label"] * task.generates
    for batch in split.with_format(None).iter(batch_size=1000):
        digest.update(repr([batch["idx"], *(batch[column] for column in columns)]).encode())
    return digest.hexdigest()[:16]


def table1(tasks: list[Task], splits: dict[str, datasets.DatasetDict]) -> pd.DataFrame:
    """Count what Table 1 (MT-DNN_KD) lists, one row per official split.

    Returns:
        Columns task, title, kind, split, role (train, dev or test), examples, labels, majority
        (percent of the most frequent label), words (mean per example), overlap (percent of a dev
        split's examples whose texts are in train, too), missing (whether the data lack the split).
    """
    rows = []
    for task in tasks:
        train = splits[task.name].get(task.train)
        seen = None if train is None else _row_hashes(train, task)
        roles = {task.train: "train"} if task.train else {}
        roles |= dict.fromkeys(task.dev, "dev") | dict.fromkeys(task.test, "test")
        for name, role in roles.items():
            split = splits[task.name].get(name)
            row = {"task": task.name, "title": task.title, "kind": task.kind, "split": name}
            row |= {"role": role, "labels": len(task.labels) or 1, "missing": split is None}
            if split is not None:
                row |= {"examples": len(split), "words": _words(split, task) / len(split)}
                if role != "test" and not (task.regression or task.grouped or task.generates):
                    counts = np.bincount(flat(split.data.column("label")))
                    row["majority"] = 100 * counts.max() / counts.sum()
                if role == "dev":
                    row["overlap"] = 100 * np.isin(_row_hashes(split, task), seen).mean()
            rows.append(row)
    columns = ["task", "title", "kind", "split", "role", "examples", "labels"]
    columns += ["majority", "words", "overlap", "missing"]
    return pd.DataFrame(rows, columns=columns).round({"majority": 1, "words": 1, "overlap": 2})


def write_arrow(split: datasets.Dataset, path: Path) -> None:
    """Write one memory-mappable Arrow file; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = split.data.table
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=ROWS)


def _texts(split: datasets.Dataset, task: Task) -> Iterator[pd.DataFrame]:
    for batch in split.data.table.select(list(task.columns)).to_batches(max_chunksize=ROWS):
        yield batch.to_pandas()


def _words(split: datasets.Dataset, task: Task) -> int:
    columns = (texts[column] for texts in _texts(split, task) for column in task.columns)
    return sum(len(text.split()) for column in columns for text in column)


def _row_hashes(split: datasets.Dataset, task: Task) -> np.ndarray:
    """Return 64 bits per row: a large split's texts would not fit into memory."""
    hashes = [pd.util.hash_pandas_object(texts, index=False) for texts in _texts(split, task)]
    return np.concatenate([batch.to_numpy() for batch in hashes])
