import itertools
import math
import random

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from mtkd.config.training import Pretrain
from mtkd.errors import UserError
from mtkd.training import mlm
from mtkd.training.mlm import pretrain
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
