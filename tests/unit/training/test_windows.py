import random

import numpy as np
import pytest
import torch

from mtkd.config.training import Pretrain
from mtkd.training.windows import mask_windows, read_corpus, read_rows
from mtkd.training.wordpiece import train_tokenizer

DRAW = random.Random(0)
TEXTS = [" ".join(DRAW.choices(["ba", "de", "gi", "ko", "mu"], k=20)) for _ in range(400)]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [f"{line}. and so on." for line in TEXTS]
    return train_tokenizer(texts, cased=False, vocab_size=120)


def test_full_windows_hold_their_text_and_mask_the_same_fraction(tokenizer):
    torch.manual_seed(0)
    rows = torch.randint(6, len(tokenizer), (400, 30))
    inputs, segments, positions, targets, mask = mask_windows(rows, tokenizer, 0.15)
    whole = inputs.scatter(1, positions, targets)
    assert mask is None
    assert positions.shape == (400, 4) and all(len(set(row)) == 4 for row in positions.tolist())
    for i, (text, ids, segment) in enumerate(
        zip(rows.tolist(), whole.tolist(), segments.tolist(), strict=True)
    ):
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        ends = [at for at, token in enumerate(ids) if token == tokenizer.sep_token_id]
        assert len(ends) == (2 if i < 200 else 1)
        content = [token for token in ids[1:-1] if token != tokenizer.sep_token_id]
        assert content == (text[:-1] if i < 200 else text)
        assert segment == [0] * (ends[0] + 1) + [1] * (31 - ends[0])
    shown = inputs.gather(1, positions)
    assert (shown == tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.04)
    assert (shown == targets).float().mean() == pytest.approx(0.1, abs=0.03)


def test_lines_are_split_after_a_sentence_and_their_padding_is_never_masked(tokenizer):
    torch.manual_seed(0)
    stop = tokenizer.convert_tokens_to_ids(".")
    rows = torch.zeros(64, 30, dtype=torch.long)
    rows[:, :9] = torch.randint(stop + 1, 60, (64, 9))
    rows[:, 4] = rows[:, 8] = stop
    inputs, segments, positions, targets, mask = mask_windows(rows, tokenizer, 0.2)
    assert (mask.sum(1)[32:] == 11).all()  # [CLS], 9 tokens and [SEP]
    assert (mask.sum(1)[:32] == 12).all()  # a pair has another [SEP]
    assert (inputs[mask == 0] == tokenizer.pad_token_id).all()
    assert (inputs[:32, [6, 11]] == tokenizer.sep_token_id).all()
    assert (segments[:32].sum(1) == 5).all() and (segments[32:] == 0).all()
    assert ((targets >= 0).sum(1) == 2).all()  # a fifth of 9 tokens
    assert (mask.gather(1, positions)[targets >= 0] == 1).all()


def test_a_long_text_is_read_evenly_and_only_as_far_as_needed(tokenizer):
    assert 2000 <= len(read_corpus(lambda: TEXTS, tokenizer, 2000).ids) < 2400
    whole = read_corpus(lambda: TEXTS, tokenizer, 10**6)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    assert np.diff(whole.ends).tolist() == lengths and len(whole.ids) == sum(lengths)


def test_every_epoch_shows_each_line_once_in_another_order(tokenizer):
    corpus = read_corpus(lambda: TEXTS[:50], tokenizer, 10**6)
    settings = Pretrain(batch_size=8, seq_length=64)
    epochs = [[read_rows(corpus, settings, 7 * n + step, 0) for step in range(7)] for n in (0, 1)]
    texts = [[row[row > 0].tolist() for rows in epoch for row in rows] for epoch in epochs]
    assert texts[0] != texts[1]
    assert (
        sorted(texts[0]) == sorted(texts[1]) == sorted(corpus.line(i).tolist() for i in range(50))
    )
    short = read_rows(corpus, settings.model_copy(update={"seq_length": 8}), 0, 0)
    assert short.shape == (8, 6)
