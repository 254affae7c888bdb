"""Every system's dev predictions in one file to commit, and comparisons made of it again.

predictions.parquet has a row per system, seed and dev example: the predicted `class`, or the
`score` of a regression. It holds no text, label or probability. Rows of an example stand together,
since systems mostly agree, so that a prediction of a class takes about two bits.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

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
        "class": pa.uint8(),
        "score": pa.float32(),
    }
)
FORMAT = {
    "compression": "zstd",
    "compression_level": 19,
    "data_page_size": 2**26,
    "row_group_size": 2**26,
    "use_dictionary": ["system", "seed", "task", "split", "class"],
    "column_encoding": {"idx": "DELTA_BINARY_PACKED", "score": "BYTE_STREAM_SPLIT"},
}


def write_predictions(path: Path, tasks: Iterable[Task], parts: Iterable[Predictions]) -> None:
    """Write what systems predict of the dev sets of `tasks`; see the module."""
    known, rows = {task.name: task for task in tasks}, [SCHEMA.empty_table().to_pandas()]
    for system, seed, frame in parts:
        for (task, split), part in frame.groupby(["task", "split"], sort=False):
            if task in known and split in known[task].dev:
                outputs = predicted(known[task], np.stack(part["outputs"]))
                name = "score" if known[task].regression else "class"
                columns = part[EXAMPLE].assign(system=system, seed=seed)
                rows.append(columns.assign(**{name: outputs}))
    table = pd.concat(rows).sort_values(EXAMPLE, kind="stable")
    table = pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), path, **FORMAT)


def read_predictions(
    path: Path, tasks: Iterable[Task], labels: pd.DataFrame
) -> Iterator[Predictions]:
    """Yield what `write_predictions` wrote, with the labels (task, split, idx, label) of examples.

    Outputs are scores, or 1 for the predicted class and 0 for the others.

    Raises:
        UserError: if an example has no label.
    """
    known, columns = {task.name: task for task in tasks}, [*EXAMPLE, "label"]
    rows = pd.read_parquet(path).merge(labels[columns], "left", EXAMPLE, validate="many_to_one")
    if len(lost := rows[rows["label"].isna()]):
        first = "/".join(map(str, lost.iloc[0][EXAMPLE]))
        raise UserError(f"{path} has predictions of examples without a label, such as {first}.")
    for (system, seed), frame in rows.groupby(["system", "seed"], sort=False, dropna=False):
        outputs = []
        for task, part in frame.groupby("task", sort=False):
            name = "score" if known[task].regression else "class"
            values = part[name].to_numpy("float32" if name == "score" else "int64")
            outputs.append(pd.Series(list(one_hot(known[task], values)), part.index))
        yield system, seed, frame[columns].assign(outputs=pd.concat(outputs))


def recompute(folder: Path, tasks: list[Task], labels: pd.DataFrame) -> pd.DataFrame:
    """Return comparisons.csv of a report's folder, computed from its predictions and labels.

    `labels` are those of the dev examples (task, split, idx, label).
    """
    table = pd.read_csv(folder / "comparisons.csv")[["a", "b"]].drop_duplicates()
    pairs = list(table.itertuples(index=False, name=None))
    wanted = {*chain(*pairs)}
    parts = (one for one in read_predictions(folder / FILE, tasks, labels) if one[0] in wanted)
    return rounded(compare(Resampled(tasks, parts), pairs).frame)
