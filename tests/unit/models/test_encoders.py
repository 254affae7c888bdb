"""Every family of encoders: dropout, positions, segments, poolings and the fast step on a CPU."""

import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, POSITIONS, capabilities, make_checkpoint
from helpers import sentences, some_examples
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.initialization import no_init_weights

from mtkd import tasks
from mtkd.data.dataset import Batch
from mtkd.data.encode import encode
from mtkd.errors import UserError
from mtkd.models import encoders
from mtkd.models.multitask import TransformerEncoder, ignores_padding, load_encoder
from mtkd.models.small_transformer import keep_layers

POOLINGS = ("cls", "pooler", "mean")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a function that gives a family's checkpoint, made once."""
    root = tmp_path_factory.mktemp("families")

    def checkpoint(family: str):
        folder = root / family
        return folder if folder.is_dir() else make_checkpoint(family, folder, sentences(60))

    return checkpoint


@pytest.fixture(params=FAMILIES)
def folder(request, checkpoint):
    """The checkpoint of each family in turn."""
    return checkpoint(request.param)


def batch_of(count: int = 6):
    return some_examples(tasks.get("rte"), count, vocabulary=30).batch(np.arange(count))


def test_the_table_lists_the_families_that_are_named():
    assert FAMILIES.keys() == encoders.FAMILIES.keys()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_dropout_of_the_encoder_is_set(folder, dropout):
    model = load_encoder(folder, dropout=dropout).model
    found = encoders.dropouts(model)
    modules = [path for path, module in model.named_modules() if isinstance(module, nn.Dropout)]
    assert set(found.values()) == {dropout} and found.keys() >= set(modules)
    layers = 1 if capabilities(folder.name)["kept_layers"] is False else 3
    kinds = 2 if folder.name in ("distilbert", "modernbert") else 3  # the others have an output's
    assert len(found) >= 1 + layers * kinds


@torch.no_grad()
def test_encoders_that_differ_in_dropout_alone_differ_in_training(folder):
    vectors = {}
    for dropout in (0.0, 0.3):
        encoder = load_encoder(folder, dropout=dropout, pooling="mean").train()
        torch.manual_seed(0)
        vectors[dropout] = encoder(batch_of())
    assert (vectors[0.0] - vectors[0.3]).abs().max() > 1e-2


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_is_trained_and_sees_no_padding(folder, pooling):
    torch.manual_seed(0)
    encoder = load_encoder(folder, dropout=0.0, pooling=pooling)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = encoder.train()(batch_of())
    (vectors.float() * torch.randn_like(vectors)).sum().backward()
    name = encoders.word_embeddings(encoder.model)
    assert encoder.model.get_parameter(name).grad.abs().max() > 0
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
    if pooling == "pooler":
        assert any("pooler" in n and p.grad is not None for n, p in encoder.named_parameters())
    for length in (3, 40):
        pieces = [2, *(10 + piece % 20 for piece in range(length)), 3]
        assert ignores_padding(encoder.eval(), pieces, encoder.model.config.pad_token_id)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_states_are_those_of_transformers_and_see_no_padding(folder, pooling):
    batch, theirs = batch_of(), AutoModel.from_pretrained(folder).eval()
    encoder = load_encoder(folder, dropout=0.0, pooling=pooling).eval()
    pooled, states = encoder(batch), encoder.states(batch)
    assert states.shape == (*batch.input_ids.shape, encoder.states_width)
    for row, length in enumerate(batch.attention_mask.sum(1).tolist()):
        names = ("input_ids", "attention_mask", "token_type_ids")
        alone = {name: getattr(batch, name)[row : row + 1, :length] for name in names}
        if not encoder.segments:
            del alone["token_type_ids"]
        expected = theirs(**alone).last_hidden_state[0]
        assert torch.allclose(states[row, :length], expected, atol=1e-4)
    assert torch.equal(encoder(batch), pooled)


def test_texts_are_as_long_as_the_positions_reach(folder):
    encoder = load_encoder(folder, dropout=0.0).eval()
    longest = encoders.max_positions(encoder.model)
    assert longest == (POSITIONS if capabilities(folder.name)["positions"] else None)

    def read(pieces: int) -> torch.Tensor:
        return encoder(batch_of_length(pieces))

    assert read(POSITIONS).isfinite().all()
    if longest is None:
        assert read(2 * POSITIONS).isfinite().all()
    else:
        with pytest.raises((IndexError, RuntimeError)):
            read(POSITIONS + 1)


def batch_of_length(pieces: int):
    ids = torch.full((1, pieces), 20)
    return Batch("cola", ids, torch.ones_like(ids), torch.zeros_like(ids), labels=ids[:, 0])


@pytest.mark.parametrize("max_length", [64, 10])
def test_the_second_text_is_found_by_the_tokenizer_s_word(folder, max_length):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [["the cat", "a " * 30, ""], ["a red bird", "the " * 30, ""]]
    found = encode(texts, tokenizer, max_length)
    for row, ids in enumerate(found["input_ids"]):
        start = found["segment_start"][row]
        second = tokenizer(texts[1][row], add_special_tokens=False)["input_ids"]
        kept = ids[start:-1]
        assert len(ids) <= max_length and ids[-1] == tokenizer.sep_token_id
        assert kept == second[: len(kept)] and ids[start - 1] == tokenizer.sep_token_id
        assert len(kept) == len(second) or len(ids) == max_length


@torch.no_grad()
def test_segments_reach_a_model_that_has_them(folder):
    encoder, batch = load_encoder(folder, dropout=0.0, pooling="mean").eval(), batch_of()
    assert encoder.segments == capabilities(folder.name)["segments"]
    without = type(batch)(**{**vars(batch), "token_type_ids": batch.token_type_ids * 0})
    assert torch.equal(encoder(batch), encoder(without)) != encoder.segments


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_weights_may_be_loaded_into_an_encoder_without(folder, pooling):
    trained = load_encoder(folder, dropout=0.0, pooling=pooling).eval()
    with no_init_weights():
        empty = load_encoder(folder, dropout=0.0, pooling=pooling, weights=False).eval()
    empty.load_state_dict(trained.state_dict())
    assert torch.equal(empty(batch_of()), trained(batch_of()))


def test_the_fast_step_is_the_plain_one(folder, monkeypatch):
    grads = []
    for fast in "10":
        monkeypatch.setenv("MTKD_FAST_CPU", fast)
        encoder = load_encoder(folder, dropout=0.0).train()
        encoder(batch_of()).square().sum().backward()
        grads.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(grads[0][n], grads[1][n], atol=1e-3, rtol=1e-3) for n in grads[0])


@torch.no_grad()
def test_kept_layers_are_the_only_ones_left(folder):
    encoder = load_encoder(folder, dropout=0.0, pooling="pooler").eval()
    if not capabilities(folder.name)["kept_layers"]:
        with pytest.raises(UserError, match="type albert has no weights for each layer: give the"):
            keep_layers(encoder, [0])
        return
    before = encoder(batch_of())
    same = keep_layers(encoder, [0, 1, 2]).eval()
    assert torch.equal(before, same(batch_of()))
    fewer = keep_layers(encoder, [0, 2]).eval()
    assert len(encoders.layers_of(fewer.model)) == 2
    assert not torch.allclose(before, fewer(batch_of()))


DECODERS = {
    "gpt2": transformers.GPT2Config,
    "llama": transformers.LlamaConfig,
    "t5": transformers.T5Config,
    "bart": transformers.BartConfig,
    "xlnet": transformers.XLNetConfig,
    "bert": lambda: transformers.BertConfig(is_decoder=True),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_is_refused_with_the_families_that_do(kind):
    problem = encoders.find_family_problem(DECODERS[kind]())
    assert problem.startswith(f"a model of type {kind} is no encoder of masked words: give a BERT")
    assert all(name in problem for name in encoders.FAMILIES.values())
    for family in FAMILIES:
        assert encoders.find_family_problem(transformers.CONFIG_MAPPING[family]()) is None


def test_a_tokenizer_must_fit_the_embeddings_and_frame_texts(checkpoint):
    folder = checkpoint("roberta")
    config, tokenizer = encoders.read_config(folder), AutoTokenizer.from_pretrained(folder)
    assert encoders.find_tokenizer_problem(config, tokenizer) is None
    tokenizer.add_tokens(["[ORDER]"])
    problem = encoders.find_tokenizer_problem(config, tokenizer)
    assert "has 351 word pieces and its embeddings 350" in problem and "resize" in problem
    config.vocab_size, tokenizer.pad_token = 351, None
    assert "no pad token" in encoders.find_tokenizer_problem(config, tokenizer)


def test_segments_that_no_piece_is_in_are_dropped(checkpoint):
    model = AutoModel.from_pretrained(checkpoint("bert"))
    first = model.embeddings.token_type_embeddings.weight[:1].clone()
    encoders.drop_segments(model)
    assert not TransformerEncoder(model).segments and model.config.type_vocab_size == 1
    assert torch.equal(model.embeddings.token_type_embeddings.weight, first)
