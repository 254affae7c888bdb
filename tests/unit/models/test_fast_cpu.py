"""The fast path computes plain BERT's function and gradients."""

import pytest
import torch
from helpers import some_examples
from torch import nn
from transformers import BertConfig, BertModel

from mtkd import tasks
from mtkd.models.fast_cpu import (
    NAME,
    ClsLayer,
    Dropout,
    SoftmaxDropout,
    drop_mask,
    every_position,
    kept_scale,
    use_fast_cpu,
)
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


@pytest.fixture
def batch():
    batch = some_examples(tasks.get("rte"), 6).batch([0, 1, 2, 3, 4, 5])
    assert (batch.attention_mask == 0).any()
    return batch


def hidden(model: BertModel, batch) -> torch.Tensor:
    inputs = {"attention_mask": batch.attention_mask, "token_type_ids": batch.token_type_ids}
    return model(batch.input_ids, **inputs).last_hidden_state


def assert_equal_gradients(one: nn.Module, other: nn.Module):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        grad = torch.zeros_like(b) if b.grad is None else b.grad
        assert torch.allclose(a.grad, grad, atol=1e-4)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.05])
def test_a_mask_drops_its_fraction_independently_and_keeps_the_mean(p):
    torch.manual_seed(0)
    mask = drop_mask(torch.empty(400_003), p).float()
    dropped = mask.mean().item()
    assert abs(dropped - p) < 4 * (p / 400_003) ** 0.5
    assert kept_scale(p) == pytest.approx(1 / (1 - p), rel=1e-4)
    assert torch.corrcoef(torch.stack([mask[:-1], mask[1:]]))[0, 1].abs() < 0.01


def test_a_mask_follows_torchs_seed():
    torch.manual_seed(3)
    first, second = drop_mask(torch.empty(7, 5), 0.5), drop_mask(torch.empty(7, 5), 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, drop_mask(torch.empty(7, 5), 0.5))
    assert not torch.equal(first, second)


def test_dropout_scales_in_training_and_does_nothing_in_evaluation():
    torch.manual_seed(0)
    layer, values = Dropout(0.25), torch.randn(64, 64, requires_grad=True)
    out = layer(values)
    out.sum().backward()
    assert torch.equal(out, values * values.grad)
    assert values.grad.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(layer.eval()(values), values)


def test_attention_has_plain_berts_values_and_gradients(batch):
    plain, fast = bert(), bert()
    use_fast_cpu(fast)
    outputs = [hidden(model, batch)[batch.attention_mask.bool()] for model in (plain, fast)]
    for output in outputs:
        output.pow(2).sum().backward()
    assert torch.allclose(*outputs, atol=1e-5)
    assert_equal_gradients(plain, fast)


def test_softmax_with_dropout_has_the_gradient_of_its_parts():
    scores = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(2, 1, 5, 5, dtype=torch.bool)
    mask[0, ..., 3:] = True
    torch.manual_seed(0)
    weights = SoftmaxDropout.apply(scores.clone(), mask, 0.3)
    torch.manual_seed(0)
    dropped = drop_mask(scores, 0.3)
    expected = scores.masked_fill(mask, -torch.inf).softmax(-1).masked_fill(dropped, 0)
    assert dropped.any() and torch.allclose(weights, expected)
    weight = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    gradients = [torch.autograd.grad((w * weight).sum(), scores)[0] for w in (weights, expected)]
    assert torch.allclose(*gradients)


@pytest.mark.parametrize("attention", [NAME, "eager"])
@pytest.mark.parametrize("grad", [True, False])
def test_the_last_layer_at_cls_alone_has_plain_berts_values_and_gradients(batch, grad, attention):
    plain, fast = bert(), TransformerEncoder(bert(), "cls")
    fast.model.set_attn_implementation(attention)
    with torch.set_grad_enabled(grad):
        outputs = hidden(plain, batch)[:, 0], fast(batch)
    assert torch.allclose(*outputs, atol=1e-5)
    if grad:
        for output in outputs:
            output.pow(2).sum().backward()
        assert_equal_gradients(plain, fast)


def test_the_switch_turns_everything_off(monkeypatch):
    names = list(bert(0.1).state_dict())
    count = sum(type(module) is nn.Dropout for module in bert(0.1).modules())
    for value, implementation, dropouts, last in (
        ("1", NAME, count, "ClsLayer"),
        ("0", "sdpa", 0, "BertLayer"),
    ):
        monkeypatch.setenv("MTKD_FAST_CPU", value)
        model = TransformerEncoder(bert(0.1)).model
        assert list(model.state_dict()) == names
        assert model.config._attn_implementation == implementation
        assert sum(isinstance(module, Dropout) for module in model.modules()) == dropouts
        assert type(model.encoder.layer[-1]).__name__ == last


def test_only_the_last_kept_layer_is_computed_at_cls_alone():
    def at_cls(encoder):
        return [type(layer) is ClsLayer for layer in encoder.model.encoder.layer]

    assert at_cls(TransformerEncoder(bert(), "cls")) == [False, True]
    assert at_cls(TransformerEncoder(bert(), "mean")) == [False, False]
    assert at_cls(keep_layers(TransformerEncoder(bert(), "cls"), [1, 0])) == [False, True]
    assert at_cls(keep_layers(TransformerEncoder(bert(), "cls"), [0])) == [True]


def test_every_position_is_computed_in_the_block_alone_also_after_an_error(batch):
    fast, kept = TransformerEncoder(bert(), "cls").model, TransformerEncoder(bert(), "mean").model
    with every_position(fast), every_position(kept):
        assert torch.equal(hidden(fast, batch), hidden(kept, batch))
    with pytest.raises(KeyError), every_position(fast):
        raise KeyError
    assert hidden(fast, batch).shape[1] == 1 < hidden(kept, batch).shape[1]
