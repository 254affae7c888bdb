"""The cheaper dropout and attention of a processor: the same function, with the same gradients."""

import pytest
import torch
from helpers import some_examples
from torch import nn
from transformers import BertConfig, BertModel

from mtkd import tasks
from mtkd.models.fast_cpu import Dropout, LayerOfFirst, keep_mask, lighten
from mtkd.models.multitask import TransformerEncoder
from mtkd.models.small_transformer import keep_layers


def bert(dropout: float = 0.0) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False).train()


@pytest.mark.parametrize("p", [0.1, 0.3, 0.05])
def test_a_mask_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(400_003), p)
    dropped = (mask == 0).float().mean().item()
    assert abs(dropped - p) < 4 * (p / 400_003) ** 0.5
    assert torch.allclose(mask[mask > 0], torch.tensor(1 / (1 - p)), rtol=1e-4)
    lag = torch.corrcoef(torch.stack([mask[:-1], mask[1:]]))[0, 1].item()
    assert abs(lag) < 0.01


def test_a_mask_follows_torchs_seed():
    torch.manual_seed(3)
    first, second = keep_mask(torch.empty(7, 5), 0.5), keep_mask(torch.empty(7, 5), 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, keep_mask(torch.empty(7, 5), 0.5))
    assert not torch.equal(first, second)


def test_dropout_is_scaled_in_training_and_nothing_in_evaluation():
    torch.manual_seed(0)
    layer, values = Dropout(0.25), torch.randn(64, 64, requires_grad=True)
    out = layer(values)
    out.sum().backward()
    assert torch.equal(out, values * values.grad)
    assert values.grad.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(layer.eval()(values), values)


def test_attention_gives_torchs_values_and_gradients_with_padding():
    examples = some_examples(tasks.get("rte"), 6)
    batch = examples.batch([0, 1, 2, 3, 4, 5])
    assert (batch.attention_mask == 0).any()
    plain, light = bert(), lighten(bert())
    out = {}
    for name, model in (("plain", plain), ("light", light)):
        hidden = model(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
        ).last_hidden_state
        (hidden * batch.attention_mask[..., None]).pow(2).sum().backward()
        out[name] = (
            hidden[batch.attention_mask.bool()],
            [parameter.grad for parameter in model.parameters()],
        )
    assert torch.allclose(out["plain"][0], out["light"][0], atol=1e-5)
    assert all(
        torch.allclose(one, other, atol=1e-4)
        for one, other in zip(out["plain"][1], out["light"][1], strict=True)
    )


def test_an_encoder_is_lightened_and_keeps_its_weights_names():
    plain = bert(0.1)
    names, count = (
        list(plain.state_dict()),
        sum(type(module) is nn.Dropout for module in plain.modules()),
    )
    shared = TransformerEncoder(plain)
    assert list(shared.model.state_dict()) == names
    # Those of the attention's own modules are read for their p alone.
    assert sum(isinstance(module, Dropout) for module in shared.modules()) == count
    assert shared.model.config._attn_implementation == "mtkd"


@pytest.mark.parametrize("attention", ["mtkd", "eager"])
@pytest.mark.parametrize("grad", [True, False])
def test_the_last_layer_at_cls_alone_gives_its_values_and_gradients(grad, attention):
    batch = some_examples(tasks.get("rte"), 6).batch([0, 1, 2, 3, 4, 5])
    assert (batch.attention_mask == 0).any()
    plain, light = bert(), TransformerEncoder(bert(), "cls")
    light.model.set_attn_implementation(attention)
    with torch.set_grad_enabled(grad):
        whole = plain(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
        ).last_hidden_state[:, 0]
        first = light(batch)
    assert torch.allclose(whole, first, atol=1e-5)
    if grad:
        whole.pow(2).sum().backward()
        first.pow(2).sum().backward()
        for one, other in zip(plain.parameters(), light.parameters(), strict=True):
            assert torch.allclose(
                one.grad, torch.zeros_like(one) if other.grad is None else other.grad, atol=1e-4
            )


def test_only_the_last_layer_that_is_kept_is_computed_at_cls_alone():
    def kinds(encoder):
        return [type(layer) is LayerOfFirst for layer in encoder.model.encoder.layer]

    assert kinds(TransformerEncoder(bert(), "cls")) == [False, True]
    assert kinds(TransformerEncoder(bert(), "mean")) == [False, False]
    assert kinds(keep_layers(TransformerEncoder(bert(), "cls"), [1, 0])) == [False, True]
    assert kinds(keep_layers(TransformerEncoder(bert(), "cls"), [0])) == [True]
