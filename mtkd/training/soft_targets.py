"""Teachers: which candidates they are made of, what they say (Eq. 3), and how it is kept."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.tasks import Task

SLAB = 2**18  # examples


def ensemble(members: list[np.ndarray]) -> np.ndarray:
    """Eq. 3: the average of the members' class probabilities (n, classes), or of their scores (n, 1)."""
    return np.mean(members, axis=0, dtype=np.float64).astype(np.float32)


def select(scores: pd.DataFrame, on: list[str], keep: int) -> pd.DataFrame:
    """The candidates with their dev scores, best first (section 4.1: the best by the MNLI and RTE dev sets).

    `scores` has a row a candidate and metric: candidate, task, split, metric, value. A task counts once: the mean of
    its metrics and dev splits. Columns of the result: candidate, a column a task of `on`, mean, kept. Ties keep the
    candidates' order.
    """
    table = scores[scores.task.isin(on)].pivot_table(
        index="candidate", columns="task", values="value", aggfunc="mean", sort=False
    )
    table = (
        table[list(on)]
        .assign(mean=lambda found: found.mean(axis=1))
        .sort_values("mean", ascending=False, kind="stable")
    )
    table["kept"] = np.arange(len(table)) < keep
    return table.reset_index().rename_axis(columns=None)


@dataclass(frozen=True)
class Fold:
    """One of `of` parts of these tasks' train sets, drawn by `seed`: models that are to score it are trained without it."""

    number: int
    of: int
    tasks: tuple[str, ...]
    seed: int

    def inside(self, examples: Examples) -> np.ndarray:
        """Which of a task's train examples are in this part (n,): none where the task is not one of these."""
        part = np.random.default_rng([self.seed, self.of]).permutation(len(examples)) % self.of
        return (part == self.number) & (examples.task.name in self.tasks)


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's word on every train example of a task.

    `soft` (n, outputs): the ensemble's probabilities (scores for a regression); `members` (k, n, outputs): each
    member's own; `logits` (n, outputs): the mean of the members' logits, for distillation through logits (MKD);
    `idx` (n,): the examples; `fingerprint`: of the examples they belong to.
    """

    task: Task
    idx: np.ndarray
    soft: np.ndarray
    members: np.ndarray
    logits: np.ndarray
    names: list[str]
    fingerprint: str

    def write(self, path: Path) -> None:
        write_soft_targets(path, [self])

    def table(self) -> pa.Table:
        """idx, soft, logits and a column a member; task, labels and fingerprint in the metadata."""
        columns = {
            "idx": pa.array(self.idx),
            "soft": _lists(self.soft),
            "logits": _lists(self.logits),
        }
        columns |= {
            f"member:{name}": _lists(values)
            for name, values in zip(self.names, self.members, strict=True)
        }
        about = {
            "task": self.task.name,
            "labels": self.task.labels,
            "fingerprint": self.fingerprint,
        }
        return pa.table(columns).replace_schema_metadata({"mtkd": json.dumps(about)})

    def for_examples(self, examples: Examples) -> np.ndarray:
        """`soft` in the order of these examples; `UserError` where they are not the ones the teacher saw."""
        return self.soft[self._order(examples)]

    def logits_for(self, examples: Examples) -> np.ndarray:
        """`logits` in the order of these examples; `UserError` where they are another task's, or not those the teacher saw."""
        if examples.task.name != self.task.name:
            raise UserError(
                f"These are the teacher's logits for {self.task.title}, the student's examples are of {examples.task.title}: a "
                "student is distilled on its teacher's tasks."
            )
        return self.logits[self._order(examples)]

    def _order(self, examples: Examples) -> np.ndarray | slice:
        if examples.fingerprint != self.fingerprint or len(examples) != len(self.idx):
            raise UserError(
                f"{self.task.title}: the soft targets belong to other examples (fingerprint {self.fingerprint}, "
                f"{len(self.idx)} examples) than these ({examples.fingerprint}, {len(examples)}): make them again by the "
                "teachers stage of this study."
            )
        wanted = examples.idx
        if np.array_equal(wanted, self.idx):
            return slice(None)
        order = pd.Index(self.idx).get_indexer(wanted)
        if (order < 0).any():
            raise UserError(
                f"{self.task.title}: there is no soft target for the example with idx {wanted[order < 0][0]}: make "
                "them again by the teachers stage of this study."
            )
        return order


def _lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel()), values.shape[1]
    )


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers or of lists of one length as (n, length)."""
    values = column.combine_chunks()
    return (
        (values.flatten() if pa.types.is_nested(column.type) else values)
        .to_numpy()
        .reshape(len(values), -1)
    )


def write_soft_targets(path: Path, parts: Iterable[SoftTargets]) -> None:
    """One Parquet file of the parts of a task's soft targets, each written as it comes."""
    with ExitStack() as opened:
        file = None
        for part in parts:
            table = part.table()
            file = file or opened.enter_context(pq.ParquetWriter(path, table.schema))
            file.write_table(table)


def slabs(examples: int) -> list[range]:
    """The parts in which a task's soft targets are made: a large train set's would not fit into memory, a column a member."""
    return [range(first, min(first + SLAB, examples)) for first in range(0, examples, SLAB)]


def read_soft_targets(path: Path, task: Task, members: bool = False) -> SoftTargets:
    """What `write` wrote, the members' own words only where they are asked for (without them k is 0).

    Raises `UserError` for another task, another label order, or a damaged file.
    """
    try:
        schema = pq.read_schema(path)
        about = json.loads(schema.metadata[b"mtkd"])
        names = [
            name.removeprefix("member:") for name in schema.names if name.startswith("member:")
        ]
        wanted = [name for name in schema.names if members or not name.startswith("member:")]
        # One after another: of a large train set's columns no two are copied at once.
        found = {name: _matrix(pq.read_table(path, columns=[name])[name]) for name in wanted}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable file of soft targets ({str(error).splitlines()[0][:100]}): run the teachers stage "
            "again."
        ) from None
    if about["task"] != task.name:
        raise UserError(
            f"{path} holds soft targets of '{about['task']}', not of '{task.name}': give that task's own file."
        )
    if tuple(about["labels"]) != task.labels:
        raise UserError(
            f"{path}: the teacher's labels are {about['labels']}, this task's are {list(task.labels)}: the order must be the "
            "same; train the teacher on these labels."
        )
    if not names or not {"idx", "soft", "logits"} <= set(schema.names):
        raise UserError(
            f"{path} lacks columns of soft targets (it has {', '.join(schema.names)}): run the teachers stage again."
        )
    soft = found["soft"]
    each = (
        np.stack([found[f"member:{name}"] for name in names])
        if members
        else np.empty((0, *soft.shape), dtype=np.float32)
    )
    spread = not task.regression and ((soft < 0).any() or np.abs(soft.sum(axis=1) - 1).max() > 1e-3)
    if not np.isfinite(soft).all() or spread:
        raise UserError(
            f"{path}: a row of the soft targets is no probability distribution: run the teachers stage again."
        )
    return SoftTargets(
        task, found["idx"][:, 0], soft, each, found["logits"], names, about["fingerprint"]
    )


CERTAINTY = ["task", "split", "source", "entropy", "confidence", "correct"]


def certainty(
    task: Task, split: str, source: str, probabilities: np.ndarray, labels: np.ndarray
) -> pd.DataFrame:
    """Entropy (nats), confidence (largest probability) and rightness of each example: task, split, source, …"""
    entropy = -(probabilities * np.log(np.clip(probabilities, 1e-12, None))).sum(axis=1)
    right = probabilities.argmax(axis=1) == labels
    columns = [task.name, split, source, entropy, probabilities.max(axis=1), right]
    return pd.DataFrame(dict(zip(CERTAINTY, columns, strict=True)))
