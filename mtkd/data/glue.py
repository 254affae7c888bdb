"""The tasks as data sets: GLUE's from the hub, from a directory in the hub's layout, or generated; and a study's own."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from mtkd.artifacts import Artifact, file_hash, fingerprint, make, write_json
from mtkd.config.study import Study
from mtkd.config.training import Data
from mtkd.data import custom as files
from mtkd.errors import UserError
from mtkd.paths import folder
from mtkd.tasks import Task

datasets.disable_progress_bars()


def location(data: Data) -> str:
    """Hub id or directory of the GLUE data; the environment variable MTKD_GLUE goes before the study."""
    return os.environ.get("MTKD_GLUE") or data.hub


def origin(data: Data) -> dict:
    """What identifies the data before they are read, for the record of what made a result."""
    if data.source == "synthetic":
        from mtkd.data import synthetic as synthetic

        sources = sorted(Path(synthetic.__file__).parent.glob("*.py"))
        return {"generator": fingerprint([file_hash(path) for path in sources])}
    return origin_of(location(data))


def origin_of(where: str, task: str = "*") -> dict:
    """The hub id, or what identifies the files of a directory in the hub's layout (or those of one task)."""
    folder = Path(where)
    if not folder.is_dir():
        return {"hub": where}
    files = sorted(folder.glob(f"{task}/*.parquet"))
    return {
        "directory": fingerprint([[path.parent.name, path.name, file_hash(path)] for path in files])
    }


def load(
    data: Data, names: list[Task], own: dict[str, dict[str, datasets.Dataset]] | None = None
) -> dict[str, datasets.DatasetDict]:
    """The tasks' splits under the study's limits, checked; `own` holds those of tasks that are not GLUE's, as they were read.

    A split that the data lack is left out (the stage's table names it). Raises `UserError` for what cannot be used:
    no such directory, an unreachable hub, a missing column, labels out of range or in another order, an empty split,
    a train set with one class.
    """
    given = dict(own or {})
    if data.source == "synthetic" and any(task.name not in given for task in names):
        from mtkd.data import synthetic as synthetic

        given = synthetic.generate(seed=data.seed, scale=data.scale) | given
    found = {}
    for task in names:
        splits = given[task.name] if task.name in given else _read(data, task)
        wanted = [*([task.train] if task.train else []), *task.dev, *task.test]
        splits = {
            name: check(task, name, splits[name], task.test) for name in wanted if name in splits
        }
        if task.train and task.train not in splits:
            raise UserError(
                f"{task.title}: the data at {location(data)} have no '{task.train}' split; add it, or take "
                f"'{task.name}' out of the study's tasks."
            )
        if data.holdout_fraction and task.name not in (own or {}):
            splits = _held_back(splits, task, data)
        found[task.name] = datasets.DatasetDict(
            {name: limited(split, task, name, data) for name, split in splits.items()}
        )
    return found


@dataclass(frozen=True)
class Place:
    """A data set of the hub, or a directory in its layout: `where` it is, and the environment variable and the field that say so."""

    kind: str
    where: str
    variable: str
    field: str
    hub: str


def _read(data: Data, task: Task) -> dict[str, datasets.Dataset]:
    return read(
        Place("GLUE", location(data), "MTKD_GLUE", "data.hub", "nyu-mll/glue"),
        task,
        config=task.name,
    )


def read(place: Place, task: Task, config: str | None = None) -> dict[str, datasets.Dataset]:
    """A task's splits as they stand in a directory (`<task>/<split>-*.parquet`), or on the hub under `config`.

    Raises `UserError` where there is no such directory, it lacks the task or is damaged, or the hub cannot be reached.
    """
    folder = Path(place.where)
    if folder.is_dir():
        files: dict[str, list[str]] = {}
        for path in sorted((folder / task.name).glob("*.parquet")):
            files.setdefault(path.stem.split("-")[0], []).append(str(path))
        if not files:
            raise UserError(
                f"{folder} is not a {place.kind} directory: it has no {task.name}/train-*.parquet. Give {place.variable} a "
                f"copy of the hub's {place.hub} (a folder a task with a Parquet file a split)."
            )
        try:
            empty = [
                split
                for split, paths in files.items()
                if not any(parquet.read_metadata(path).num_rows for path in paths)
            ]
            if not empty:
                return {
                    split: datasets.Dataset.from_parquet(paths, keep_in_memory=False)
                    for split, paths in files.items()
                }
        except Exception as error:  # pyarrow and datasets raise many kinds for a damaged file
            raise UserError(
                f"{folder / task.name} cannot be read as Parquet ({_first_line(error)}): copy that folder again."
            ) from None
        raise UserError(
            f"{task.title}, split '{empty[0]}': it has no examples; give it some, or remove its file."
        )
    if place.where.startswith((".", "/", "~")):
        raise UserError(
            f"There is no directory {place.where}: set {place.variable} (or the study's {place.field}) to a directory in the "
            f"layout of the hub's {place.hub}, or to a hub id."
        )
    try:
        return dict(datasets.load_dataset(place.where, config))
    except (
        Exception
    ) as error:  # the hub's client raises many kinds: offline, proxy, gated, not found
        raise UserError(
            f"The hub's data set '{place.where}' ({task.name}) cannot be had ({_first_line(error)}): connect to the network, "
            f"or set {place.variable} to a directory with a copy in the same layout."
        ) from None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


def check(
    task: Task, name: str, split: datasets.Dataset, unlabelled: tuple[str, ...] = ()
) -> datasets.Dataset:
    """The split with exactly the task's columns, `label` and `idx`; `UserError` where it cannot be used."""
    where = f"{task.title}, split '{name}'"
    if missing := [
        column for column in (*task.columns, "label") if column not in split.column_names
    ]:
        raise UserError(
            f"{where}: column '{missing[0]}' is missing (there are {', '.join(split.column_names)}); give it that column."
        )
    if not len(split):
        raise UserError(f"{where}: it has no examples; give it some, or remove its file.")
    if "idx" not in split.column_names:
        split = split.add_column("idx", np.arange(len(split)))
    split = split.select_columns([*task.columns, "label", "idx"])
    split = split if split._indices is None else split.flatten_indices()
    names = getattr(split.features["label"], "names", None)
    if names and task.labels and tuple(names) != task.labels:
        raise UserError(
            f"{where}: its labels are {names}, this task's are {list(task.labels)} in that order; reorder them."
        )
    for column, dtype in (("label", "float32" if task.regression else "int64"), ("idx", "int64")):
        if split.features[column] == datasets.Value(dtype):
            continue
        try:
            split = split.cast_column(column, datasets.Value(dtype))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
            raise UserError(
                f"{where}: column '{column}' holds something else than {'numbers' if dtype == 'float32' else 'whole numbers'} "
                f"({_first_line(error)}); give each row a number."
            ) from None
    idx, labels = (split.data.column(column).to_numpy() for column in ("idx", "label"))
    _check_texts(task, where, split)
    if np.isnan(idx).any():
        raise UserError(
            f"{where}, row {int(np.isnan(idx).argmax())}: idx is empty; number the rows."
        )
    if (np.diff(idx) <= 0).any() and (twice := pd.Series(idx).duplicated()).any():
        raise UserError(
            f"{where}: two rows have idx {int(idx[twice.argmax()])}; number the rows anew."
        )
    if name not in unlabelled:
        _check_labels(task, where, labels, train=name == task.train)
    return split


def _check_texts(task: Task, where: str, split: datasets.Dataset) -> None:
    for column in task.columns:
        first = 0
        for chunk in split.data.column(column).chunks:
            text = pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
            if not text or chunk.null_count:
                row = first + (pc.index(pc.is_null(chunk), True).as_py() if text else 0)
                raise UserError(
                    f"{where}, row {row}: column '{column}' holds no text; fill it in or remove the row."
                )
            first += len(chunk)


def _check_labels(task: Task, where: str, labels: np.ndarray, train: bool) -> None:
    if task.regression:
        bad = ~np.isfinite(labels) | (labels < task.range[0]) | (labels > task.range[1])
        allowed = f"a number from {task.range[0]:g} to {task.range[1]:g}"
    else:
        bad = ~((labels >= 0) & (labels < task.num_outputs))
        allowed = ", ".join(f"{number} ({label})" for number, label in enumerate(task.labels))
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{where}, row {row}: label {labels[row]} is out of range; allowed: {allowed}."
        )
    if train and len(np.unique(labels)) < 2:
        raise UserError(
            f"{where}: all {len(labels)} examples have the label {labels[0]}; a task needs at least two to learn from."
        )


def _held_back(
    splits: dict[str, datasets.Dataset], task: Task, data: Data
) -> dict[str, datasets.Dataset]:
    """Train without the share held back, and that share under the name of the task's first dev split: no other split is seen."""
    if not task.train:
        return {}
    size = round(data.holdout_fraction * len(splits[task.train]))
    if not 0 < size < len(splits[task.train]):
        raise UserError(
            f"data.holdout_fraction: {data.holdout_fraction:g} of {task.title}'s {len(splits[task.train])} train examples leaves none on one "
            "side: give another share."
        )
    parts = splits[task.train].train_test_split(size, seed=data.seed)
    return {
        task.train: parts["train"].flatten_indices(),
        task.dev[0]: parts["test"].flatten_indices(),
    }


def limited(split: datasets.Dataset, task: Task, name: str, data: Data) -> datasets.Dataset:
    """At most `max_train` or `max_dev` examples of a split, drawn by `data.seed`."""
    most = data.max_train if name == task.train else data.max_dev if name in task.dev else None
    if most is None or len(split) <= most:
        return split
    return split.shuffle(seed=data.seed).select(range(most)).flatten_indices()


def rest(
    data: Data, task: Task, most: int, own: dict[str, datasets.Dataset] | None = None
) -> datasets.Dataset | None:
    """Train examples that `data.max_train` leaves out, at most so many; None where there are none. `own`: the splits of an own task."""
    every = load(
        data.model_copy(update={"max_train": None}), [task], {task.name: own} if own else None
    )[task.name][task.train]
    last = min(len(every), (data.max_train or len(every)) + most)
    if last <= (data.max_train or last):
        return None
    return every.shuffle(seed=data.seed).select(range(data.max_train, last)).flatten_indices()


def examples_fingerprint(split: datasets.Dataset, task: Task) -> str:
    """Of the examples themselves (idx and texts, in order): soft targets carry it."""
    digest = hashlib.sha256()
    for batch in split.with_format(None).iter(batch_size=1000):
        digest.update(repr([batch["idx"], *(batch[column] for column in task.columns)]).encode())
    return digest.hexdigest()[:16]


def sizes(tasks: list[Task], found: dict[str, datasets.DatasetDict]) -> pd.DataFrame:
    """Table 1 from the data themselves: a row a split that the official release has.

    Columns: task, title, kind, split, role, examples, labels, majority (percent of the commonest label), words (mean
    an example), overlap (percent of a dev split's examples whose texts stand in train too), missing.
    """
    rows = []
    for task in tasks:
        splits = found[task.name]
        roles = [
            *((task.train, "train") for _ in range(bool(task.train))),
            *((name, "dev") for name in task.dev),
            *((name, "test") for name in task.test),
        ]
        seen = _marks(splits[task.train], task) if task.train else None
        for name, role in roles:
            row = dict(
                task=task.name,
                title=task.title,
                kind=task.kind,
                split=name,
                role=role,
                missing=name not in splits,
                labels=task.num_outputs,
            )
            if name in splits:
                row |= dict(
                    examples=len(splits[name]), words=_words(splits[name], task) / len(splits[name])
                )
                if role != "test" and not task.regression:
                    row["majority"] = (
                        100
                        * np.bincount(splits[name].data.column("label").to_numpy()).max()
                        / len(splits[name])
                    )
                if role == "dev":
                    row["overlap"] = 100 * np.isin(_marks(splits[name], task), seen).mean()
            rows.append(row)
    columns = [
        "task",
        "title",
        "kind",
        "split",
        "role",
        "examples",
        "labels",
        "majority",
        "words",
        "overlap",
        "missing",
    ]
    return pd.DataFrame(rows, columns=columns).round({"majority": 1, "words": 1, "overlap": 2})


def write(split: datasets.Dataset, path: Path) -> None:
    """One memory-mappable Arrow file; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = split.data.table
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=10_000)


def stage(study: Study) -> Artifact:
    """The study's examples: `<task>/<split>.arrow`, `sizes.csv` (Table 1), `fingerprints.json` (task -> split)."""
    names = [study.task(name) for name in study.tasks]
    own = [name for name in study.tasks if name in study.own_tasks]
    inputs = {
        "stage": "data",
        "data": study.data.model_dump(exclude={"hub", "max_length"}),
        "tasks": study.tasks,
        "origin": origin(study.data) if len(own) < len(names) else None,
    }
    inputs |= {"own": {name: files.origin(study, name) for name in own}} if own else {}

    def build(out: Path) -> None:
        found = load(
            study.data, names, {name: files.read(study, name, out / ".read" / name) for name in own}
        )
        for task in names:
            for name, split in found[task.name].items():
                write(split, out / task.name / f"{name}.arrow")
        marks = {
            task.name: {
                name: examples_fingerprint(split, task) for name, split in found[task.name].items()
            }
            for task in names
        }
        write_json(out / "fingerprints.json", marks)
        sizes(names, found).to_csv(out / "sizes.csv", index=False)
        shutil.rmtree(out / ".read", ignore_errors=True)

    return make(folder(study, "data"), inputs, build)


def texts(data: Artifact, tasks: list[Task]) -> Iterator[str]:
    """Every text of the tasks' train sets."""
    for task in tasks:
        split = datasets.Dataset.from_file(str(data.file(f"{task.name}/{task.train}.arrow")))
        yield from (
            text
            for batch in _texts(split, task)
            for column in task.columns
            for text in batch[column]
        )


def splits(data: Artifact, task: Task) -> list[tuple[str, datasets.Dataset]]:
    """(split's name, examples) of a task in a `stage` output."""
    names = data.json("fingerprints.json")[task.name]
    return [
        (name, datasets.Dataset.from_file(str(data.file(f"{task.name}/{name}.arrow"))))
        for name in names
    ]


def _texts(split: datasets.Dataset, task: Task) -> Iterator[pd.DataFrame]:
    """The texts, some thousand examples at a time."""
    for batch in split.data.table.select(list(task.columns)).to_batches(max_chunksize=files.ROWS):
        yield batch.to_pandas()


def _words(split: datasets.Dataset, task: Task) -> int:
    return sum(
        len(text.split())
        for texts in _texts(split, task)
        for column in task.columns
        for text in texts[column]
    )


def _marks(split: datasets.Dataset, task: Task) -> np.ndarray:
    """64 bits an example that are the same for the same texts: a large split's texts would not fit into memory."""
    return np.concatenate(
        [pd.util.hash_pandas_object(texts, index=False).to_numpy() for texts in _texts(split, task)]
    )
