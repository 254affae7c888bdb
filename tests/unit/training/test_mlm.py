import itertools
import math
import random

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from mtkd.config.training import Pretrain
from mtkd.errors import UserError
from mtkd.training import mlm
from mtkd.training.mlm import pretrain

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


@pytest.mark.parametrize(("precision", "killed_after"), [("fp32", 3), ("bf16", 20)])
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path, monkeypatch, precision, killed_after
):
    changes = {"checkpoint_seconds": 1e-9, "precision": precision}
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
    with pytest.raises(UserError, match="a checkpoint of another model"):
        run(tmp_path / "killed", **changes, layers=1)


def test_the_seed_decides_the_weights(tmp_path):
    first, again, other = (
        run(tmp_path / name, train_tokens=1000, seed=seed)[0]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert_equal(first, again)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(first[name], other[name])


def test_bad_input_is_explained(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="less than two windows"):
        run(tmp_path, texts=lambda: TEXTS[:2], seq_length=64)
    with pytest.raises(ValueError, match="seq_length: 128 is above max_positions"):
        run(tmp_path, seq_length=128)
    monkeypatch.setattr(mlm, "masked_lm_loss", lambda *_, **__: torch.tensor(math.nan))
    with pytest.raises(UserError, match="nan at step 0"):
        run(tmp_path)
