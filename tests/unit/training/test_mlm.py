import itertools
import math
import random

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from mtkd.config.training import Pretrain
from mtkd.errors import UserError
from mtkd.training import mlm
from mtkd.training.mlm import mask_windows, pretrain
from mtkd.training.wordpiece import train_tokenizer

WORDS = ["".join(pair) for pair in itertools.product("bdgkmnprst", "aeiou")][:40]


def toy_texts(lines: int = 400) -> list[str]:
    """Return text of 40 equally frequent words, each nearly always with the same successor."""
    draw = random.Random(0)
    texts = []
    for _ in range(lines):
        at, words = draw.randrange(40), []
        for _ in range(20):
            words.append(WORDS[at])
            at = (at * 7 + 3) % 40 if draw.random() < 0.95 else draw.randrange(40)
        texts.append(" ".join(words))
    return texts


TEXTS = toy_texts()
TINY = {
    "vocab_size": 120,
    "layers": 2,
    "hidden": 32,
    "heads": 2,
    "max_positions": 64,
    "seq_length": 16,
    "train_tokens": 16 * 16 * 24,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "precision": "fp32",
}


def run(folder, *, seed: int = 0, texts=lambda: TEXTS, **changes):
    settings = Pretrain(**TINY | changes)
    log = pretrain(texts, settings, folder / "encoder", seed=seed, checkpoint=folder / "state.pt")
    return AutoModelForMaskedLM.from_pretrained(folder / "encoder").state_dict(), log


def assert_equal(a: dict, b: dict):
    for name in a.keys() | b.keys():
        assert torch.equal(a[name], b[name]), name


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


@pytest.mark.slow
def test_the_loss_falls_far_below_the_entropy_of_single_words(tmp_path):
    tokens = 16 * 16 * 400
    changes = {"learning_rate": 6e-3, "initializer_range": 0.1}
    _, log = run(tmp_path, train_tokens=tokens, **changes)
    assert log["loss"][-1][0] == 400 and log["tokens"] == tokens and log["seconds"] > 0
    assert log["loss"][-1][1] < 0.55 * math.log(40)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    assert tokenizer.model_max_length == 64
    encoder = AutoModel.from_pretrained(tmp_path / "encoder")
    hidden = encoder(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state
    assert hidden.shape[-1] == 32
    suffixes = {path.suffix for path in (tmp_path / "encoder").iterdir()}
    assert suffixes <= {".json", ".safetensors", ".txt"}


@pytest.mark.parametrize(
    ("precision", "packing", "killed_after"), [("fp32", "packed", 3), ("bf16", "lines", 20)]
)
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path, monkeypatch, precision, packing, killed_after
):
    changes = {"checkpoint_seconds": 1e-9, "precision": precision, "packing": packing}
    expected, log = run(tmp_path / "whole", **changes)
    save = mlm.save_checkpoint

    def save_and_die(path, state):
        save(path, state)
        if state["step"] == killed_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlm, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", **changes)
    resumed, resumed_log = run(tmp_path / "killed", **changes)
    assert_equal(resumed, expected)
    assert resumed_log["loss"] == log["loss"]
    with pytest.raises(UserError, match="another text, seed or settings"):
        run(tmp_path / "killed", **changes, seed=1)


def test_the_seed_decides_the_weights(tmp_path):
    first, again, other = (
        run(tmp_path / name, train_tokens=1000, seed=seed)[0]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert_equal(first, again)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(first[name], other[name])


def test_a_start_from_another_vocabulary_keeps_what_it_can(tmp_path):
    run(tmp_path, train_tokens=2000)
    other = AutoModelForMaskedLM.from_pretrained(tmp_path / "encoder")
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "encoder").get_vocab()
    texts = [
        " ".join(word.capitalize() if i % 3 else word for i, word in enumerate(text.split()))
        for text in TEXTS
    ]
    tokenizer = train_tokenizer(texts, cased=True, vocab_size=130)
    model = BertForMaskedLM(mlm._config(Pretrain(**TINY), tokenizer))
    mlm.start_from(model, tokenizer, tmp_path / "encoder")

    embeddings, given = model.get_input_embeddings().weight, other.get_input_embeddings().weight
    bias, given_bias = model.cls.predictions.decoder.bias, other.cls.predictions.bias
    assert model.get_output_embeddings().weight is embeddings
    capitals = 0
    for piece, index in tokenizer.get_vocab().items():
        if piece in vocabulary:
            assert torch.equal(embeddings[index], given[vocabulary[piece]])
            assert bias[index] == given_bias[vocabulary[piece]]
        elif piece.lower() in vocabulary:
            capitals += 1
            assert torch.equal(embeddings[index], given[vocabulary[piece.lower()]])
            assert bias[index] == 0
    assert capitals > 10
    state, given_state = model.state_dict(), other.state_dict()
    learned = [name for name in state if ".layer." in name or "transform" in name]
    assert_equal(*({name: s[name] for name in learned} for s in (state, given_state)))


@pytest.mark.parametrize("changes", [{"layers": 1}, {"hidden": 64}, {"heads": 4}, {"layers": 3}])
def test_a_start_from_another_shape_is_refused(tmp_path, changes):
    run(tmp_path, train_tokens=300)
    with pytest.raises(UserError, match="another shape"):
        run(tmp_path / "other", start_from=str(tmp_path / "encoder"), **changes)


def test_strange_pieces_are_cut_by_the_other_vocabulary():
    vocabulary = {"un": 0, "##want": 1, "##ed": 2, "want": 3}
    assert mlm._cut("want", vocabulary) == [3]
    assert mlm._cut("Unwanted", vocabulary) == [0, 1, 2]
    assert mlm._cut("##WANTed", vocabulary) == [1, 2]
    assert mlm._cut("xylem", vocabulary) == []


def test_a_long_text_is_read_evenly_and_only_as_far_as_needed(tokenizer):
    assert 2000 <= len(mlm.read_corpus(lambda: TEXTS, tokenizer, 2000).ids) < 2400
    whole = mlm.read_corpus(lambda: TEXTS, tokenizer, 10**6)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    assert np.diff(whole.lines).tolist() == lengths and len(whole.ids) == sum(lengths)


def test_every_epoch_shows_each_window_once_in_another_order():
    first, second = (mlm._window_order(0, 14, epoch, 50) for epoch in range(2))
    for order in (first, second):
        assert sorted(order - order.min()) == list(range(0, 14 * 50, 14)) and order.min() < 14
    assert (first != second).any()


def test_bad_input_is_explained(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="less than two windows"):
        run(tmp_path, texts=lambda: TEXTS[:2], seq_length=64)
    with pytest.raises(UserError, match="max_positions"):
        run(tmp_path, seq_length=128)
    with pytest.raises(UserError, match="start_from"):
        run(tmp_path, start_from=str(tmp_path / "nowhere"))
    monkeypatch.setattr(mlm, "masked_lm_loss", lambda *_, **__: torch.tensor(math.nan))
    with pytest.raises(UserError, match="nan at step 0"):
        run(tmp_path)
