"""A list of the examples that a study uses: the same ones from any data that contain them.

The list is a Parquet file with a row per example: `task`, `split`, and `hash`, the first 6 bytes of
the SHA-256 of the UTF-8 JSON `["text","text",label]`. These are the task's text columns in their
order and the label: an integer, or of a regression the shortest decimal that is the same float32,
such as 3.8 or 5.0. There are no blanks between them, and only quotation marks, backslashes and
control characters are escaped. The list holds no text.
"""

import hashlib
import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from mtkd.config.study import Study
from mtkd.config.training import Data
from mtkd.data.files import check_file
from mtkd.errors import UserError, first_line
from mtkd.tasks import Task, get

SCHEMA = pa.schema(
    {
        "task": pa.dictionary(pa.int32(), pa.string()),
        "split": pa.dictionary(pa.int32(), pa.string()),
        "hash": pa.binary(6),
    }
)
Hashes = dict[str, np.ndarray]  # split -> (n,) hashes of its examples, in order


def list_path(study: Study) -> Path | None:
    """Return the path of a study's list; None: it has none. `UserError` where it is not there."""
    listed = study.data.examples
    return check_file(study.resolve(listed), "data.examples") if listed else None


def read_list(study: Study) -> dict[str, Hashes]:
    """Return task -> split -> hashes of a study's list, empty if it has none.

    Raises:
        UserError: The file is missing, or no such list.
    """
    path = list_path(study)
    if path is None:
        return {}
    try:
        frame = parquet.read_table(path, columns=SCHEMA.names).cast(SCHEMA).to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        what = f"data.examples: {path} is no list of examples ({first_line(error)})"
        raise UserError(f"{what}: give a Parquet file with task, split and hash.") from None
    listed: dict[str, Hashes] = {}
    for (task, split), part in frame.groupby(["task", "split"], sort=False, observed=True):
        listed.setdefault(task, {})[split] = part["hash"].to_numpy()
    return listed


def hash_rows(split: datasets.Dataset, task: Task) -> np.ndarray:
    """Return the hash of each row, (n,) of 6 bytes each; the module says of what."""
    hashes = []
    for batch in split.with_format("arrow").iter(batch_size=10_000):
        labels = batch.column("label").to_numpy()
        labels = labels.astype(str).astype(float) if task.regression else labels
        texts = [batch.column(name).to_pylist() for name in task.columns]
        for row in zip(*texts, labels.tolist(), strict=True):
            content = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
            hashes.append(hashlib.sha256(content.encode()).digest()[:6])
    return np.array(hashes, dtype=object)


def select_listed(
    splits: dict[str, datasets.Dataset], task: Task, listed: Hashes, where: str
) -> dict[str, datasets.Dataset]:
    """Return a task's train and dev splits as listed, and its test splits whole.

    A listed split has the listed rows in the list's order, and `idx` is the position in the list;
    of rows with the same content, the k-th in the list is the k-th of the data. A train or dev
    split that is not listed is left out.

    Args:
        splits: The splits after `mtkd.data.checks.check_split`.
        task: The task.
        listed: Its part of the list.
        where: Where the data are, for messages.

    Raises:
        UserError: A listed example is not in the data, or no training example is listed.
    """
    if task.train and task.train not in listed:
        raise UserError(f"data.examples has no '{task.train}' example of {task.title}: list some.")
    chosen = {name: split for name, split in splits.items() if name in task.test}
    for name, hashes in listed.items():
        there = hash_rows(splits[name], task) if name in splits else []
        rows = _numbered(there).get_indexer(_numbered(hashes))
        if missing := int((rows < 0).sum()):
            some = f"{missing} of the {len(rows)} examples of {task.title}, split '{name}'"
            raise UserError(
                f"{some} that data.examples lists are not in the data at {where}: set MTKD_GLUE "
                "to data that have them, leave it unset to take the hub's, or make another list."
            )
        split = splits[name].select(rows).flatten_indices().remove_columns("idx")
        chosen[name] = split.add_column("idx", np.arange(len(rows)))
    return {name: chosen[name] for name in (task.train, *task.dev, *task.test) if name in chosen}


def _numbered(hashes: np.ndarray | list) -> pd.MultiIndex:
    """Return hashes with the number of equal ones before each, which makes them distinct."""
    series = pd.Series(hashes, dtype=object)
    return pd.MultiIndex.from_arrays([series, series.groupby(series).cumcount()])


def write_list(
    path: Path, splits: dict[str, dict[str, datasets.Dataset]], most: int, seed: int
) -> None:
    """Write a list: of each train set at most so many examples, drawn by a seed; all dev examples.

    Of QNLI's, those of questions with several candidates come first.

    Args:
        path: The file to write.
        splits: Task of GLUE -> split -> examples; test splits are left out.
        most: Most training examples of a task.
        seed: Seed of their choice and order.
    """
    parts = []
    for task in map(get, splits):
        for name in (task.train, *task.dev):
            if (split := splits[task.name].get(name)) is None:
                continue
            hashes = hash_rows(split, task)
            if name == task.train:
                order = np.random.default_rng(seed).permutation(len(split))
                if task.name == "qnli":  # ranking needs questions with several candidates
                    several = pd.Series(split["question"][:]).duplicated(keep=False).to_numpy()
                    order = order[np.argsort(~several[order], kind="stable")]
                hashes = np.asarray(hashes)[order[:most]]
            about = {"task": task.name, "split": name}
            parts.append(pd.DataFrame({"hash": hashes, **about}))
    table = pa.Table.from_pandas(pd.concat(parts), SCHEMA, preserve_index=False)
    parquet.write_table(table, path, compression="zstd", use_dictionary=["task", "split"])


def main() -> None:
    """Write a list of GLUE's examples: `python -m mtkd.data.examples FILE MOST TASK...`."""
    from mtkd.data.glue import load_tasks  # which reads lists

    file, most, *names = sys.argv[1:]
    write_list(Path(file), load_tasks(Data(), list(map(get, names))), int(most), seed=0)


if __name__ == "__main__":
    main()
