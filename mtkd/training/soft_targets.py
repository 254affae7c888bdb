"""Soft targets: the candidates that make a teacher, and their predictions on a train set."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtkd.data.dataset import Examples
from mtkd.errors import UserError, first_line
from mtkd.tasks import Task
from mtkd.training.predict import probabilities

CHUNK = 2**18  # examples
CONFIDENCE_COLUMNS = ["task", "split", "source", "entropy", "confidence", "correct"]


def average_members(members: list[np.ndarray] | np.ndarray) -> np.ndarray:
    """Average k members' probabilities (n, classes), or scores (n, 1) (MT-DNN_KD, Eq. 3)."""
    return np.mean(members, axis=0, dtype=np.float64).astype(np.float32)


def select_candidates(scores: pd.DataFrame, on: list[str], size: int) -> pd.DataFrame:
    """Rank the candidates by dev scores, and keep the best `size` (MT-DNN_KD, section 4.1).

    `scores` has a row per candidate and metric: candidate, task, split, metric, value. Each task of
    `on` counts once, by the mean of its metrics and dev splits. Returns, best first and ties in the
    candidates' order: candidate, a column per task, mean, kept.
    """
    table = scores[scores.task.isin(on)].pivot_table(
        index="candidate", columns="task", values="value", aggfunc="mean", sort=False
    )[list(on)]
    table = table.assign(mean=table.mean(axis=1))
    table = table.sort_values("mean", ascending=False, kind="stable")
    table["kept"] = np.arange(len(table)) < size
    return table.reset_index().rename_axis(columns=None)


@dataclass(frozen=True)
class Fold:
    """One of `of` random parts of these tasks' train sets, left out in cross-fitting."""

    number: int
    of: int
    tasks: tuple[str, ...]
    seed: int

    def inside(self, examples: Examples) -> np.ndarray:
        """Return which of a task's train examples are in this part, (n,) booleans."""
        fold = np.random.default_rng([self.seed, self.of]).permutation(len(examples)) % self.of
        return (fold == self.number) & (examples.task.name in self.tasks)


@dataclass(frozen=True)
class SoftTargets:
    """An ensemble's predictions on the examples of one task.

    `idx` (n,) and `fingerprint` are of the examples; `member_logits` (k, n, outputs), float32, and
    `names` are of the members, the best first. The logits of a regression are its scores.
    """

    task: Task
    idx: np.ndarray
    member_logits: np.ndarray
    names: list[str]
    fingerprint: str

    @cached_property
    def member_probabilities(self) -> np.ndarray:
        """Class probabilities of each member, or scores (k, n, outputs)."""
        return probabilities(self.task, self.member_logits)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The ensemble's class probabilities, or scores (n, outputs) (MT-DNN_KD, Eq. 3)."""
        return average_members(self.member_probabilities)

    @cached_property
    def logits(self) -> np.ndarray:
        """The mean of the members' logits (n, outputs), for distillation through logits (MKD)."""
        return np.mean(self.member_logits, axis=0)

    def first(self, k: int) -> "SoftTargets":
        """Return the soft targets of the ensemble of the `k` best members."""
        if k > len(self.names):
            raise UserError(
                f"{self.task.title}: soft targets of {k} members are needed, and there are "
                f"{len(self.names)}: run the teacher stage again."
            )
        return replace(self, member_logits=self.member_logits[:k], names=self.names[:k])

    def aligned(
        self, examples: Examples, kind: Literal["probabilities", "logits"] = "probabilities"
    ) -> np.ndarray:
        """Return the probabilities or logits (n, outputs) in the order of these examples.

        Raises `UserError` where they are not the examples that the teacher predicted.
        """
        order = pd.Index(self.idx).get_indexer(examples.idx)
        mine = (self.task.name, self.fingerprint, len(self.idx))
        theirs = (examples.task.name, examples.fingerprint, len(examples))
        if mine != theirs or (order < 0).any():
            raise UserError(
                f"The soft targets are not of these examples (task, fingerprint and number are "
                f"{mine} and {theirs}): distil on the teacher's tasks, or run its stage again."
            )
        return (self.logits if kind == "logits" else self.probabilities)[order]


def chunks(count: int) -> list[range]:
    """Split `count` examples into ranges that are predicted, and written, one after another."""
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def write_soft_targets(path: Path, parts: Iterable[SoftTargets]) -> None:
    """Write consecutive parts of a task's soft targets to one Parquet file, each as it comes.

    Columns: idx, and `member:<name>` with a list of logits; metadata: task, labels, fingerprint.
    """
    with ExitStack() as stack:
        writer = None
        for part in parts:
            table = _to_arrow(part)
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table)


def _to_arrow(part: SoftTargets) -> pa.Table:
    columns = {"idx": pa.array(part.idx)}
    for name, logits in zip(part.names, part.member_logits, strict=True):
        flat = pa.array(np.ascontiguousarray(logits, dtype=np.float32).ravel())
        columns[f"member:{name}"] = pa.FixedSizeListArray.from_arrays(flat, logits.shape[1])
    about = {"task": part.task.name, "labels": part.task.labels, "fingerprint": part.fingerprint}
    return pa.table(columns).replace_schema_metadata({"mtkd": json.dumps(about)})


def read_soft_targets(path: Path, task: Task) -> SoftTargets:
    """Read what `write_soft_targets` wrote.

    Raises `UserError` for another task, another order of the labels, or a damaged file.
    """
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"mtkd"])
        members = [name for name in table.column_names if name.startswith("member:")]
        values = [table[name].combine_chunks().flatten().to_numpy() for name in members]
        logits = np.stack(values).reshape(len(members), len(table), -1)
        idx = table["idx"].to_numpy()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable file of soft targets ({first_line(error)}): run the "
            "teacher stage again."
        ) from None
    if about["task"] != task.name or tuple(about["labels"]) != task.labels:
        raise UserError(
            f"{path} holds soft targets of '{about['task']}' with labels {about['labels']}, not of "
            f"'{task.name}' with labels {list(task.labels)}: train a teacher for this task."
        )
    if not np.isfinite(logits).all() or logits.shape[2] != task.num_outputs:
        raise UserError(
            f"{path}: the logits are not {task.num_outputs} finite numbers per example: run the "
            "teacher stage again."
        )
    names = [name.removeprefix("member:") for name in members]
    return SoftTargets(task, idx, logits, names, about["fingerprint"])


def confidence_table(
    task: Task, split: str, source: str, outputs: np.ndarray, labels: np.ndarray
) -> pd.DataFrame:
    """Return entropy (nats), confidence (largest probability) and correctness of each example.

    `outputs` are class probabilities (n, classes), `labels` (n,); columns: CONFIDENCE_COLUMNS.
    """
    entropy = -(outputs * np.log(np.clip(outputs, 1e-12, None))).sum(axis=1)
    correct = outputs.argmax(axis=1) == labels
    columns = [task.name, split, source, entropy, outputs.max(axis=1), correct]
    return pd.DataFrame(dict(zip(CONFIDENCE_COLUMNS, columns, strict=True)))
