"""Own tasks' examples: CSV, TSV, JSON lines, Parquet or a hub data set, streamed into Arrow files in the shape of GLUE's."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet
from pyarrow import dataset as arrow
from torch import nn

from mtkd.artifacts import file_hash
from mtkd.config.custom_task import OwnTask
from mtkd.config.study import Study
from mtkd.errors import UserError

KINDS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".parquet": "Parquet"}
ROWS = 10_000  # examples in memory at a time


def origin(study: Study, name: str) -> dict:
    """What identifies an own task's examples before they are read."""
    own = study.own_tasks[name]
    sources = {
        split: file_hash(_file(study, name, source))
        for split, source in own.splits.items()
        if not own.hub
    }
    if own.hub and (folder := study.place(own.hub)).is_dir():
        sources = {
            str(path.relative_to(folder)): file_hash(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    return {"task": own.model_dump(), "sources": sources}


def count(study: Study, name: str) -> int:
    """About how many train examples an own task has (lines of a text file), for estimates; 0 for the hub's."""
    own = study.own_tasks[name]
    return (
        0
        if own.hub
        else _lines(
            path := _file(study, name, own.train),
            path.stat().st_mtime_ns,
            f"own_tasks.{name} ({own.train})",
        )
    )


@lru_cache
def _lines(path: Path, changed: int, where: str) -> int:
    if path.suffix.lower() == ".parquet":
        try:
            return parquet.read_metadata(path).num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(where, "Parquet", error) from None
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def read(study: Study, name: str, scratch: Path) -> dict[str, datasets.Dataset]:
    """The splits of an own task as memory-mapped data sets of its text columns, `label` and `idx`, written to `scratch`.

    A label is the number of its class, -1 where a test split has none. Raises `UserError` for what cannot be read, a
    missing column and a label that is none of the task's, with the row (from 0).
    """
    own, found = study.own_tasks[name], {}
    if hasattr(nn.ModuleDict(), name):
        raise UserError(
            f"own_tasks.{name}: '{name}' is a word of the model's own: give the task another name, such as {name}_task."
        )
    scratch.mkdir(parents=True, exist_ok=True)
    for split, source in own.splits.items():
        where = f"{name}, split '{split}' ({own.hub or source})"
        free = split == "test"  # of labels
        raw = (
            _hub(own, study, source, where, free)
            if own.hub
            else rows(_file(study, name, source), where, own, free)
        )
        found[split] = _written(_examples(raw, own, name, where, free), scratch / f"{split}.arrow")
    if isinstance(own.dev, float):
        found |= _held_out(
            found["train"],
            own.dev,
            study.data.seed,
            name,
            scratch,
            own.columns[0] if own.type == "ranking" else None,
        )
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _file(study: Study, name: str, source: str) -> Path:
    return checked(study.place(source), f"own_tasks.{name}")


def checked(path: Path, where: str) -> Path:
    """The path of a file that could be read; `UserError` where it is none."""
    known = ", ".join(KINDS)
    if path.is_dir():
        raise UserError(f"{where}: {path} is a folder: name the file in it ({known}).")
    if not path.is_file():
        raise UserError(
            f"{where}: there is no file {path}: correct the path (a study's are seen from its folder)."
        )
    if path.suffix.lower() not in KINDS:
        raise UserError(
            f"{where}: {path} is of no kind that is read ({known}; .jsonl has a JSON object a line): convert it."
        )
    if not path.stat().st_size:
        raise UserError(f"{where}: {path} is empty: give it some examples.")
    return path


def rows(
    path: Path,
    where: str,
    own: OwnTask | None = None,
    unlabelled: bool = False,
    columns: list[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The columns of a file as they stand there: those of a task (without its label where that may be missing), these, or all."""
    kind = KINDS[path.suffix.lower()]
    quotes = kind == "CSV" if own is None or own.quotes is None else own.quotes
    as_text = dict.fromkeys([*own.columns, own.label] if own else columns or [], pa.string())
    # Columns of CSV are text as it stands: "", NA and null are no missing values, and 01 stays 01.
    form = {"JSON lines": arrow.JsonFileFormat, "Parquet": arrow.ParquetFileFormat}.get(
        kind,
        lambda: arrow.CsvFileFormat(
            csv.ParseOptions(
                delimiter="," if kind == "CSV" else "\t",
                quote_char='"' if quotes else False,
                newlines_in_values=quotes,
            ),
            convert_options=csv.ConvertOptions(column_types=as_text),
        ),
    )
    try:
        found = arrow.dataset(path, format=form())
        yield from found.to_batches(
            columns=_wanted(found.schema.names, own, where, unlabelled) if own else columns,
            batch_size=ROWS,
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(where, kind, error) from None


def _unreadable(where: str, kind: str, error: Exception) -> UserError:
    told = " ".join(str(error).split()).rpartition("Invalid: ")[2].removesuffix(".")
    hint = "" if kind == "Parquet" else " (it must be UTF-8 text)"
    return UserError(
        f"{where}: the file cannot be read as {kind} ({told[:160]}): correct or convert it{hint}."
    )


def _hub(
    own: OwnTask, study: Study, split: str, where: str, unlabelled: bool
) -> Iterator[pa.RecordBatch]:
    place = study.place(own.hub)
    try:
        found = datasets.load_dataset(
            str(place) if place.is_dir() else own.hub, own.config, split=split
        )
    except Exception as error:  # the hub's client raises many kinds: offline, no such data set, configuration or split
        told = (str(error).splitlines() or [""])[0][:160]
        raise UserError(
            f"{where}: the hub's data set cannot be had ({type(error).__name__}: {told}): connect to the network, or correct "
            "hub, config or the split's name."
        ) from None
    names = getattr(found.features.get(own.label), "names", None)
    found = found.select_columns(_wanted(found.column_names, own, where, unlabelled)).with_format(
        "arrow"
    )
    for table in found.iter(batch_size=ROWS):
        for batch in table.to_batches():
            if names:
                numbers = batch.column(own.label)
                words = pa.array(names).take(pc.if_else(pc.less(numbers, 0), None, numbers))
                batch = batch.set_column(batch.schema.get_field_index(own.label), own.label, words)
            yield batch


def _wanted(names: list[str], own: OwnTask, where: str, unlabelled: bool) -> list[str]:
    there = ", ".join(dict.fromkeys(names))
    if missing := [column for column in own.columns if column not in names]:
        raise UserError(
            f"{where}: column '{missing[0]}' is missing (there are {there}): correct the names in columns."
        )
    if own.label not in names and not unlabelled:
        raise UserError(
            f"{where}: the label's column '{own.label}' is missing (there are {there}): correct the name in label."
        )
    if twice := [column for column in (*own.columns, own.label) if names.count(column) > 1]:
        raise UserError(
            f"{where}: column '{twice[0]}' stands twice (there are {there}): give each a name of its own."
        )
    return [*own.columns, *([own.label] if own.label in names else [])]


def _examples(
    batches: Iterator[pa.RecordBatch], own: OwnTask, name: str, where: str, unlabelled: bool
) -> Iterator[pa.RecordBatch]:
    """Batches of text columns, label and idx."""
    first, filled = 0, set()
    for batch in batches:
        texts = []
        for column in own.columns:
            values = _decoded(batch.column(column))
            if not (
                pa.types.is_string(values.type)
                or pa.types.is_large_string(values.type)
                or pa.types.is_null(values.type)
            ):
                raise UserError(
                    f"{where}: column '{column}' holds {values.type}, not text: name a text column in columns."
                )
            texts.append(values.cast(pa.string()))
            filled |= {column} if pc.any(pc.not_equal(texts[-1], "")).as_py() else set()
        if own.label in batch.schema.names:
            labels = _labels(_decoded(batch.column(own.label)), own, name, where, first, unlabelled)
        else:
            labels = pa.array(np.full(len(batch), -1))
        idx = pa.array(np.arange(first, first + len(batch)))
        labels = labels.cast(pa.float32() if own.type == "similarity" else pa.int64())
        yield pa.RecordBatch.from_arrays(
            [*texts, labels, idx], names=[*own.columns, "label", "idx"]
        )
        first += len(batch)
    if not first:
        raise UserError(f"{where}: it has no examples; give it some.")
    if empty := [column for column in own.columns if column not in filled]:
        raise UserError(
            f"{where}: column '{empty[0]}' is empty in every row: name another column, or fill it in."
        )


def _decoded(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _labels(
    values: pa.Array, own: OwnTask, name: str, where: str, first: int, unlabelled: bool
) -> pa.Array:
    """Class numbers or scores of a batch; -1 where there is none and may be none."""
    try:
        if pa.types.is_floating(values.type) and own.type != "similarity":
            values = values.cast(pa.int64())
        words = pc.utf8_trim_whitespace(values.cast(pa.string()))
    except pa.ArrowException:
        raise UserError(
            f"{where}: column '{own.label}' holds {values.type}, neither words nor whole numbers: name the label's column in "
            "label."
        ) from None
    if own.type == "similarity":
        found, allowed = (
            pc.if_else(pc.match_substring_regex(words, _NUMBER), words, None).cast(pa.float32()),
            "no number",
        )
    else:
        # Numbers stand for the classes in their order, unless the classes are numbers themselves.
        numbers = (
            []
            if any(label.lstrip("-").isdigit() for label in own.labels)
            else [str(place) for place in range(len(own.labels))]
        )
        found = pc.index_in(words, pa.array([*own.labels, *numbers]))
        found = pc.if_else(
            pc.greater_equal(found, len(own.labels)), pc.subtract(found, len(own.labels)), found
        )
        allowed = f"none of the task's ({', '.join(own.labels)})"
    if unlabelled:
        found = pc.if_else(pc.is_in(pc.fill_null(words, ""), pa.array(["", "-1"])), -1, found)
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        said = pc.fill_null(words, "")[row].as_py()
        raise UserError(
            f"{where}, row {first + row}: label '{said[:80]}' is {allowed}: correct the row, or the settings own_tasks.{name}."
        )
    return found


_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def _written(batches: Iterator[pa.RecordBatch], path: Path) -> datasets.Dataset:
    first = next(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as stream:
        stream.write_batch(first)
        for batch in batches:
            stream.write_batch(batch)
    return datasets.Dataset.from_file(str(path))


def same(split: datasets.Dataset, column: str) -> np.ndarray:
    """A whole number for each row, from 0, that rows with the same text in a column share."""
    marks = [
        pd.util.hash_pandas_object(batch.column(0).to_pandas(), index=False).to_numpy()
        for batch in split.data.table.select([column]).to_batches()
    ]
    return np.unique(np.concatenate(marks), return_inverse=True)[1]


def _held_out(
    train: datasets.Dataset, share: float, seed: int, name: str, scratch: Path, whole: str | None
) -> dict[str, datasets.Dataset]:
    """Train without its dev share, and that share; both in the order of the file, rows alike in the column `whole` on one side."""
    units = np.arange(len(train)) if whole is None else same(train, whole)
    count = int(units.max()) + 1 if len(units) else 0
    size = round(share * count)
    if not 0 < size < count:
        raise UserError(
            f"own_tasks.{name}: dev: {share:g} of {count} train {'queries' if whole else 'examples'} leaves none on one side: "
            "give another share, or a dev file."
        )
    held = np.zeros(count, dtype=bool)
    held[np.random.default_rng(seed).permutation(count)[:size]] = True
    held = held[units]

    def part(wanted: np.ndarray) -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in train.data.table.to_batches():
            if len(kept := batch.filter(pa.array(wanted[first : first + len(batch)]))):
                yield kept
            first += len(batch)

    return {
        "validation": _written(part(held), scratch / "held.arrow"),
        "train": _written(part(~held), scratch / "rest.arrow"),
    }
