"""Batches for masked-language-model pre-training: lines of a text, masked.

Letters: b windows of a batch, n tokens of a window, k masked tokens of a window.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertTokenizerFast

from mtkd.config.training import Pretrain
from mtkd.data.sampler import one_pass
from mtkd.training.wordpiece import SPECIAL_TOKENS, first_characters

PAIR_FRACTION = 0.5


@dataclass(frozen=True, eq=False)
class Corpus:
    """The lines of a text as one array of ids; line i is `ids[ends[i] : ends[i + 1]]`."""

    ids: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends) - 1

    def line(self, number: int) -> np.ndarray:
        """Return the ids of a line."""
        return self.ids[self.ends[number] : self.ends[number + 1]]


def read_corpus(texts: Callable[[], Iterable[str]], tokenizer, tokens: int) -> Corpus:
    """Tokenize an even part of the lines, enough for `tokens` tokens if there are as many."""
    sample = list(first_characters(texts(), 1_000_000))
    sampled = sum(map(len, _encode(sample, tokenizer)))
    # Characters needed, with a margin as the sample's density need not be the text's.
    needed = 1.05 * tokens * sum(map(len, sample)) / max(1, sampled)
    fraction = min(1.0, needed / max(1, sum(map(len, texts()))))
    chosen = (t for i, t in enumerate(texts()) if int((i + 1) * fraction) > int(i * fraction))
    parts, lengths = [], [0]
    while lines := list(itertools.islice(chosen, 1000)):
        encoded = _encode(lines, tokenizer)
        parts.append(np.fromiter(itertools.chain.from_iterable(encoded), np.int32))
        lengths += map(len, encoded)
    return Corpus(np.concatenate([np.zeros(0, np.int32), *parts]), np.cumsum(lengths))


def _encode(lines: list[str], tokenizer: BertTokenizerFast) -> list[list[int]]:
    fast = tokenizer.backend_tokenizer
    return [line.ids for line in fast.encode_batch_fast(lines, add_special_tokens=False)]


def read_rows(corpus: Corpus, settings: Pretrain, step: int, seed: int) -> Tensor:
    """Return a step's lines, (b, longest of them), cut to a window, 0 behind the shorter ones.

    It depends on the arguments alone, so that a resumed run sees the same.
    """
    content, batches = settings.seq_length - 2, math.ceil(len(corpus) / settings.batch_size)
    order = _epoch(corpus, content, settings.batch_size, seed, step // batches)
    lines = [corpus.line(number)[:content] for number in order[step % batches]]
    rows = np.zeros((len(lines), max(map(len, lines))), dtype=np.int64)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line)] = line
    return torch.from_numpy(rows)


@lru_cache(maxsize=2)
def _epoch(
    corpus: Corpus, content: int, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Draw the lines of an epoch's batches, lines of similar length together."""
    lengths = np.minimum(np.diff(corpus.ends), content)
    return one_pass(lengths, batch_size, 50, np.random.default_rng([seed, epoch]))


class Windows(NamedTuple):
    """A batch of masked windows, all int64."""

    inputs: Tensor  # (b, n) ids
    segments: Tensor  # (b, n) 0 or 1
    positions: Tensor  # (b, k) of the masked tokens
    targets: Tensor  # (b, k) their true ids; -100 where a short line has fewer masked tokens
    mask: Tensor | None  # (b, n) 1 for a token, 0 for padding; None where all lines are as long


def mask_windows(rows: Tensor, tokenizer: BertTokenizerFast, probability: float) -> Windows:
    """Make rows of text (b, n - 2), padded, to [CLS] A [SEP] or [CLS] A [SEP] B [SEP], masked.

    The first half of the rows (their order is random) become pairs, one token shorter: a full row
    is split somewhere in its middle half, a line that ends before its row after a sentence, if it
    has one inside. Of each window's tokens a fraction of `probability` is masked, never a special
    one: 80 % as [MASK], 10 % as another piece, 10 % unchanged. Draws from torch's CPU generator.
    """
    count, content = rows.shape
    window = content + 2
    lengths = (rows != tokenizer.pad_token_id).sum(1, keepdim=True)
    split = _splits(rows, lengths, tokenizer)
    split[round(PAIR_FRACTION * count) :] = content
    at = torch.arange(window).expand(count, window)
    segments = (at > split + 1).long()
    padded = F.pad(rows, (0, 1), value=tokenizer.pad_token_id)
    ids = padded.gather(1, (at - 1 - segments).clamp(0, content))
    end = (lengths + 1 + (split < content)).clamp(max=window - 1)
    special = (at == 0) | (at == split + 1) | (at >= end)
    ids = torch.where((at == split + 1) | (at == end), tokenizer.sep_token_id, ids)
    ids = ids.masked_fill(at > end, tokenizer.pad_token_id)
    ids[:, 0] = tokenizer.cls_token_id

    most = max(1, round(probability * content))
    wanted = (probability * lengths).round().clamp(1, most)
    positions = torch.rand(count, window).masked_fill(special, -1).topk(most).indices
    targets = ids.gather(1, positions)
    draw = torch.rand(count, most)
    other = torch.randint(len(SPECIAL_TOKENS), len(tokenizer), (count, most))
    shown = torch.where(draw < 0.9, other, targets).masked_fill(draw < 0.8, tokenizer.mask_token_id)
    unmasked = torch.arange(most).expand(count, most) >= wanted
    shown = torch.where(unmasked, targets, shown)
    return Windows(
        inputs=ids.scatter(1, positions, shown),
        segments=segments * (at <= end),
        positions=positions,
        targets=targets.masked_fill(unmasked, -100),
        mask=None if bool((lengths == content).all()) else (at <= end).long(),
    )


def _splits(rows: Tensor, lengths: Tensor, tokenizer: BertTokenizerFast) -> Tensor:
    """Return the length of A (b, 1) for each row; the row's width where it cannot be split."""
    count, content = rows.shape
    anywhere = torch.randint(content // 4, content - content // 4, (count, 1))
    stops = torch.tensor(tokenizer.convert_tokens_to_ids([".", "?", "!"]))
    inside = torch.isin(rows, stops) & (torch.arange(content).expand(count, content) < lengths - 1)
    chosen = torch.rand(count, content).masked_fill(~inside, -1).argmax(1, keepdim=True) + 1
    at_stop = torch.where(inside.any(1, keepdim=True), chosen, content)
    return torch.where(lengths == content, anywhere, at_stop)
