"""Tokenized examples and padded mini-batches."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedTokenizerBase

from mtkd.data.encode import encode, encode_targets
from mtkd.tasks import Task

WORD_STARTS = "word_starts"  # the column of the characters at which the last text's words begin
TARGET = "target"  # the column of the text to write, beside its word pieces


def flat(column: pa.ChunkedArray) -> np.ndarray:
    """Return the values of a column; those of lists one after another."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.list_flatten(column)
    return column.to_numpy()


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of rows that a table of a tokenizer's word pieces needs."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenize(
    split: datasets.Dataset,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    path: Path | None = None,
) -> datasets.Dataset:
    """Return a split as `encode` gives it, with `idx` and `label`; in `path`, or else in memory."""
    features = {
        "label": split.features["label"],
        "idx": datasets.Value("int64"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "segment_start": datasets.Value("int32"),
        "length": datasets.Value("int32"),
    }
    columns = list(task.columns)
    if task.by_word:
        features["words"] = datasets.List(datasets.Value("int32"))
        columns.append(WORD_STARTS)
    if task.generates:
        features |= {"label": datasets.List(datasets.Value("int32"))}
        features |= {TARGET: datasets.Value("string")}

    def pieces(batch: dict[str, list]) -> dict[str, list]:
        texts = [batch[name] for name in task.columns]
        encoded = encode(texts, tokenizer, max_length, batch.get(WORD_STARTS))
        if task.generates:
            encoded[TARGET], ends = batch["label"], [ids[-1] for ids in encoded["input_ids"]]
            encoded["label"] = encode_targets(batch["label"], tokenizer, task.max_target, ends)
        return encoded

    return split.map(
        pieces,
        batched=True,
        remove_columns=columns,
        features=datasets.Features(features),
        new_fingerprint="tokenised",  # a random one would be written: same examples, same bytes
        keep_in_memory=path is None,
        cache_file_name=path and str(path),
        load_from_cache_file=False,
        writer_batch_size=10_000,
    )


def count_lengths(tokens: datasets.Dataset, max_length: int) -> dict[str, float]:
    """Return how long a split's examples are before the cut (`tokenize`), in word pieces.

    `cut` is the percentage of them that is longer than `max_length`.
    """
    lengths = tokens.data.column("length").to_numpy()
    mean, cut = round(lengths.mean(), 1), round(100 * (lengths > max_length).mean(), 2)
    return {"examples": len(lengths), "mean": mean, "longest": lengths.max(), "cut": cut}


@dataclass(frozen=True)
class Batch:
    """A mini-batch of one task: b examples, padded to n word pieces, with u labels.

    u is b; in tasks with a label for each word, or for each piece of a text to write, it is their
    number, in the examples' order.

    Attributes:
        input_ids: (b, n), like `attention_mask`.
        token_type_ids: (b, n) 1 on X2 and its separator; a model without segments ignores it.
        labels: (u,) class indices, scores, or word pieces.
        soft_targets: (u, outputs) of the teacher, or None.
        label_mask: (u,) whether there is a label; None: everywhere.
        group_ids: (u,) what the outputs are normalised over, the query of each candidate of a
            ranking or the example of each word; None: over the classes.
        words: (u, 2) example and position of each word's first piece, -1 where it is cut off, or of
            each piece of a text to write; None in tasks with one label for each example.
    """

    task: str
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor
    labels: torch.Tensor
    soft_targets: torch.Tensor | None = None
    label_mask: torch.Tensor | None = None
    group_ids: torch.Tensor | None = None
    words: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with all tensors on a device; a GPU gets them while it computes."""
        tensors = {name: value for name, value in vars(self).items() if torch.is_tensor(value)}
        if device.type == "cuda":
            tensors = {name: value.pin_memory() for name, value in tensors.items()}
        moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class Examples:
    """A tokenized split of a task, memory-mapped: n examples with u labels (see `Batch`).

    Attributes:
        fingerprint: Identifies the texts and their order (`mtkd.data.glue.examples_fingerprint`).
        soft_targets: (u, outputs) in the order of the split, or None.
        group_ids: (n,) the query of each candidate of a ranking: a batch holds whole groups.
        epoch_size: Examples per epoch, by which batches are apportioned to tasks; default: n.
        tokenizer: What made the word pieces of texts to write; None: there are no such texts.
    """

    task: Task
    split: datasets.Dataset
    fingerprint: str
    pad_id: int = 0
    soft_targets: np.ndarray | None = None
    group_ids: np.ndarray | None = None
    epoch_size: int | None = None
    tokenizer: PreTrainedTokenizerBase | None = None

    def __post_init__(self):
        if self.epoch_size is None:
            object.__setattr__(self, "epoch_size", len(self))

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Word pieces of each example, (n,)."""
        chunks = self.split.data.column("input_ids").chunks
        return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks])

    @property
    def labels(self) -> np.ndarray:
        """Classes, scores or pieces, (u,); read anew each time, as training does not need them."""
        return flat(self.split.data.column("label"))

    @property
    def idx(self) -> np.ndarray:
        """The number of each label's example in its file, (u,)."""
        idx = self.split.data.column("idx").to_numpy()
        return np.repeat(idx, self.counts) if self.task.by_unit else idx

    @property
    def counts(self) -> np.ndarray:
        """The number of each example's labels, (n,)."""
        return np.diff(self._starts)

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first label of each example, and their number, (n + 1,)."""
        if not self.task.by_unit:
            return np.arange(len(self) + 1)
        counts = pc.list_value_length(self.split.data.column("label")).to_numpy()
        return np.concatenate([[0], np.cumsum(counts)])

    def units(self, rows: np.ndarray | range) -> np.ndarray:
        """Return the places of the labels of these rows among all labels, in the rows' order."""
        if not self.task.by_unit:
            return np.asarray(rows)
        starts = self._starts
        return np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows])

    def replace(self, **changes: Any) -> "Examples":
        """Return a copy with another task, other soft targets, group ids or epoch size."""
        return replace(self, **changes)

    def subset(self, rows: np.ndarray) -> "Examples":
        """Return the examples of these rows in that order, in memory."""
        split = self.split.select(rows).flatten_indices(keep_in_memory=True)
        soft = None if self.soft_targets is None else self.soft_targets[self.units(rows)]
        groups = None if self.group_ids is None else self.group_ids[rows]
        return replace(self, split=split, soft_targets=soft, group_ids=groups, epoch_size=None)

    def concat(self, other: "Examples") -> "Examples":
        """Return these examples followed by others, all with their soft targets."""
        split = datasets.concatenate_datasets([self.split, other.split])
        soft = np.concatenate([self.soft_targets, other.soft_targets])
        return replace(self, split=split, soft_targets=soft, group_ids=None, epoch_size=None)

    @cached_property
    def _arrow(self) -> datasets.Dataset:
        return self.split.with_format("arrow")

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the examples of these rows, padded to the longest of them."""
        table, lengths = self._arrow[rows], self.lengths[rows]
        segment_start, labels = (flat(table.column(c)) for c in ("segment_start", "label"))
        position = np.arange(lengths.max())
        mask = position < lengths[:, None]
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = table.column("input_ids").combine_chunks().flatten().to_numpy()
        types = mask & (position >= segment_start[:, None])
        label_mask = ~np.isnan(labels) if self.task.regression else labels >= 0
        dtype = torch.float32 if self.task.regression else torch.int64
        soft, groups, words = self.soft_targets, self.group_ids, None
        groups = None if groups is None else torch.from_numpy(groups[rows])
        if self.task.by_unit:
            counts = self.counts[rows]
            example = np.repeat(np.arange(len(rows)), counts)
            if self.task.by_word:
                positions = flat(table.column("words"))
            else:
                positions = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
            words = torch.from_numpy(np.stack([example, positions.astype(np.int64)], axis=1))
            groups = words[:, 0] if self.task.grouped else None
        return Batch(
            self.task.name,
            torch.from_numpy(ids),
            torch.from_numpy(mask.astype(np.int64)),
            torch.from_numpy(types.astype(np.int64)),
            torch.tensor(labels, dtype=dtype),
            None if soft is None else torch.tensor(soft[self.units(rows)], dtype=torch.float32),
            None if label_mask.all() else torch.from_numpy(label_mask),
            groups,
            words,
        )
