"""Where the sentences of a batch stand among its word pieces."""

import torch
from torch import Tensor

from mtkd.data.dataset import Batch


def sentence_spans(batch: Batch, pair: bool | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return the first positions and the lengths (b,) of the first and, if any, second sentences.

    They are found in `[CLS] A [SEP] B [SEP]` by the segments (RoBERTa has two separators between A
    and B). An empty sentence is the [SEP] behind it, so that no length is 0. `pair` says whether
    there is a second one; None looks, which an export cannot.
    """
    second = batch.token_type_ids.bool() & batch.attention_mask.bool()
    first = batch.attention_mask.bool() & ~second
    starts, count = first.sum(1), second.sum(1)
    near = (starts[:, None] - torch.tensor([1, 2], device=starts.device)).clamp_min(0)
    last, before = batch.input_ids.gather(1, near).unbind(1)
    ends = starts - ((last == before) & (starts > 2) & (count > 0)).long()
    spans = [(torch.where(ends > 2, 1, ends - 1), (ends - 2).clamp_min(1))]
    if bool(second.any()) if pair is None else pair:
        spans.append((starts, (count - 1).clamp_min(1)))
    return spans


def sentence_masks(batch: Batch, pair: bool | None = None) -> list[Tensor]:
    """Return masks (b, n), true on the word pieces of the sentences that `sentence_spans` names."""
    position = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
    offsets = [(position - start[:, None], length) for start, length in sentence_spans(batch, pair)]
    return [(at >= 0) & (at < length[:, None]) for at, length in offsets]


def split_sentences(batch: Batch, pair: bool | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return word pieces (b, n) and lengths (b,) of the sentences that `sentence_spans` names.

    If `pair` says whether there is a second one, n is the batch's width and no shape depends on
    values, as an export needs it.
    """
    width, parts = batch.input_ids.shape[1], []
    for start, lengths in sentence_spans(batch, pair):
        n = int(lengths.max()) if pair is None else width
        columns = start[:, None] + torch.arange(n, device=start.device)
        parts.append((batch.input_ids.gather(1, columns.clamp_max(width - 1)), lengths))
    return parts
