"""Every system's dev predictions in one file to commit, and comparisons made of it again.

predictions.parquet has a row per system, seed and dev example: the predicted `class`, or the
`score` of a regression, or a text's ROUGE-L. It holds no text, label or probability. Rows of an
example stand together, since systems mostly agree, so that a prediction of a class takes about two
bits. A ranking has a row for each candidate, with its `score`; `idx` is the question's first
candidate.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtkd.artifacts import read_csv
from mtkd.errors import UserError
from mtkd.report.significance import Predictions, Resampled, compare, rounded
from mtkd.tasks import Task
from mtkd.training.metrics import predicted
from mtkd.training.soft_targets import one_hot

FILE = "predictions.parquet"
EXAMPLE = ["task", "split", "idx"]
SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "seed": pa.int64(),  # null: an ensemble has none
        "task": pa.string(),
        "split": pa.string(),
        "idx": pa.int32(),
        "class": pa.uint16(),
        "score": pa.float32(),
    }
)
FORMAT = {
    "compression": "zstd",
    "compression_level": 19,
    "data_page_size": 2**26,
    "use_dictionary": ["system", "seed", "task", "split", "class"],
    "column_encoding": {"idx": "DELTA_BINARY_PACKED", "score": "BYTE_STREAM_SPLIT"},
}


def write_predictions(path: Path, tasks: Iterable[Task], parts: Iterable[Predictions]) -> None:
    """Write what systems predict of the dev sets of `tasks`; see the module."""
    known, splits = {task.name: task for task in tasks}, defaultdict(list)
    for system, seed, frame in parts:
        for (name, split), part in frame.groupby(["task", "split"], sort=False):
            if name in known and split in known[name].dev:
                outputs = predicted(known[name], np.stack(part["outputs"]), part["idx"].to_numpy())
                column, kind = _column(known[name])
                columns = {"idx": part["idx"].astype("int32"), column: outputs.astype(kind)}
                splits[name, split].append((system, seed, pd.DataFrame(columns)))
    with pq.ParquetWriter(path, SCHEMA, **FORMAT) as file:
        for (name, split), runs in sorted(splits.items(), key=itemgetter(0)):
            frames = [rows.assign(system=system, seed=seed) for system, seed, rows in runs]
            rows = pd.concat(frames).sort_values("idx", kind="stable")
            rows = rows.assign(task=name, split=split).reindex(columns=SCHEMA.names)
            file.write_table(pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False))


def _column(task: Task) -> tuple[str, str]:
    """Return the column of a task's predictions, and its type."""
    scored = task.num_outputs == 1 or task.generates
    return ("score", "float32") if scored else ("class", "uint16")


def read_predictions(
    path: Path, tasks: Iterable[Task], labels: pd.DataFrame
) -> Iterator[Predictions]:
    """Yield what `write_predictions` wrote, with the labels (task, split, idx, label) of examples.

    Outputs are scores, or 1 for the predicted class and 0 for the others.

    Raises:
        UserError: if an example has no label.
    """
    known, columns = {task.name: task for task in tasks}, [*EXAMPLE, "label"]
    rows, place = pd.read_parquet(path), [*EXAMPLE, "word"]
    # An example has a row for each of its labels, such as those of words or candidates.
    rows["word"] = rows.groupby(["system", "seed", *EXAMPLE], dropna=False).cumcount()
    labels = labels[columns].assign(word=labels.groupby(EXAMPLE).cumcount())
    rows = rows.merge(labels, "left", place, validate="many_to_one")
    if len(lost := rows[rows["label"].isna()]):
        first = "/".join(map(str, lost.iloc[0][EXAMPLE]))
        raise UserError(f"{path} has predictions of examples without a label, such as {first}.")
    for (system, seed), frame in rows.groupby(["system", "seed"], sort=False, dropna=False):
        outputs = []
        for task, part in frame.groupby("task", sort=False):
            column, kind = _column(known[task])
            values = part[column].to_numpy(kind)
            one = known[task].num_outputs == 1
            values = values[:, None] if one else one_hot(known[task], values)
            outputs.append(pd.Series(list(values), part.index))
        yield system, seed, frame[columns].assign(outputs=pd.concat(outputs))


def recompute(folder: Path, tasks: list[Task], labels: pd.DataFrame) -> pd.DataFrame:
    """Return comparisons.csv of a report's folder, computed from its predictions and labels.

    `labels` are those of the dev examples (task, split, idx, label).
    """
    table = read_csv(folder / "comparisons.csv")[["a", "b"]].drop_duplicates()
    pairs = list(table.itertuples(index=False, name=None))
    wanted = {*chain(*pairs)}
    parts = (one for one in read_predictions(folder / FILE, tasks, labels) if one[0] in wanted)
    return rounded(compare(Resampled(tasks, parts), pairs).frame)
