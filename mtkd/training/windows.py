"""Batches for masked-language-model pre-training: windows of a text, masked.

Letters: b windows of a batch, n tokens of a window, k masked tokens of a window.
"""

import itertools
import math
from collections.abc import Callable, Iterable
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


class Corpus(NamedTuple):
    """A text as one array of ids, and where its lines begin and the last one ends."""

    ids: np.ndarray
    lines: np.ndarray


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
    """Return the text of a step's windows, (b, n - 2): running text, or a line each, 0 behind it.

    It depends on the arguments alone, so that a resumed run sees the same.
    """
    content = settings.seq_length - 2
    if settings.packing == "lines":
        lengths = np.minimum(np.diff(corpus.lines), content)
        batches = math.ceil(len(lengths) / settings.batch_size)
        order = _line_order(seed, step // batches, lengths.tobytes(), settings.batch_size)
        chosen = order[step % batches]
        rows = np.zeros((len(chosen), lengths[chosen].max()), dtype=np.int64)
        for row, line in zip(rows, chosen, strict=True):
            start = corpus.lines[line]
            row[: lengths[line]] = corpus.ids[start : start + lengths[line]]
        return torch.from_numpy(rows)
    first = step * settings.batch_size
    windows = len(corpus.ids) // content - 1  # one less than fit, for the epoch's random offset
    starts = np.array(
        [
            _window_order(seed, content, window // windows, windows)[window % windows]
            for window in range(first, first + settings.batch_size)
        ]
    )
    return torch.from_numpy(corpus.ids[starts[:, None] + np.arange(content)]).long()


@lru_cache(maxsize=2)
def _window_order(seed: int, content: int, epoch: int, windows: int) -> np.ndarray:
    """Draw where the windows of an epoch start."""
    generator = np.random.default_rng([seed, content, epoch])
    return generator.integers(content) + content * generator.permutation(windows)


@lru_cache(maxsize=2)
def _line_order(seed: int, epoch: int, lengths: bytes, batch_size: int) -> list[np.ndarray]:
    """Draw the lines of an epoch's batches, lines of similar length together."""
    random = np.random.default_rng([seed, epoch])
    return one_pass(np.frombuffer(lengths, np.int64), batch_size, 50, random)


class Windows(NamedTuple):
    """A batch of masked windows, all int64."""

    inputs: Tensor  # (b, n) ids
    segments: Tensor  # (b, n) 0 or 1
    positions: Tensor  # (b, k) of the masked tokens
    targets: Tensor  # (b, k) their true ids; -100 where a short line has fewer masked tokens
    mask: Tensor | None  # (b, n) 1 for a token, 0 for padding; None where every window is full


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
