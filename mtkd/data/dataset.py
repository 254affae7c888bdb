"""Tokenised examples and padded mini-batches."""

from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch

from mtkd.tasks import Task


def encode(texts: list[list[str]], tokenizer, max_length: int) -> dict[str, list]:
    """`[CLS] X1 [SEP]` or `[CLS] X1 [SEP] X2 [SEP]` as word pieces (section 2, l1); `texts` holds a list a column.

    `input_ids`, and `second`: where the second segment begins (the length where there is none). Examples over
    `max_length` lose the end of their longer text, and of both once they are alike (transformers' `longest_first`).
    """
    # The tokenizers library, told to truncate, also makes every window of what it cuts off, of a pair every two of them: for two
    # texts of 100,000 words these are millions.
    how = False if tokenizer.is_fast else "longest_first"
    pieces = tokenizer(
        *texts,
        truncation=how,
        max_length=max_length,
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
    )
    found = {"input_ids": [], "segment_start": []}
    for row, (ids, kinds) in enumerate(
        zip(pieces["input_ids"], pieces["token_type_ids"], strict=True)
    ):
        if len(ids) > max_length:
            places = _places(pieces.sequence_ids(row), max_length)
            ids, kinds = [ids[place] for place in places], [kinds[place] for place in places]
        found["input_ids"].append(ids)
        found["segment_start"].append(len(kinds) - sum(kinds))
    return found


def _places(parts: list[int | None], max_length: int) -> list[int]:
    """The places of an example's pieces that stay: `parts` tells each piece's text (0 or 1), None of those that the tokenizer adds."""
    sizes = [parts.count(0), parts.count(1)]
    room = max_length - parts.count(None)
    short = min(sizes)
    kept = [room // 2, room - room // 2] if 2 * short > room else [short, room - short]
    most = dict(enumerate(reversed(kept) if sizes[0] > sizes[1] else kept))
    seen, places = {0: 0, 1: 0}, []
    for place, part in enumerate(parts):
        if part is not None:
            seen[part] += 1
        if part is None or seen[part] <= most[part]:
            places.append(place)
    return places


def tokenise(
    split: datasets.Dataset, task: Task, tokenizer, max_length: int, path: Path | None = None
) -> datasets.Dataset:
    """A split as `encode` gives it, with columns idx and label beside. Written to `path` as it is made, or else kept in memory."""

    def encoded(batch: dict) -> dict:
        return encode([batch[column] for column in task.columns], tokenizer, max_length)

    features = datasets.Features(
        {
            "label": split.features["label"],
            "idx": datasets.Value("int64"),
            "input_ids": datasets.List(datasets.Value("int32")),
            "segment_start": datasets.Value("int32"),
        }
    )
    place = (
        {"cache_file_name": str(path), "load_from_cache_file": False, "writer_batch_size": 10_000}
        if path
        else {"keep_in_memory": True}
    )
    # datasets would draw a fingerprint at random into the file: the same examples give the same bytes.
    return split.map(
        encoded,
        batched=True,
        remove_columns=list(task.columns),
        features=features,
        new_fingerprint="tokenised",
        **place,
    )


@dataclass
class Batch:
    """A mini-batch of one task: b examples padded to n word pieces; `soft` (b, outputs) are the teacher's targets, `known` (b,)
    tells which labels there are (None: all).
    """

    task: str
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor
    labels: torch.Tensor
    soft_targets: torch.Tensor | None = None
    label_mask: torch.Tensor | None = None
    group_ids: torch.Tensor | None = None  # the question of each candidate, where they are ranked

    def to(self, device: torch.device) -> "Batch":
        tensors = {
            key: value.to(device)
            for key, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)


class Examples:
    """A tokenised split of a task, memory-mapped; `soft` (n, outputs) adds soft targets in the split's order.

    With `groups` (n,) a batch holds all of the examples of a group: the candidates of a question, to be ranked.
    """

    def __init__(
        self,
        task: Task,
        split: datasets.Dataset,
        fingerprint: str,
        pad_id: int = 0,
        soft_targets: np.ndarray | None = None,
        group_ids: np.ndarray | None = None,
    ):
        self.task, self.fingerprint, self.pad_id, self.soft_targets, self.group_ids = (
            task,
            fingerprint,
            pad_id,
            soft_targets,
            group_ids,
        )
        self._split = split.with_format("arrow")
        table = split.data.column("input_ids")
        self.lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in table.chunks])
        self.epoch_size = len(
            self.lengths
        )  # examples by which a task's share of the batches is reckoned

    def joined(self, others: "Examples") -> "Examples":
        """These examples and then the others, both with their soft targets."""
        both = datasets.concatenate_datasets([self._split, others._split])
        return Examples(
            self.task,
            both,
            self.fingerprint,
            self.pad_id,
            np.concatenate([self.soft_targets, others.soft_targets]),
        )

    # Read where they are wanted: training has its batches' labels alone.
    @property
    def labels(self) -> np.ndarray:
        return self._split.data.column("label").to_numpy()

    @property
    def idx(self) -> np.ndarray:
        return self._split.data.column("idx").to_numpy()

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, rows: np.ndarray) -> "Examples":
        """These rows' examples alone, in that order, in memory."""
        split = self._split.with_format(None).select(rows).flatten_indices(keep_in_memory=True)
        soft, groups = (
            None if values is None else values[rows]
            for values in (self.soft_targets, self.group_ids)
        )
        return Examples(self.task, split, self.fingerprint, self.pad_id, soft, groups)

    def batch(self, rows: np.ndarray) -> Batch:
        """The examples of these rows, padded to the longest of them."""
        found = self._split[rows]
        second, labels = (found.column(name).to_numpy() for name in ("segment_start", "label"))
        place = np.arange(self.lengths[rows].max())
        mask = place < self.lengths[rows][:, None]
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = found.column("input_ids").combine_chunks().flatten().to_numpy()
        kinds = mask & (place >= second[:, None])
        dtype = torch.float32 if self.task.regression else torch.int64
        known = ~np.isnan(labels) if self.task.regression else labels >= 0
        return Batch(
            self.task.name,
            torch.from_numpy(ids),
            torch.from_numpy(mask.astype(np.int64)),
            torch.from_numpy(kinds.astype(np.int64)),
            torch.tensor(labels, dtype=dtype),
            None
            if self.soft_targets is None
            else torch.tensor(self.soft_targets[rows], dtype=torch.float32),
            None if known.all() else torch.from_numpy(known),
            None if self.group_ids is None else torch.from_numpy(self.group_ids[rows]),
        )
