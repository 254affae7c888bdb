"""Soft targets: the candidates that make a teacher, and their predictions on a train set."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
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


def unite_members(members: np.ndarray) -> np.ndarray:
    """Average k members' probabilities of word pieces, kept as `most_probable` returns them.

    Of (k, n, 2 * TOP) it makes (n, 2 * k * TOP): the pieces of all members, each with its
    probability divided by k. The probability of a piece that several have is the sum.
    """
    numbers, logs = np.split(members, 2, axis=2)
    return np.concatenate([*numbers, *(logs - np.float32(np.log(len(members))))], axis=1)


def select_candidates(scores: pd.DataFrame, on: list[str], size: int) -> pd.DataFrame:
    """Rank the candidates by scores, and keep the best `size` (MT-DNN_KD, section 4.1).

    `scores` has a row per candidate and metric: candidate, task, split, metric, value. Each task of
    `on` counts once, by the mean of its metrics and splits. Returns, best first and ties in the
    candidates' order: candidate, a column per task, mean, kept.
    """
    table = scores.pivot_table("value", "candidate", "task", aggfunc="mean", sort=False)[on]
    table = table.assign(mean=table.mean(axis=1))
    table = table.sort_values("mean", ascending=False, kind="stable")
    table["kept"] = np.arange(len(table)) < size
    return table.reset_index().rename_axis(columns=None)


def one_hot(task: Task, labels: np.ndarray) -> np.ndarray:
    """Return labels (n,) as class probabilities (n, classes), or as scores (n, 1).

    Of a span's words they are the probabilities of being its start and its end (n, 2). Of texts,
    `labels` are their ROUGE-L (n,), and are returned as (n, 1).

    Eq. 4 with them is Eq. 2 (MT-DNN_KD, section 3).
    """
    if task.regression or task.generates:
        return labels[:, None]
    if task.kind == "span":
        return np.stack([labels & 1, labels >> 1], axis=1).astype(np.float32)
    return np.eye(task.num_outputs, dtype=np.float32)[labels]


@dataclass(frozen=True)
class Fold:
    """One of `of` random parts of these tasks' train sets, left out in cross-fitting."""

    number: int
    of: int
    tasks: tuple[str, ...]
    seed: int

    def inside(self, examples: Examples, groups: np.ndarray | None = None) -> np.ndarray:
        """Return which of a task's train examples are in this part, (n,) booleans.

        With `groups` (n,), such as questions, a group is in one part as a whole.
        """
        units = range(len(examples)) if groups is None else np.unique(groups)
        fold = np.random.default_rng([self.seed, self.of]).permutation(len(units)) % self.of
        fold = fold if groups is None else fold[np.searchsorted(units, groups)]
        return (fold == self.number) & (examples.task.name in self.tasks)


@dataclass(frozen=True)
class SoftTargets:
    """An ensemble's predictions on the examples of one task.

    `idx` (n,) and `fingerprint` are of the examples; `member_logits` (k, n, outputs), float32, and
    `names` are of the members, the best first. The logits of a regression are its scores, those of
    texts to write what `most_probable` keeps. Where an example has several labels, n is their
    number, and `idx` repeats the example's: it is that of each word's or piece's example, or of
    each candidate's question.
    """

    task: Task
    idx: np.ndarray
    member_logits: np.ndarray
    names: list[str]
    fingerprint: str

    @cached_property
    def member_probabilities(self) -> np.ndarray:
        """Class probabilities of each member, or scores (k, n, outputs)."""
        return probabilities(self.task, self.member_logits, self.idx)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The ensemble's class probabilities, or scores (n, outputs) (MT-DNN_KD, Eq. 3).

        Those of words, their tags or a span's start and end, are averaged alike; so is a ranking's
        distribution over the candidates of a question, after each member's softmax over them; those
        of the pieces of texts to write, as `unite_members` says. For these, Eq. 3 is this project's
        extension.
        """
        if self.task.generates:
            return unite_members(self.member_logits)
        return average_members(self.member_probabilities)

    @cached_property
    def logits(self) -> np.ndarray:
        """The mean of the members' logits (n, outputs), for distillation through logits (MKD)."""
        return np.mean(self.member_logits, axis=0)

    def first(self, k: int) -> "SoftTargets":
        """Return the soft targets of the ensemble of the `k` best members."""
        if k > len(self.names):
            there = f"soft targets of {k} members are needed, and there are {len(self.names)}"
            raise UserError(f"{self.task.title}: {there}: run the teacher stage again.")
        return replace(self, member_logits=self.member_logits[:k], names=self.names[:k])

    def aligned(
        self, examples: Examples, kind: Literal["probabilities", "logits"] = "probabilities"
    ) -> np.ndarray:
        """Return the probabilities or logits (n, outputs) in the order of these examples.

        Raises `UserError` where they are not the examples that the teacher predicted.
        """
        idx = examples.idx
        order = _numbered(self.task, self.idx).get_indexer(_numbered(self.task, idx))
        mine = (self.task.name, self.fingerprint, len(self.idx))
        theirs = (examples.task.name, examples.fingerprint, len(idx))
        if mine != theirs or (order < 0).any():
            differ = f"task, fingerprint and number are {mine} and {theirs}"
            raise UserError(
                f"The soft targets are not of these examples ({differ}): distil on the teacher's "
                "tasks, or run its stage again."
            )
        return (self.logits if kind == "logits" else self.probabilities)[order]


def _numbered(task: Task, idx: np.ndarray) -> pd.Index:
    """Return idx (n,), with the number of the label in the example where that has several."""
    if not (task.by_unit or task.clustered):
        return pd.Index(idx)
    return pd.MultiIndex.from_arrays([idx, pd.Series(idx).groupby(idx).cumcount()])


def chunks(count: int) -> list[range]:
    """Split `count` examples into ranges that are predicted, and written, one after another."""
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def write_soft_targets(path: Path, parts: Iterable[SoftTargets]) -> None:
    """Write consecutive parts of a task's soft targets to one Parquet file, each as it comes.

    Columns: idx, and `member:<name>` with a list of logits; metadata: task, labels, fingerprint.
    """
    tables = map(_to_arrow, parts)
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
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
        why = f"is not a readable file of soft targets ({first_line(error)})"
        raise UserError(f"{path} {why}: run the teacher stage again.") from None
    if about["task"] != task.name or tuple(about["labels"]) != task.labels:
        held = f"soft targets of '{about['task']}' with labels {about['labels']}"
        wanted = f"'{task.name}' with labels {list(task.labels)}"
        raise UserError(f"{path} holds {held}, not of {wanted}: train a teacher for this task.")
    if not np.isfinite(logits).all() or logits.shape[2] != task.num_outputs:
        wrong = f"the logits are not {task.num_outputs} finite numbers per example"
        raise UserError(f"{path}: {wrong}: run the teacher stage again.")
    names = [name.removeprefix("member:") for name in members]
    return SoftTargets(task, idx, logits, names, about["fingerprint"])


def confidence_table(
    task: Task, split: str, source: str, outputs: np.ndarray, labels: np.ndarray
) -> pd.DataFrame:
    """Return entropy (nats), confidence (largest probability) and correctness of each example.

    `outputs` are class probabilities (n, classes), `labels` (n,); columns: CONFIDENCE_COLUMNS.
    """
    about = {"task": task.name, "split": split, "source": source}
    entropy = -(outputs * np.log(np.clip(outputs, 1e-12, None))).sum(axis=1)
    correct = outputs.argmax(axis=1) == labels
    columns = {"entropy": entropy, "confidence": outputs.max(axis=1), "correct": correct}
    return pd.DataFrame(about | columns)
