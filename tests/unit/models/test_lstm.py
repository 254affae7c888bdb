import numpy as np
import pytest
import torch

from mtkd import tasks
from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.models.lstm import (
    BiAttentiveEncoder,
    BiLstm,
    bi_attention,
    projected_table,
)
from mtkd.models.sentences import sentence_masks, split_sentences

PAD, CLS, SEP = 0, 1, 2


def batch_of(texts: list[tuple[list[int], ...]], task="rte", extra=0, pad=PAD) -> Batch:
    """Return a batch of one or two sentences each, padded to the longest and `extra` more."""
    rows = [
        [CLS, *parts[0], SEP, *(p for part in parts[1:] for p in (*part, SEP))] for parts in texts
    ]
    shape = len(rows), max(map(len, rows)) + extra
    ids, mask, kinds = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    ids += pad
    for i, (row, parts) in enumerate(zip(rows, texts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        kinds[i, len(parts[0]) + 2 : len(row)] = 1
    return Batch(task, ids, mask, kinds, torch.zeros(len(rows), dtype=torch.int64))


def student(names=("rte", "sst2", "stsb"), seed: int = 0, layers: int = 1) -> MultiTaskModel:
    torch.manual_seed(seed)
    encoder = BiAttentiveEncoder(torch.randn(30, 6), hidden=5, layers=layers, output=7, dropout=0.3)
    model = MultiTaskModel(encoder, list(map(tasks.get, names)), dict.fromkeys(names, 0.1))
    for head in model.heads.values():
        torch.nn.init.normal_(head.weight)  # logits of order one
    return model


def random_texts(count: int, pair: bool) -> list:
    draw = np.random.default_rng(0)
    return [
        tuple(draw.integers(3, 29, draw.integers(1, 9)).tolist() for _ in range(1 + pair))
        for _ in range(count)
    ]


def test_bi_attention_equals_a_loop():
    torch.manual_seed(0)
    x, y = torch.randn(3, 4, 6), torch.randn(3, 5, 6)
    mask_x, mask_y = torch.zeros(3, 4, dtype=torch.bool), torch.zeros(3, 5, dtype=torch.bool)
    lengths = [(4, 5), (2, 1), (3, 4)]
    for row, (n, m) in enumerate(lengths):
        mask_x[row, :n], mask_y[row, :m] = True, True
    contexts = bi_attention(x, y, mask_x, mask_y)
    for row, (n, m) in enumerate(lengths):
        sides = (x[row, :n].numpy(), y[row, :m].numpy()), (y[row, :m].numpy(), x[row, :n].numpy())
        for context, (queries, keys) in zip(contexts, sides, strict=True):
            for i, query in enumerate(queries):
                weights = np.exp([float(query @ key) for key in keys])
                expected = sum(
                    w / weights.sum() * key for w, key in zip(weights, keys, strict=True)
                )
                np.testing.assert_allclose(context[row, i], expected, rtol=1e-4, atol=1e-5)


def test_sentences_are_cut_from_the_segments():
    batch = batch_of([([5, 6, 7], [8, 9]), ([4], [3, 3, 3, 3])], extra=2)
    (first, lengths), (second, others) = split_sentences(batch)
    assert lengths.tolist() == [3, 1] and others.tolist() == [2, 4]
    assert first[0].tolist() == [5, 6, 7] and first[1, 0] == 4
    assert second[0, :2].tolist() == [8, 9] and second[1].tolist() == [3] * 4
    assert len(split_sentences(batch_of([([5, 6],), ([7],)]))) == 1
    # An empty sentence is its [SEP].
    (first, lengths), (second, others) = split_sentences(batch_of([([], []), ([5], [6])]))
    assert lengths.tolist() == others.tolist() == [1, 1]
    assert first[0, 0] == SEP and second[0, 0] == SEP


def test_masks_are_true_on_the_sentences_alone():
    texts = [([5, 6, 7], [8, 9]), ([], [4]), ([5, 6], [])]
    first, second = sentence_masks(batch_of(texts, extra=1))
    position = [[i for i, inside in enumerate(row) if inside] for row in torch.cat([first, second])]
    assert position == [[1, 2, 3], [1], [1, 2], [5, 6], [2], [4]]  # 1 and 4: an empty one's [SEP]
    assert len(sentence_masks(batch_of([([5, 6],)]))) == 1
    # RoBERTa: two separators between the two, and no segments of its own.
    batch = batch_of([([5, 6, SEP], [8]), ([SEP], [9, 9])])
    first, second = (mask.int().tolist() for mask in sentence_masks(batch))
    assert first == [[0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]]
    assert second == [[0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize("pair", [True, False])
@torch.no_grad()
def test_states_are_the_integrators_outputs_at_the_word_pieces(pair):
    encoder, texts = student().eval().encoder, random_texts(6, pair)
    states = encoder.states(batch_of(texts, extra=2))
    for row, parts in enumerate(texts):
        alone = [(torch.tensor([part]), torch.tensor([len(part)])) for part in parts]
        values, _ = encoder.integrate(alone)
        expected = torch.zeros_like(states[row])
        start = 1
        for value, part in zip(values, parts, strict=True):
            expected[start : start + len(part)] = value[: len(part)]
            start += len(part) + 1
        torch.testing.assert_close(states[row], expected, atol=1e-5, rtol=0)
    assert states.shape[2] == encoder.states_width and states.abs().max() > 0.01


@torch.no_grad()
def test_an_empty_sentence_has_the_state_of_its_separator():
    encoder = student().eval().encoder
    states = encoder.states(batch_of([([], [8, 9]), ([5, 6], [])]))
    assert states.any(-1).tolist() == [[False, True, True, True, False], [False, 1, 1, False, 1]]
    shapes = encoder.states(batch_of([([5],), ([6, 7],)]), pair=True)  # as an export asks
    assert shapes.shape == (2, 4, encoder.states_width)


@pytest.mark.parametrize(("task", "pair"), [("rte", True), ("stsb", True), ("sst2", False)])
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_padding_changes_nothing(task, pair, layers):
    model, texts = student(layers=layers).eval(), random_texts(12, pair)
    together = model(batch_of(texts, task, extra=3))
    other_pad = model(batch_of(texts, task, extra=1, pad=29))
    alone = torch.cat([model(batch_of([text], task)) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, other_pad, atol=1e-6, rtol=0)
    assert together.std(0).max() > 1e-3  # a hundred times the tolerance


def test_padding_has_no_gradient():
    model, texts = student(), random_texts(6, pair=True)
    model(batch_of(texts, extra=4, pad=29)).sum().backward()
    gradient = model.encoder.embeddings.weight.grad.abs().sum(1)
    used = {piece for text in texts for part in text for piece in part}
    assert all(gradient[piece] > 0 for piece in used)
    assert gradient[[piece for piece in range(30) if piece not in used]].sum() == 0


@torch.no_grad()
def test_a_single_sentence_is_also_its_second():
    model, texts = student().eval(), random_texts(5, pair=False)
    once = model.encoder(batch_of(texts))
    twice = model.encoder(batch_of([(text, text) for (text,) in texts]))
    torch.testing.assert_close(once, twice, atol=1e-5, rtol=0)


def test_pooling_by_hand():
    model = student().encoder
    torch.nn.init.zeros_(model.attend.weight)  # equal weights: attentive pooling is the mean
    values = torch.tensor([[[1.0] * 10, [3.0] * 10, [100.0] * 10]])
    pooled = model.pool(values, torch.tensor([[True, True, False]])).view(4, 10)
    assert pooled[:, 0].tolist() == pytest.approx([3, 1, 2, 2])


@torch.no_grad()
def test_autocast_does_not_reach_the_recurrence():
    encoder, batch = student().eval().encoder, batch_of(random_texts(4, pair=True))
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder(batch)
    assert torch.equal(inside, encoder(batch)) and inside.dtype == torch.float32


def test_flops_by_formula():
    # positions x directions x 2 per multiply-add x gates x (input + hidden)
    assert BiLstm(3, 2).flops(10) == 10 * 2 * 2 * (4 * 2) * (3 + 2)
    assert BiLstm(3, 2, layers=2).flops(1) == 2 * 2 * 8 * ((3 + 2) + (4 + 2))


def test_the_projected_table_keeps_its_geometry():
    torch.manual_seed(0)
    low = torch.randn(40, 3) @ torch.randn(3, 8)  # of rank 3: three directions lose nothing
    table = projected_table(low, 3)
    assert table.shape == (40, 3) and float(table.std()) == pytest.approx(1, abs=1e-5)
    before, after = (torch.pdist(t - t.mean(0)) for t in (low, table))
    torch.testing.assert_close(before / before.mean(), after / after.mean(), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="9 is above the width of the teacher's embeddings, 8"):
        projected_table(low, 9)
