import gzip
import lzma

import pytest
from transformers import AutoTokenizer

from mtkd.errors import UserError
from mtkd.training.wordpiece import SPECIAL_TOKENS, read_text, train_tokenizer


@pytest.mark.parametrize("cased", [False, True])
def test_a_saved_tokenizer_gives_the_same_ids_and_no_unk(tmp_path, cased):
    texts = ["The film was really funny, and so was the caf\u00e9.", "Nobody liked the Film!"] * 20
    tokenizer = train_tokenizer(texts, cased=cased, vocab_size=150)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    known = "The film was liked, really!"
    assert loaded(known, texts[1]).data == tokenizer(known, texts[1]).data
    assert tokenizer.unk_token_id not in loaded(known)["input_ids"]
    assert (loaded.tokenize("Film") == loaded.tokenize("film")) is not cased
    assert train_tokenizer(texts, cased=cased, vocab_size=150).get_vocab() == tokenizer.get_vocab()


def test_letters_get_the_same_ids_in_every_process():
    # The trainer alone numbers continuing letters in another order at each run.
    tokenizer = train_tokenizer(["the cat sat", "a bat ate it"], cased=False, vocab_size=60)
    vocabulary = tokenizer.get_vocab()
    expected = SPECIAL_TOKENS + [f"##{letter}" for letter in sorted(set("thecatsatabatateit"))]
    assert sorted(vocabulary, key=vocabulary.get)[: len(expected)] == expected


def test_a_tokenizer_without_text_is_refused():
    with pytest.raises(UserError, match="UNK"):
        train_tokenizer([], cased=False, vocab_size=100)


def test_text_is_read_plain_and_compressed(tmp_path):
    text = "eins\n\nzwei \n"
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(text.encode()))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.txt", "a.txt.xz", "a.txt.gz"):
        assert list(read_text(tmp_path / name)) == ["eins", "zwei"]


UNREADABLE = {
    "b.txt": b"\xff\xfe\xff",
    "b.txt.xz": b"no xz",
    "b.txt.gz": b"no gz",
    "c.txt.xz": lzma.compress(b"cut off")[:-9],
    "missing.txt": None,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_text_is_explained(tmp_path, name):
    if UNREADABLE[name] is not None:
        (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(UserError, match=name):
        list(read_text(tmp_path / name))
