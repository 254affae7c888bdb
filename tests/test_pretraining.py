import gzip
import itertools
import lzma
import math
import random

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from mtkd.config.training import Pretrain
from mtkd.errors import UserError
from mtkd.training import mlm as pretraining
from mtkd.training.mlm import mask_windows, pretrain
from mtkd.training.wordpiece import read_text, train_tokenizer

SYLLABLES = ["".join(pair) for pair in itertools.product("bdgkmnprst", "aeiou")]
WORDS = SYLLABLES[:40]


def toy_texts(lines: int = 400, seed: int = 0) -> list[str]:
    """A language of 40 equally frequent words in which each word nearly always has the same successor."""
    draw = random.Random(seed)
    texts = []
    for _ in range(lines):
        at, words = draw.randrange(40), []
        for _ in range(20):
            words.append(WORDS[at])
            at = (at * 7 + 3) % 40 if draw.random() < 0.95 else draw.randrange(40)
        texts.append(" ".join(words))
    return texts


TEXTS = toy_texts()


def settings(**changes) -> Pretrain:
    tiny = {
        "vocab_size": 120,
        "layers": 2,
        "hidden": 32,
        "heads": 2,
        "max_positions": 64,
        "seq_length": 16,
        "long_seq_length": 32,
        "train_tokens": 16 * 16 * 24,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "attention_guidance_steps": 8,
        "precision": "fp32",
    }
    return Pretrain(**(tiny | changes))


def run(folder, *, seed: int = 0, texts=lambda: TEXTS, **changes):
    log = pretrain(
        texts, settings(**changes), folder / "encoder", seed=seed, checkpoint=folder / "checkpoint"
    )
    return AutoModelForMaskedLM.from_pretrained(folder / "encoder").state_dict(), log


def assert_equal(a: dict, b: dict):
    for name in a.keys() | b.keys():
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("cased", [False, True])
def test_a_saved_tokenizer_gives_the_same_ids_and_never_unk(tmp_path, cased):
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
    """The trainer alone numbers continuing letters in another order at each run."""
    vocabulary = train_tokenizer(
        ["the cat sat", "a bat ate it"], cased=False, vocab_size=60
    ).get_vocab()
    continuing = [f"##{letter}" for letter in sorted(set("thecatsatabatateit"))]
    assert (
        sorted(vocabulary, key=vocabulary.get)[: 5 + len(continuing)]
        == pretraining.SPECIAL_TOKENS + continuing
    )


def test_a_tokenizer_without_text_is_refused():
    with pytest.raises(UserError, match="UNK"):
        train_tokenizer([], cased=False, vocab_size=100)


def test_pairs_and_single_segments_hold_their_text_and_hide_the_same_share_of_it():
    tokenizer = train_tokenizer(TEXTS, cased=False, vocab_size=120)
    torch.manual_seed(0)
    rows = torch.randint(5, len(tokenizer), (400, 30))
    inputs, segments, places, targets, _ = mask_windows(rows, 32, tokenizer, 0.15)
    whole = inputs.scatter(1, places, targets)
    assert places.shape == (400, 4) and all(len(set(row)) == 4 for row in places.tolist())
    for i, (text, ids, segment) in enumerate(
        zip(rows.tolist(), whole.tolist(), segments.tolist(), strict=True)
    ):
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        ends = [at for at, token in enumerate(ids) if token == tokenizer.sep_token_id]
        assert len(ends) == (2 if i < 200 else 1)
        assert [token for token in ids[1:-1] if token != tokenizer.sep_token_id] == (
            text[:-1] if i < 200 else text
        )
        assert segment == [0] * (ends[0] + 1) + [1] * (31 - ends[0])
    shown = inputs.gather(1, places)
    assert (shown == tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.04)
    assert (shown == targets).float().mean() == pytest.approx(0.1, abs=0.03)


def test_the_loss_falls_far_below_the_entropy_of_single_words(tmp_path):
    tokens = 16 * 16 * 400
    changes = {
        "attention_guidance_steps": 300,
        "learning_rate": 6e-3,
        "initializer_range": 0.1,
        "long_seq_length": None,
    }
    _, log = run(tmp_path, tokens=tokens, **changes)
    assert log["loss"][-1][0] == 400 and log["tokens"] == tokens and log["seconds"] > 0
    assert log["loss"][-1][1] < 0.4 * math.log(40)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    assert tokenizer.model_max_length == 64
    hidden = AutoModel.from_pretrained(tmp_path / "encoder")(
        **tokenizer(TEXTS[0], return_tensors="pt")
    )
    assert hidden.last_hidden_state.shape[-1] == 32
    assert {path.suffix for path in (tmp_path / "encoder").iterdir()} <= {
        ".json",
        ".safetensors",
        ".txt",
    }


# Killed while the attention is guided, and among the long windows.
@pytest.mark.parametrize(("precision", "killed_after"), [("fp32", 3), ("bf16", 24)])
def test_an_interrupted_run_ends_in_the_same_weights(
    tmp_path, monkeypatch, precision, killed_after
):
    changes = {"checkpoint_seconds": 1e-9, "precision": precision}
    expected, log = run(tmp_path / "whole", **changes)
    save = pretraining.checkpoints.save

    def save_and_die(folder, **state):
        save(folder, **state)
        if state["position"]["step"] == killed_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretraining.checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", **changes)
    resumed, resumed_log = run(tmp_path / "killed", **changes)
    assert_equal(resumed, expected)
    assert resumed_log["loss"] == log["loss"]
    with pytest.raises(UserError, match="another text, seed or settings"):
        run(tmp_path / "killed", **changes, seed=1)


def test_the_seed_decides_the_weights(tmp_path):
    first, _ = run(tmp_path / "a", tokens=1000)
    again, _ = run(tmp_path / "b", tokens=1000)
    other, _ = run(tmp_path / "c", tokens=1000, seed=1)
    assert_equal(first, again)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(first[name], other[name])


def test_a_warm_start_keeps_what_it_can(tmp_path):
    run(tmp_path, tokens=2000)
    other = AutoModelForMaskedLM.from_pretrained(tmp_path / "encoder")
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "encoder").get_vocab()
    texts = [
        " ".join(word.capitalize() if i % 3 else word for i, word in enumerate(t.split()))
        for t in TEXTS
    ]
    tokenizer = train_tokenizer(texts, cased=True, vocab_size=130)
    model = pretraining.BertForMaskedLM(pretraining._config(settings(), tokenizer))
    pretraining.warm_start(model, tokenizer, tmp_path / "encoder")

    own, given = model.get_input_embeddings().weight, other.get_input_embeddings().weight
    bias, given_bias = model.cls.predictions.decoder.bias, other.cls.predictions.bias
    assert model.get_output_embeddings().weight is own
    capitals = 0
    for piece, index in tokenizer.get_vocab().items():
        if piece in vocabulary:
            assert (
                torch.equal(own[index], given[vocabulary[piece]])
                and bias[index] == given_bias[vocabulary[piece]]
            )
        elif piece.lower() in vocabulary:
            capitals += 1
            assert torch.equal(own[index], given[vocabulary[piece.lower()]]) and bias[index] == 0
    assert capitals > 10
    learned = {
        name: tensor
        for name, tensor in other.state_dict().items()
        if ".layer." in name or "transform" in name
    }
    assert_equal(learned, {name: model.state_dict()[name] for name in learned})
    run(
        tmp_path / "sister",
        texts=lambda: texts,
        cased=True,
        tokens=1000,
        start_from=str(tmp_path / "encoder"),
    )

    for changes in ({"layers": 1}, {"hidden": 64}, {"heads": 4}, {"layers": 3}):
        with pytest.raises(UserError, match="another shape"):
            run(tmp_path / "wrong", start_from=str(tmp_path / "encoder"), **changes)
    with pytest.raises(UserError, match="start_from"):
        run(tmp_path / "wrong", start_from=str(tmp_path / "nowhere"))


def test_strange_pieces_are_cut_by_the_other_vocabulary():
    vocabulary = {"un": 0, "##want": 1, "##ed": 2, "want": 3}
    assert pretraining._cut("want", vocabulary) == [3]
    assert pretraining._cut("Unwanted", vocabulary) == [0, 1, 2]
    assert pretraining._cut("##WANTed", vocabulary) == [1, 2]
    assert pretraining._cut("xylem", vocabulary) == []


def test_guidance_is_least_where_heads_look_at_their_tokens():
    to_left = torch.eye(6).roll(-1, 1) + 1e-6  # row i looks at i - 1
    uniform = torch.full((6, 6), 1 / 6)
    looking, blind = (torch.stack([left, left.T]).expand(3, 2, 6, 6) for left in (to_left, uniform))
    assert pretraining._guidance((looking, looking)) < 0.01 < pretraining._guidance((blind, blind))


def test_a_long_text_is_taken_evenly_and_only_as_far_as_needed():
    tokenizer = train_tokenizer(TEXTS, cased=False, vocab_size=120)
    stream, _ = pretraining._tokenise(lambda: TEXTS, tokenizer, 2000)
    assert 2000 <= len(stream) < 2400
    assert len(pretraining._tokenise(lambda: TEXTS, tokenizer, 10**6)[0]) == sum(
        len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in TEXTS
    )


def test_every_epoch_shows_each_window_once_in_another_order():
    orders = [pretraining._order(0, 14, epoch, 50) for epoch in range(2)]
    for order in orders:
        assert (
            sorted(order - order.min()) == 14 * torch.arange(50).numpy()
        ).all() and order.min() < 14
    assert (orders[0] != orders[1]).any()


def test_bad_input_is_explained(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="less than two windows"):
        run(tmp_path, texts=lambda: TEXTS[:2], window=64)
    with pytest.raises(UserError, match="positions"):
        run(tmp_path, window=128)
    monkeypatch.setattr(pretraining, "_losses", lambda *_, **__: (torch.tensor(math.nan), 0.0))
    with pytest.raises(UserError, match="nan at step 0"):
        run(tmp_path)


def test_text_is_read_plain_and_packed(tmp_path):
    text = "eins\n\nzwei \n"
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(text.encode()))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.txt", "a.txt.xz", "a.txt.gz"):
        assert list(read_text(tmp_path / name)) == ["eins", "zwei"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("b.txt", b"\xff\xfe\xff"),
        ("b.txt.xz", b"no xz"),
        ("b.txt.gz", b"no gz"),
        ("c.txt.xz", lzma.compress(b"cut off")[:-9]),
        ("missing.txt", None),
    ],
)
def test_unreadable_text_is_explained(tmp_path, name, data):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=name):
        list(read_text(tmp_path / name))


def test_a_line_a_row_is_cut_behind_a_sentence_and_its_padding_is_neither_seen_nor_masked():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(
        [f"{line}. and so on." for line in TEXTS], cased=False, vocab_size=120
    )
    stop = tokenizer.convert_tokens_to_ids(".")
    rows = torch.zeros(64, 30, dtype=torch.long)
    rows[:, :9] = torch.randint(6, 60, (64, 9)).masked_fill(torch.tensor(False), 0)
    rows[rows == stop] = 6
    rows[:, 4] = rows[:, 8] = stop
    inputs, segments, places, targets, mask = mask_windows(rows, 32, tokenizer, 0.2)
    assert (mask.sum(1)[:32] == 12).all() and (
        mask.sum(1)[32:] == 11
    ).all()  # [CLS], 9 tokens and [SEP]; a pair has one more
    assert (inputs[mask == 0] == tokenizer.pad_token_id).all()
    assert (inputs[:32, 6] == tokenizer.sep_token_id).all() and (
        inputs[:32, 11] == tokenizer.sep_token_id
    ).all()
    assert (segments[:32].sum(1) == 5).all() and (segments[32:] == 0).all()
    assert ((targets >= 0).sum(1) == 2).all()  # a fifth of 9 tokens
    assert (mask.gather(1, places)[targets >= 0] == 1).all()
