import pytest
import torch
from helpers import tiny_bert

from mtkd.errors import UserError
from mtkd.models.multitask import load_encoder
from mtkd.models.small_transformer import from_checkpoint, keep_layers, new_encoder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert", layers=3)


def test_kept_layers_have_their_weights_in_the_given_order(bert):
    whole = load_encoder(bert, dropout=0.0, pooling="mean")
    weights = [layer.output.dense.weight.clone() for layer in whole.model.encoder.layer]
    kept = keep_layers(whole, [2, 0])
    assert kept.model.config.num_hidden_layers == 2 and kept.pooling == "mean"
    for layer, expected in zip(kept.model.encoder.layer, (weights[2], weights[0]), strict=True):
        assert torch.equal(layer.output.dense.weight, expected)
    with pytest.raises(UserError, match=r"no layer 2; choose from 0 to 1"):
        keep_layers(kept, [2])


def test_a_new_encoder_has_the_shape_and_follows_from_the_seed(bert):
    shape = {"layers": 1, "hidden": 16, "heads": 4, "intermediate": None}
    encoders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        encoders.append(new_encoder(bert, 64, dropout=0.2, pooling="cls", **shape))
    config = encoders[0].model.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (1, 16, 64)
    assert config.num_attention_heads == 4 and encoders[0].width == 16
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.2
    assert config.vocab_size == load_encoder(bert, dropout=0.0).model.config.vocab_size
    first, again, other = (e.model.embeddings.word_embeddings.weight for e in encoders)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_checkpoint_of_another_vocabulary_is_refused(bert):
    size = load_encoder(bert, dropout=0.0).model.config.vocab_size
    assert from_checkpoint(bert, {size}, dropout=0.1, pooling="cls").width == 32
    with pytest.raises(UserError, match=f"has {size} word pieces, the teacher {size + 1}"):
        from_checkpoint(bert, {size + 1}, dropout=0.1, pooling="cls")
