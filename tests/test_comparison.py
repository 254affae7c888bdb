"""The layer that compares two texts, against the same worked out an example and a word piece at a time."""

import pytest
import torch

from mtkd.models.comparison import Comparison

WIDTH = 8


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Comparison(WIDTH)


def by_hand(layer: Comparison, first: torch.Tensor, second: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
    """Texts (n, d) and (m, d), and all word pieces, to the vector (2d,)."""
    pooled = []
    for own, other in ((first, second), (second, first)):
        rows = []
        for x in own:
            weights = torch.softmax(torch.stack([x @ y / WIDTH**0.5 for y in other]), 0)
            c = sum(weight * y for weight, y in zip(weights, other, strict=True))
            rows.append(torch.relu(layer.compare(torch.cat([x, x - c, x * c]))))
        pooled += [torch.stack(rows).amax(0), torch.stack(rows).mean(0)]
    return torch.cat([every.mean(0), torch.relu(layer.merge(torch.cat(pooled)))])


@torch.no_grad()
def test_pairs_and_single_texts_of_any_length_are_as_worked_out_by_hand(layer):
    hidden = torch.randn(3, 9, WIDTH)
    first, second = (4, 2, 5), (3, 7, 0)  # the last has no second text
    mask, segments = torch.zeros(3, 9, dtype=torch.long), torch.zeros(3, 9, dtype=torch.long)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        mask[row, : a + b], segments[row, a : a + b] = 1, 1
    found = layer(hidden, mask, segments)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        one, other = hidden[row, :a], hidden[row, a : a + b] if b else hidden[row, :a]
        assert torch.allclose(found[row], by_hand(layer, one, other, hidden[row, : a + b]), atol=1e-5), row


@torch.no_grad()
def test_which_text_comes_first_matters_and_what_lies_behind_does_not(layer):
    hidden, mask = torch.randn(1, 6, WIDTH), torch.tensor([[1, 1, 1, 1, 0, 0]])
    one, turned = (layer(hidden, mask, torch.tensor([segments])) for segments in ([0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]))
    assert torch.allclose(one[:, :WIDTH], turned[:, :WIDTH]), "the mean is that of both texts"
    assert not torch.allclose(one[:, WIDTH:], turned[:, WIDTH:], atol=1e-3)
    hidden[:, 4:] = 1e4
    assert torch.equal(one, layer(hidden, mask, torch.tensor([[0, 0, 1, 1, 1, 1]])))


def test_gradients_reach_both_texts_in_bf16_too(layer):
    hidden = torch.randn(2, 6, WIDTH, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        vector = layer(hidden, torch.ones(2, 6), torch.tensor([[0, 0, 0, 1, 1, 1]] * 2))
    vector[:, WIDTH:].float().sum().backward()
    assert (hidden.grad.abs().sum(2) > 0).all() and hidden.grad.isfinite().all()
