"""Custom tasks: examples in files or on the hub, in the shape of GLUE's."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from mtkd.artifacts import file_hash
from mtkd.config.custom_task import WORDS, CustomTask
from mtkd.config.study import Study
from mtkd.data.files import ROWS, as_text, check_file, count_rows, read_rows, select_columns
from mtkd.data.questions import group_ids
from mtkd.data.words import read_word_examples
from mtkd.errors import UserError, first_line, listed


def custom_fingerprint(study: Study, name: str) -> dict:
    """Return what identifies a custom task's examples, before they are read."""
    own = study.own_tasks[name]
    if own.hub:
        folder = study.resolve(own.hub)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(folder)): path for path in paths}
    else:
        files = {split: _file(study, name, file) for split, file in own.splits.items()}
    hashes = {source: file_hash(path) for source, path in files.items()}
    return {"task": own.model_dump(), "sources": hashes}


def count_train_rows(study: Study, name: str) -> int:
    """Return about how many training examples a custom task has, for estimates; 0 for the hub's."""
    own = study.own_tasks[name]
    if own.hub:
        return 0
    path = _file(study, name, own.train)
    return count_rows(path, path.stat().st_mtime_ns)


def read_custom_task(study: Study, name: str, scratch: Path) -> dict[str, datasets.Dataset]:
    """Read the splits of a custom task into Arrow files in `scratch`, in the shape of GLUE's.

    Returns:
        Memory-mapped splits of the text columns, `label` and `idx`. A label is the number of its
        class, or -1 where a test split has none; of words, see `mtkd.data.words`; of type text the
        text itself, or "".

    Raises:
        UserError: A file cannot be read, a column is missing, or a label is none of the task's,
            with its row (from 0).
    """
    own, splits = study.own_tasks[name], {}
    if hasattr(nn.ModuleDict(), name):
        raise UserError(f"own_tasks.{name}: PyTorch reserves the name: take another, {name}_task.")
    scratch.mkdir(parents=True, exist_ok=True)
    for split, source in own.splits.items():
        where = f"{name}, split '{split}' ({own.hub or source})"
        test = split == "test"
        if own.type in WORDS:
            path = _file(study, name, source)
            examples = read_word_examples(path, own, where, unlabelled=test)
            splits[split] = _write_batches(examples, scratch / f"{split}.arrow")
            continue
        if own.hub:
            rows = _read_hub(study, own, source, where, optional=test)
        else:
            path, options = _file(study, name, source), {"optional": test, "quotes": own.quotes}
            rows = read_rows(path, where, own.columns, own.label, **options)
        examples = _examples(rows, own, where, unlabelled=test)
        splits[split] = _write_batches(examples, scratch / f"{split}.arrow")
    if isinstance(own.dev, float):
        splits |= _hold_out(splits["train"], own, study.data.seed, f"own_tasks.{name}", scratch)
    return {split: splits[split] for split in ("train", "validation", "test") if split in splits}


def _file(study: Study, name: str, source: str) -> Path:
    return check_file(study.resolve(source), f"own_tasks.{name}")


def _read_hub(
    study: Study, own: CustomTask, split: str, where: str, optional: bool
) -> Iterator[pa.RecordBatch]:
    folder = study.resolve(own.hub)
    hub = str(folder) if folder.is_dir() else own.hub
    try:
        rows = datasets.load_dataset(hub, own.config, split=split)
    except Exception as error:  # the hub's client raises many kinds: offline, unknown, no split
        missing = f"the hub's data set is unavailable ({first_line(error)})"
        raise UserError(f"{where}: {missing}: connect, or correct hub, config or split.") from None
    classes = getattr(rows.features.get(own.label), "names", None)
    needed, others = (own.columns, [own.label]) if optional else ([*own.columns, own.label], [])
    rows, first = rows.select_columns(select_columns(rows.column_names, where, needed, others)), 0
    for table in rows.with_format("arrow").iter(batch_size=ROWS):
        for batch in table.to_batches():
            if classes:
                numbers = batch.column(own.label)
                labels = pa.array(classes).take(pc.if_else(pc.less(numbers, 0), None, numbers))
                position = batch.schema.get_field_index(own.label)
                batch = batch.set_column(position, own.label, labels)
            yield as_text(batch, where, own.columns, own.label, first)
            first += len(batch)


def _examples(
    batches: Iterator[pa.RecordBatch], own: CustomTask, where: str, unlabelled: bool
) -> Iterator[pa.RecordBatch]:
    """Yield batches of text columns, `label` and `idx`."""
    first, empty = 0, list(own.columns)
    for batch in batches:
        texts = [batch.column(name) for name in own.columns]
        for name, text in zip(own.columns, texts, strict=True):
            if name in empty and pc.any(pc.not_equal(text, "")).as_py():
                empty.remove(name)
        labels = _labels(batch, own, where, first, unlabelled)
        idx = pa.array(np.arange(first, first + len(batch)))
        names = [*own.columns, "label", "idx"]
        yield pa.RecordBatch.from_arrays([*texts, labels, idx], names=names)
        first += len(batch)
    if not first:
        raise UserError(f"{where}: it has no examples; give it some.")
    if empty:
        raise UserError(f"{where}: column '{empty[0]}' is empty in every row: name another column.")


def _labels(
    batch: pa.RecordBatch, own: CustomTask, where: str, first: int, unlabelled: bool
) -> pa.Array:
    """Return a batch's labels; `first` is the number of its first row."""
    words = pa.array([""] * len(batch), pa.string())
    if own.label in batch.schema.names:
        words = pc.fill_null(batch.column(own.label), "")
    if own.type == "text":
        if not unlabelled and (row := pc.index(words, "").as_py()) >= 0:
            what = f"column '{own.label}' has no text to write"
            raise UserError(f"{where}, row {first + row}: {what}: fill it in or remove the row.")
        return words
    labels = _scores(words) if own.type == "similarity" else _class_numbers(words, own)
    if unlabelled:
        labels = pc.if_else(pc.is_in(words, pa.array(["", "-1", "-1.0"])), -1, labels)
    if labels.null_count:
        row = pc.index(pc.is_null(labels), True).as_py()
        classes = f"none of the task's ({listed(own.classes)})"
        wrong = f"'{words[row].as_py()[:80]}' is {classes if own.classes else 'no number'}"
        raise UserError(f"{where}, row {first + row}: label {wrong}: correct it.")
    return labels.cast(pa.float32() if own.type == "similarity" else pa.int64())


_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def _scores(words: pa.Array) -> pa.Array:
    """Return scores, null where a word is no number."""
    return pc.if_else(pc.match_substring_regex(words, _NUMBER), words, None).cast(pa.float32())


def _class_numbers(words: pa.Array, own: CustomTask) -> pa.Array:
    """Return the numbers of classes, null where a word is none.

    A word is a class, or else its number, unless a class is a number itself; 1.0 is 1.
    """
    count = len(own.classes)
    numeric = any(name.lstrip("-").isdigit() for name in own.classes)
    numbers = [] if numeric else list(map(str, range(count)))
    known = pa.array([*own.classes, *numbers])
    whole = pc.replace_substring_regex(words, r"^(-?\d+)\.0*$", r"\1")
    position = pc.coalesce(pc.index_in(words, known), pc.index_in(whole, known))
    return pc.if_else(pc.greater_equal(position, count), pc.subtract(position, count), position)


def _write_batches(batches: Iterable[pa.RecordBatch], path: Path) -> datasets.Dataset:
    """Write record batches to an Arrow file, and return it memory-mapped."""
    batches = iter(batches)
    first = next(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as stream:
        stream.write_batch(first)
        for batch in batches:
            stream.write_batch(batch)
    return datasets.Dataset.from_file(str(path))


def _hold_out(
    train: datasets.Dataset, own: CustomTask, seed: int, where: str, scratch: Path
) -> dict[str, datasets.Dataset]:
    """Split a fraction off train, in the order of the file; a ranking's queries stay whole."""
    ranking = own.type == "ranking"
    units = group_ids(train, own.columns[0]) if ranking else np.arange(len(train))
    count = int(units.max()) + 1 if len(units) else 0
    size = round(own.dev * count)
    if not 0 < size < count:
        of = f"{own.dev:g} of {count} train {'queries' if ranking else 'examples'}"
        raise UserError(f"{where}: dev: {of} leaves none on one side: give another fraction.")
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(count)[:size]] = True
    held = chosen[units]

    def rows(mask: np.ndarray) -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in train.data.table.to_batches():
            yield batch.filter(pa.array(mask[first : first + len(batch)]))
            first += len(batch)

    return {
        "validation": _write_batches(rows(held), scratch / "held.arrow"),
        "train": _write_batches(rows(~held), scratch / "rest.arrow"),
    }
